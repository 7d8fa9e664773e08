# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, freethreading_compatible=True
"""The compiled engine, for one instruction set and one dtype.

Kernels run without the GIL over buffers that Python owns; they allocate nothing and validate
nothing. What they see of a layer is a `Task`: one direction of one layer over one batch.
"""

cimport numpy as cnp
from libc.math cimport INFINITY, NAN, exp, isfinite, log
from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy, memset, strlen

cnp.import_array()

cdef extern from "simd.h" nogil:
    ctypedef float real          # float or double: the build decides
    ctypedef float vec           # LANES reals
    const ptrdiff_t LANES
    enum: MOST_LANES
    vec load(const real* p)
    void store(real* p, vec v)
    void store_nontemporal(real* p, vec v)
    vec splat(real s)
    vec maximum(vec a, vec b)
    void prefetch_write(const real* p)
    void prefetch(const real* p)
    void transpose(real* out, ptrdiff_t out_stride, const real* source, ptrdiff_t in_stride)
    vec exponential(vec x)
    vec sigmoid(vec x)
    vec hyperbolic_tangent(vec x)
    real square_root(real x)
    const real EXP_TERMS[]
    const real EXPM1_TERMS[]
    int EXP_COUNT "COUNT(EXP_TERMS)"
    int EXPM1_COUNT "COUNT(EXPM1_TERMS)"
    real ROUNDER, LOG2_E, LN2_HIGH, LN2_LOW, HALF_LN2, EXP_HIGHEST, EXP_LOWEST, TANH_ONE

cdef extern from "mode.h" nogil:
    ctypedef unsigned float_mode
    float_mode enter_kernels()
    void leave_kernels(float_mode mode)

cdef extern from "log_space.h" nogil:
    enum: MOST_WIDE_LANES
    void log_add(double* out, const double* a, const double* b, const double* c,
                 const double* gate, ptrdiff_t n)
    void exponential_of(double* out, const double* a, const double* b, double less, ptrdiff_t n)

cdef extern from "drawing.h" nogil:
    ctypedef struct Drawing:
        double temperature
        ptrdiff_t top_k
        double top_p
        double penalty
    ptrdiff_t draw(const Drawing* how, double* x, double* spare, ptrdiff_t n, double u,
                   const ptrdiff_t* recent, ptrdiff_t count)

cdef extern from "panels.h" nogil:
    enum: TILE_ROWS
    enum: MOST_TILE_ROWS
    enum: MOST_TILE_SUMS
    const int PANEL_VECTORS
    const ptrdiff_t PANEL
    const ptrdiff_t CACHE_LINE
    ctypedef float weight
    ctypedef void (*tile_kernel)(
        real* out, ptrdiff_t out_stride, const real* init, ptrdiff_t init_stride,
        const real* a, ptrdiff_t a_stride, ptrdiff_t parts, ptrdiff_t depth,
        ptrdiff_t part_stride, const weight* panel, ptrdiff_t columns,
        const weight* next) noexcept nogil
    ctypedef struct Storage:
        const char* name
        int together
        int words
        int further
        const char* product
        ptrdiff_t rows
        ptrdiff_t at_once
        ptrdiff_t least
        const void* tiles
    const Storage storages[]
    int STORAGES
    const tile_kernel* tiles_for(const Storage* storage, ptrdiff_t vectors)
    int choose_products(const char* form)
    void settle_bfloat16()
    ctypedef struct Panels:
        weight* data
        ptrdiff_t depth
        ptrdiff_t columns
        ptrdiff_t width
        ptrdiff_t steps
        const Storage* storage
    ptrdiff_t steps_of(ptrdiff_t depth, const Storage* storage)
    size_t panels_bytes(ptrdiff_t depth, ptrdiff_t columns, const Storage* storage)
    weight* panel_at(const Panels* panels, ptrdiff_t column)
    ptrdiff_t panel_width(const Panels* panels, ptrdiff_t column)
    weight* weight_at(const Panels* panels, ptrdiff_t k, ptrdiff_t column)
    void put_int8_column(real* words_at, ptrdiff_t width, const real* column, ptrdiff_t depth)
    const int MOST_INT8
    ptrdiff_t word_of(ptrdiff_t k, const Storage* storage)
    void clear_words(const Panels* panels, ptrdiff_t k, ptrdiff_t column, ptrdiff_t left)
    void put_numbers(const Storage* storage, weight* words, ptrdiff_t width, ptrdiff_t k,
                     const real* numbers, ptrdiff_t count)
    void put_pairs(const Storage* storage, weight* words, ptrdiff_t width, ptrdiff_t k, const real* even,
                   const real* odd, ptrdiff_t count)
    void pack_rows(const Panels* panels, ptrdiff_t k, ptrdiff_t column, const real* numbers, ptrdiff_t apart,
                 ptrdiff_t count)

cdef extern from "caches.h" nogil:
    ptrdiff_t cache_bytes(int level)

