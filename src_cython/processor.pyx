# cython: language_level=3, freethreading_compatible=True
"""Which builds of the engine this processor can run, and where arrays are in its memory."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

cdef extern from "builds.h":        # made by setup.py from the table of builds
    const int BUILD_COUNT
    const char* const build_names[]
    int build_runs(int build)


def builds():
    """Names of the builds, the fastest first."""
    return [build_names[k].decode() for k in range(BUILD_COUNT) if build_runs(k)]


def address(array):
    """Where a contiguous array begins; NumPy's own ways to tell take ten times as long."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    cdef size_t begin = <size_t>view.buf
    PyBuffer_Release(&view)
    return begin
