# The elementary functions by themselves, for the tests of their accuracy.

cdef enum Function:
    EXPONENTIAL
    SIGMOID
    HYPERBOLIC_TANGENT

cdef struct Map:
    real* out
    const real* x
    ptrdiff_t count
    Function function


cdef void map_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Map* task = <Map*>argument
    cdef ptrdiff_t vector, k
    cdef vec x
    for vector in range(task.count // LANES):
        k = vector * LANES
        x = load(task.x + k)
        if task.function == EXPONENTIAL:
            store(task.out + k, exponential(x))
        elif task.function == SIGMOID:
            store(task.out + k, sigmoid(x))
        else:
            store(task.out + k, hyperbolic_tangent(x))


def map_function(str name, out, x):
    """out = name(x) for "exp", "sigmoid" or "tanh"; the size is a multiple of `lanes`."""
    cdef Map task
    task.out = numbers(out, x.size)
    task.x = reals(x)
    task.count = x.size
    task.function = {"exp": EXPONENTIAL, "sigmoid": SIGMOID, "tanh": HYPERBOLIC_TANGENT}[name]
    with nogil:
        run_region(map_region, &task, 1)
