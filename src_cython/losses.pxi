# Losses: softmax cross-entropy, with its gradient in one pass over the logits.

cdef struct CrossEntropy:
    real* dlogits               # OUT (rows, dlogits_stride)
    double* losses              # OUT (rows); zero where the target is negative
    const real* logits          # IN (rows, logits_stride)
    const ptrdiff_t* targets    # IN (rows); negative: the row does not count
    ptrdiff_t rows
    ptrdiff_t classes
    ptrdiff_t logits_stride
    ptrdiff_t dlogits_stride
    real weight                 # of a row's loss in the gradient


cdef inline real exponentials(real* d, const real* l, ptrdiff_t n, real* most) noexcept nogil:
    # d = e^(l - max); the sum of d is returned, and max in most. d may be l.
    cdef ptrdiff_t k, j
    cdef real highest = l[0]
    cdef real edge[MOST_LANES]
    cdef vec lanes
    # With a NaN among them any `highest` will do: the sum is NaN then.
    if n >= LANES:
        lanes = load(l)
        for k in range(1, n // LANES):
            lanes = maximum(lanes, load(l + k * LANES))
        store(edge, maximum(lanes, load(l + n - LANES)))
        for j in range(LANES):
            highest = max(highest, edge[j])
    else:
        for k in range(n):
            highest = max(highest, l[k])
    most[0] = highest
    for k in range(n // LANES):
        store(d + k * LANES, exponential(load(l + k * LANES) - splat(highest)))
    if n % LANES:
        k = n - n % LANES
        store(edge, splat(0))
        for j in range(n - k):
            edge[j] = l[k + j] - highest
        store(edge, exponential(load(edge)))
        for j in range(n - k):
            d[k + j] = edge[j]
    return sum_of(d, n)


cdef void cross_entropy_row(const CrossEntropy* task, ptrdiff_t row) noexcept nogil:
    # p = e^(l - max) / sum;  loss = -log p[target];  dloss/dl = p - one_hot(target)
    cdef const real* l = task.logits + row * task.logits_stride
    cdef real* d = task.dlogits + row * task.dlogits_stride
    cdef ptrdiff_t target = task.targets[row], n = task.classes, k
    cdef real highest, total, factor, at_target
    if target < 0:
        task.losses[row] = 0
        memset(d, 0, n * sizeof(real))
        return
    at_target = l[target]               # d may be l
    total = exponentials(d, l, n, &highest)
    task.losses[row] = log(<double>total) + (<double>highest - <double>at_target)
    factor = task.weight / total
    for k in range(n):
        d[k] *= factor
    d[target] -= task.weight


cdef void cross_entropy_region(void* argument, int thread, int threads) noexcept nogil:
    cdef CrossEntropy* task = <CrossEntropy*>argument
    cdef ptrdiff_t row
    for row in range(share(task.rows, thread, threads), share(task.rows, thread + 1, threads)):
        cross_entropy_row(task, row)


def softmax_cross_entropy(dlogits, double[::1] losses, logits, const ptrdiff_t[::1] targets,
                          ptrdiff_t classes, ptrdiff_t logits_stride, ptrdiff_t dlogits_stride,
                          double weight, int threads):
    """losses[row] = -log softmax(logits[row])[target]; dlogits = weight * (softmax - one_hot)."""
    cdef CrossEntropy task
    cdef ptrdiff_t rows = len(losses)
    if rows == 0:
        return
    if len(targets) != rows:
        raise ValueError(f"targets: expected {rows}, got {len(targets)}")
    task.dlogits = numbers(dlogits, (rows - 1) * dlogits_stride + classes)
    task.losses = &losses[0]
    task.logits = numbers(logits, (rows - 1) * logits_stride + classes)
    if overlap(dlogits, logits) and (task.dlogits != task.logits or dlogits_stride != logits_stride):
        logits = logits.copy()          # rows would be overwritten before they are read
        task.logits = reals(logits)
    task.targets = &targets[0]
    task.rows = len(losses)
    task.classes = classes
    task.logits_stride = logits_stride
    task.dlogits_stride = dlogits_stride
    task.weight = weight
    with nogil:
        run_region(cross_entropy_region, &task, worthwhile(threads, task.rows * classes * COST_OF_A_MOVE))