cdef extern from "threads.h" nogil:
    const int MOST_THREADS
    ctypedef struct Barrier:
        pass
    ctypedef struct atomic_int:
        pass
    void barrier_wait(Barrier* barrier, int thread, int threads)
    void raise_to(atomic_int* counter, int value)
    void wait_until_above(atomic_int* counter, int value)
    ctypedef void (*region)(void* argument, int thread, int threads) noexcept nogil
    void run_region(region work, void* argument, int threads)
    ctypedef struct Team:
        int steadfast
        long stalls
        long spared
        int limit
        int forked
    Team team
    ctypedef struct Lent:
        void* parallel
        void* place
        void* count
        void* most
    Lent lent                   # of each thread of Python

cdef extern from "noise.h" nogil:
    ctypedef unsigned long long uint64_t
    ctypedef struct Noise:
        uint64_t key
        uint64_t below
    ctypedef struct Piece:
        ptrdiff_t rows, units, stride
        ptrdiff_t place, places
    void drop_numbers(real* out, const real* x, ptrdiff_t n, Noise noise, ptrdiff_t place, real scale)
    void keep_some(Piece p, real* out, const real* now, const real* before, Noise noise)
    void keep_share(Piece p, real* out, const real* now, const real* before, real rate)
    void part_some(Piece p, real* d, real* aside, const real* dy, ptrdiff_t dy_stride, Noise noise)
    void add_numbers(Piece p, real* out, const real* a)
    void multiply(Piece p, real* out, const real* a, const real* b)
    void add_product(Piece p, real* out, const real* a, const real* b)

cdef extern from "pcg64.h" nogil:
    ctypedef unsigned int uint32_t
    const int HAS_PCG64
    ctypedef unsigned long long uint128        # 128 bits, where there are such numbers
    ctypedef struct Jump:
        pass
    uint128 join_halves(uint64_t high, uint64_t low)
    uint64_t high_half(uint128 s)
    Jump jump_over(uint64_t steps, uint128 increment)
    uint128 jump(uint128 s, Jump by)
    uint64_t output_of(uint128 s)
    void draw_mask(real* out, ptrdiff_t n, uint128 s, uint128 increment, uint32_t highest, real scale)

cdef extern from "cells/cells.h" nogil:
    enum: MOST_GATES
    enum: MOST_PLACES
    enum: MOST_OWN
    enum: MOST_STATES
    ctypedef struct Block:
        ptrdiff_t rows, units
        ptrdiff_t saved_stride, recurrent_stride, state_stride, own_stride, dy_stride
        ptrdiff_t c_apart, c_prev_apart, dc_apart
        real* saved
        const real* recurrent
        const real* own
        real* h
        real* c
        const real* h_prev
        const real* c_prev
        real* dh
        real* dc
        const real* dy
    ctypedef void (*cell_function)(const Block* block) noexcept nogil
    ctypedef struct Own:
        const char* name
        int starts
        int gradient
    ctypedef struct CellDescription "Cell":
        const char* name
        const char* gates
        const char* places
        const char* states
        int further
        int elementwise
        int x_gates[]
        int h_gates[]
        int second
        Own own[]
        cell_function forward
        cell_function backward
        cell_function first_forward
        cell_function first_backward
    const CellDescription* built_in "cells"[]
    int cell_count

cdef enum:
    ALIGNMENT = 64              # bytes: a cache line, and the widest vector

cdef int REAL_TYPE = cnp.NPY_FLOAT32 if sizeof(real) == 4 else cnp.NPY_FLOAT64

include "layout.pxi"
include "work.pxi"
include "split.pxi"
include "pack.pxi"
include "gemm.pxi"
include "linear.pxi"
include "rows.pxi"
include "noise.pxi"
include "masks.pxi"
include "forward.pxi"
include "backward.pxi"
include "cell.pxi"
include "task.pxi"
include "tokens.pxi"
include "regions.pxi"
include "stream.pxi"
include "streams.pxi"
include "drawing.pxi"
include "largest.pxi"
include "losses.pxi"
include "ctc.pxi"
include "functions.pxi"
include "optim.pxi"

lanes = LANES
panel = PANEL
chunk_rows = CHUNK_ROWS
vector_bytes = LANES * sizeof(real)
most_layers = MOST_LAYERS
most_heads = MOST_HEADS
most_gates = MOST_GATES
most_own_vectors = MOST_OWN
most_states = MOST_STATES
most_places = MOST_PLACES
most_threads = MOST_THREADS
has_pcg64 = bool(HAS_PCG64)

# What exp and tanh are made of, for those who compile cells of their own.
exp_terms = tuple([EXP_TERMS[k] for k in range(EXP_COUNT)])
expm1_terms = tuple([EXPM1_TERMS[k] for k in range(EXPM1_COUNT)])
elementary = {"rounder": ROUNDER, "log2_e": LOG2_E, "ln2_high": LN2_HIGH, "ln2_low": LN2_LOW,
              "half_ln2": HALF_LN2, "exp_highest": EXP_HIGHEST, "exp_lowest": EXP_LOWEST,
              "tanh_one": TANH_ONE}
