# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, freethreading_compatible=True
"""The compiled engine, for one instruction set and one dtype.

Kernels run without the GIL over buffers that Python owns; they allocate nothing and validate
nothing. What they see of a layer is a `Task`: one direction of one layer over one batch.
"""

cimport numpy as cnp
from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy, memset
from libc.math cimport INFINITY, log

cnp.import_array()

cdef extern from "simd.h" nogil:
    ctypedef float real          # float or double: the build decides
    ctypedef float vec           # LANES reals
    const ptrdiff_t LANES
    vec load(const real* p)
    void store(real* p, vec v)
    void store_past(real* p, vec v)
    vec splat(real s)
    vec larger(vec a, vec b)
    void expect(const real* p)
    void fetch(const real* p)
    void transpose(real* out, ptrdiff_t out_stride, const real* source, ptrdiff_t in_stride)
    vec exponential(vec x)
    vec sigmoid(vec x)
    vec hyperbolic_tangent(vec x)
    real square_root(real x)
    unsigned flush_denormals()
    void restore_denormals(unsigned mode)

cdef extern from "panels.h" nogil:
    const int TILE_ROWS
    const int PANEL_VECTORS
    const ptrdiff_t PANEL
    const ptrdiff_t CACHE_LINE
    ctypedef void (*tile_kernel)(
        real* out, ptrdiff_t out_stride, const real* init, ptrdiff_t init_stride,
        const real* a, ptrdiff_t a_stride, ptrdiff_t parts, ptrdiff_t depth,
        ptrdiff_t part_stride, const real* panel, ptrdiff_t columns,
        const real* next) noexcept nogil
    const tile_kernel tile[7]
    const tile_kernel tiles[5][7]

cdef extern from "caches.h" nogil:
    ptrdiff_t cache_bytes(int level)

cdef extern from "threads.h" nogil:
    ctypedef struct Barrier:
        pass
    ctypedef struct atomic_int:
        pass
    void barrier_wait(Barrier* barrier, int thread, int threads)
    void raise_to(atomic_int* counter, int value)
    void wait_until_above(atomic_int* counter, int value)
    ctypedef void (*region)(void* argument, int thread, int threads) noexcept nogil
    void run_region(region work, void* argument, int threads)

cdef extern from "cells/cell.h" nogil:
    const int MOST_GATES
    ctypedef void (*cell_forward)(
        real* h, real* c, real* saved, const real* recurrent, const real* h_prev,
        const real* c_prev, ptrdiff_t rows, ptrdiff_t units, ptrdiff_t saved_stride,
        ptrdiff_t recurrent_stride, ptrdiff_t state_stride) noexcept nogil
    ctypedef void (*cell_backward)(
        real* saved, real* dh, real* dc, const real* dy, const real* h, const real* c,
        const real* h_prev, const real* c_prev, ptrdiff_t rows, ptrdiff_t units,
        ptrdiff_t saved_stride, ptrdiff_t state_stride, ptrdiff_t dy_stride) noexcept nogil
    ctypedef struct Cell:
        const char* name
        int gates
        int saved
        int has_c
        int x_gates[8]
        int h_gates[8]
        cell_forward forward
        cell_backward backward

cdef extern from "cells/rnn.h" nogil:
    const Cell rnn_tanh
    const Cell rnn_relu
    const Cell rnn_sigmoid
    const Cell rnn_identity

cdef extern from "cells/lstm.h" nogil:
    const Cell lstm

cdef extern from "cells/gru.h" nogil:
    const Cell gru

cdef const Cell* CELLS[6]
CELLS[:] = [&rnn_tanh, &rnn_relu, &rnn_sigmoid, &rnn_identity, &lstm, &gru]

include "task.pxi"
include "pack.pxi"
include "gemm.pxi"
include "rows.pxi"
include "forward.pxi"
include "backward.pxi"
include "stream.pxi"
include "heads.pxi"
include "optim.pxi"

lanes = LANES
panel = PANEL
tile_rows = TILE_ROWS
chunk_rows = CHUNK_ROWS
