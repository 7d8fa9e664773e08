# Optimizers on the flat parameter buffer. Every number is updated by itself, so any split of the
# buffer among threads gives the same bits. The formulas are PyTorch's.

cdef struct Update:
    real* p                     # INOUT parameters
    const real* g               # IN    gradients
    real* m                     # INOUT momentum or first moment
    real* v                     # INOUT second moment
    ptrdiff_t count
    real lr
    real decay                  # weight decay, added to the gradient as decay * p
    real decoupled              # weight decay beside the gradient: p loses decoupled * p
    real momentum               # of m
    real smoothing              # of v
    real eps
    real correction             # of the square root of v, against its start at zero


cdef void sgd_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Update u = (<Update*>argument)[0]
    cdef ptrdiff_t k
    cdef real g
    for k in range(share(u.count, thread, threads), share(u.count, thread + 1, threads)):
        g = u.g[k] + u.decay * u.p[k]
        u.m[k] = u.momentum * u.m[k] + g
        u.p[k] = u.p[k] - u.lr * u.m[k]


cdef void rmsprop_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Update u = (<Update*>argument)[0]
    cdef ptrdiff_t k
    cdef real g
    for k in range(share(u.count, thread, threads), share(u.count, thread + 1, threads)):
        g = u.g[k] + u.decay * u.p[k]
        u.v[k] = u.smoothing * u.v[k] + (1 - u.smoothing) * g * g
        u.m[k] = u.momentum * u.m[k] + g / (square_root(u.v[k]) + u.eps)
        u.p[k] = u.p[k] - u.lr * u.m[k]


cdef void adam_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Update u = (<Update*>argument)[0]
    cdef ptrdiff_t k
    cdef real g
    for k in range(share(u.count, thread, threads), share(u.count, thread + 1, threads)):
        g = u.g[k] + u.decay * u.p[k]
        u.m[k] = u.momentum * u.m[k] + (1 - u.momentum) * g
        u.v[k] = u.smoothing * u.v[k] + (1 - u.smoothing) * g * g
        u.p[k] = u.p[k] - (u.lr * u.m[k] / (square_root(u.v[k]) * u.correction + u.eps)
                           + u.decoupled * u.p[k])


cdef real* same(object array, ptrdiff_t size) except? NULL:
    # An array that has as many numbers as the parameters.
    if cnp.PyArray_SIZE(array) != size:
        raise ValueError(f"expected gradients and moments of {size} numbers, as many as parameters, "
                         f"got {array.size}")
    return reals(array)


cdef void run_update(region kernel, Update* u, int threads):
    with nogil:
        run_region(kernel, u, worthwhile(threads, u.count * COST_OF_A_MOVE))


def sgd(params, grads, velocity, double lr, double momentum, double weight_decay, int threads):
    """velocity = momentum velocity + g;  params -= lr velocity."""
    cdef ptrdiff_t size = params.size
    cdef Update u = Update(reals(params), same(grads, size), same(velocity, size), NULL, size, lr,
                           weight_decay, 0, momentum, 0, 0, 0)
    run_update(sgd_region, &u, threads)


def rmsprop(params, grads, square, velocity, double lr, double alpha, double eps, double momentum,
            double weight_decay, int threads):
    """square = alpha square + (1 - alpha) g^2;  params -= lr g / (sqrt(square) + eps)."""
    cdef ptrdiff_t size = params.size
    cdef Update u = Update(reals(params), same(grads, size), same(velocity, size),
                           same(square, size), size, lr, weight_decay, 0, momentum, alpha, eps,
                           0)
    run_update(rmsprop_region, &u, threads)


def adam(params, grads, m, v, double lr, double beta1, double beta2, double eps,
         double weight_decay, double decoupled, Py_ssize_t step, int threads):
    """m, v: moving means of g and g^2;  params -= lr m' / (sqrt(v') + eps) + decoupled params.

    m' and v' are m and v without their bias.
    """
    cdef ptrdiff_t size = params.size
    cdef Update u = Update(reals(params), same(grads, size), same(m, size), same(v, size), size,
                           lr / (1 - beta1 ** step), weight_decay, decoupled, beta1, beta2, eps,
                           (1 - beta2 ** step) ** -0.5)
    run_update(adam_region, &u, threads)


# Sums over the buffer are taken in a fixed number of parts, so threads do not change them.

cdef enum:
    PARTS = 256

cdef struct Squares:
    const real* x
    ptrdiff_t count
    double parts[PARTS]


cdef void squares_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Squares* task = <Squares*>argument
    cdef ptrdiff_t k
    cdef int part, lane
    cdef double sums[8]
    cdef double total
    for part in range(share(PARTS, thread, threads), share(PARTS, thread + 1, threads)):
        memset(sums, 0, sizeof(sums))
        k = share(task.count, part, PARTS)
        while k + 8 <= share(task.count, part + 1, PARTS):
            for lane in range(8):
                sums[lane] += <double>task.x[k + lane] * <double>task.x[k + lane]
            k += 8
        total = 0
        while k < share(task.count, part + 1, PARTS):
            total += <double>task.x[k] * <double>task.x[k]
            k += 1
        for lane in range(8):
            total += sums[lane]
        task.parts[part] = total


def sum_of_squares(x, int threads):
    """The sum of x^2 in float64; NaN or infinity if any number is."""
    cdef Squares task
    cdef double total = 0
    task.x = reals(x)
    task.count = x.size
    with nogil:
        run_region(squares_region, &task, worthwhile(threads, task.count * COST_OF_A_SQUARE))
    for part in range(PARTS):
        total += task.parts[part]
    return total


cdef void scale_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Update u = (<Update*>argument)[0]
    cdef ptrdiff_t k
    for k in range(share(u.count, thread, threads), share(u.count, thread + 1, threads)):
        u.p[k] *= u.lr


def scale(x, double factor, int threads):
    """x *= factor."""
    cdef Update u = Update(reals(x), NULL, NULL, NULL, x.size, factor, 0, 0, 0, 0, 0, 0)
    run_update(scale_region, &u, threads)


cdef void average_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Update u = (<Update*>argument)[0]
    cdef ptrdiff_t k
    for k in range(share(u.count, thread, threads), share(u.count, thread + 1, threads)):
        u.p[k] += u.lr * (u.g[k] - u.p[k])


def average(mean, x, double rate, int threads):
    """mean += rate (x - mean)."""
    cdef ptrdiff_t size = mean.size
    cdef Update u = Update(reals(mean), same(x, size), NULL, NULL, size, rate, 0, 0, 0, 0, 0, 0)
    run_update(average_region, &u, threads)
