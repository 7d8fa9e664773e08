# The largest numbers of each row, and the logarithm of the sum of all their exponentials: what a
# search among classes asks of logits.

cdef enum:
    AT_ONCE = 8                 # vectors that are compared with the least of the largest together

cdef struct Largest:
    real* values                # OUT (rows, count), the largest first
    ptrdiff_t* places           # OUT (rows, count): where they stand
    double* log_sums            # OUT (rows); NULL: nobody wants them
    const real* x               # IN (rows, stride)
    ptrdiff_t rows
    ptrdiff_t classes
    ptrdiff_t stride
    ptrdiff_t count


cdef inline void insert(real* values, ptrdiff_t* places, ptrdiff_t count, real value,
                        ptrdiff_t place) noexcept nogil:
    # Among `count` values in falling order, for the last one; of equals the first stays in front.
    cdef ptrdiff_t k = count - 1
    while k > 0 and value > values[k - 1]:
        values[k] = values[k - 1]
        places[k] = places[k - 1]
        k -= 1
    values[k], places[k] = value, place


cdef void largest_of_row(const real* x, ptrdiff_t n, real* values, ptrdiff_t* places,
                         ptrdiff_t count) noexcept nogil:
    cdef ptrdiff_t k = count, j, v
    cdef real edge[MOST_LANES]
    cdef vec lanes
    cdef bint larger
    for j in range(count):
        insert(values, places, j + 1, x[j], j)
    while k + AT_ONCE * LANES <= n:
        lanes = load(x + k)
        for v in range(1, AT_ONCE):
            lanes = maximum(lanes, load(x + k + v * LANES))
        store(edge, lanes)
        larger = False
        for j in range(LANES):
            larger |= edge[j] > values[count - 1]
        if larger:
            for j in range(k, k + AT_ONCE * LANES):
                if x[j] > values[count - 1]:
                    insert(values, places, count, x[j], j)
        k += AT_ONCE * LANES
    for j in range(k, n):
        if x[j] > values[count - 1]:
            insert(values, places, count, x[j], j)


cdef double log_sum_of_row(const real* x, ptrdiff_t n, real highest) noexcept nogil:
    # log sum_k e^(x_k), in the order of `sum_of`.
    cdef vec lanes = splat(0)
    cdef real edge[MOST_LANES]
    cdef real total = 0
    cdef ptrdiff_t k, j, whole = n - n % LANES
    if highest == -INFINITY:
        return highest
    for k in range(n // LANES):
        lanes = lanes + exponential(load(x + k * LANES) - splat(highest))
    store(edge, lanes)
    for j in range(LANES):
        total += edge[j]
    if whole < n:
        store(edge, splat(0))
        for j in range(n - whole):
            edge[j] = x[whole + j] - highest
        store(edge, exponential(load(edge)))
        for j in range(n - whole):
            total += edge[j]
    return log(<double>total) + highest


cdef void largest_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Largest* task = <Largest*>argument
    cdef ptrdiff_t row
    cdef const real* x
    cdef real* values
    for row in range(share(task.rows, thread, threads), share(task.rows, thread + 1, threads)):
        x, values = task.x + row * task.stride, task.values + row * task.count
        largest_of_row(x, task.classes, values, task.places + row * task.count, task.count)
        if task.log_sums != NULL:
            task.log_sums[row] = log_sum_of_row(x, task.classes, values[0])


def largest(values, ptrdiff_t[::1] places, double[::1] log_sums, x, ptrdiff_t classes,
            ptrdiff_t stride, ptrdiff_t count, int threads):
    """values[row] = the `count` largest of x[row], at places[row]; log_sums[row] = log sum e^x[row].

    `log_sums` may be None. A NaN is never among the largest, unless it stands in front of all.
    """
    cdef Largest task
    cdef ptrdiff_t rows = len(places) // max(count, <ptrdiff_t>1)
    if not 1 <= count <= classes <= stride:
        raise ValueError(f"count: expected 1 to {min(classes, stride)}, got {count}")
    if len(places) != rows * count or (log_sums is not None and len(log_sums) != rows):
        raise ValueError(f"places, log_sums: expected {count} and 1 a row, got {len(places)}")
    if rows == 0:
        return
    task.values, task.places = numbers(values, rows * count), &places[0]
    task.log_sums = NULL if log_sums is None else &log_sums[0]
    task.x = numbers(x, (rows - 1) * stride + classes)
    task.rows, task.classes, task.stride, task.count = rows, classes, stride, count
    with nogil:
        run_region(largest_region, &task, worthwhile(threads, rows * classes * COST_OF_A_MOVE))
