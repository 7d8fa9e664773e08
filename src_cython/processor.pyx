# cython: language_level=3, freethreading_compatible=True
"""Which builds of the engine this processor can run, and where arrays are in its memory."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

cdef extern from *:
    """
    #if defined(__x86_64__)
    static int runs_v3(void)
    {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
            && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    }
    static int runs_v4(void)
    {
        return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int runs_v3(void) { return 0; }
    static int runs_v4(void) { return 0; }
    #endif
    """
    int runs_v3()
    int runs_v4()


def builds():
    """Names of the builds, the fastest first."""
    return ["v4"] * runs_v4() + ["v3"] * runs_v3() + ["baseline"]


def address(array):
    """Where a contiguous array begins; NumPy's own ways to tell take ten times as long."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    cdef size_t begin = <size_t>view.buf
    PyBuffer_Release(&view)
    return begin
