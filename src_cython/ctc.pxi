# Connectionist temporal classification (Graves et al. 2006, section 4), with its gradient.
#
# A path names a class for each step: the labels in their order, each for one step or more, and blanks
# between them, which two equal labels need. With n labels the places of a path are 2n + 1:
# blank, label 1, blank, label 2, ..., blank. The loss is -log of the sum of all paths' probabilities.

cdef struct Ctc:
    real* dlogits               # OUT (rows, dlogits_stride)
    double* losses              # OUT (sequences)
    const real* logits          # IN (rows, logits_stride); sequence i has row offset[t] + i at step t
    const ptrdiff_t* offset     # IN (longest)
    const ptrdiff_t* lengths    # IN (sequences), steps
    const ptrdiff_t* targets    # IN labels of all sequences, one after another
    const ptrdiff_t* ends       # IN (sequences), where the labels of each end
    const double* scales        # IN (sequences), of a loss in the gradient; 0: it does not count
    double* scratch             # (threads, size)
    ptrdiff_t size
    ptrdiff_t sequences
    ptrdiff_t classes
    ptrdiff_t logits_stride
    ptrdiff_t dlogits_stride
    ptrdiff_t longest           # steps of the longest sequence
    ptrdiff_t width             # numbers of a row of places, `EDGE` before and behind them included
    ptrdiff_t blank
    bint zero_infinity

cdef enum:
    EDGE = 8                    # impossible places on both sides: MOST_WIDE_LANES, 2 are needed
    COST_OF_A_PLACE = 250       # in multiply-adds, as WORTH_A_THREAD counts

# The scratch of a thread: (longest, width) of alpha, (longest) of log sums, 4 rows of places, the class
# of each place, and a number a class.

cdef struct Path:
    # One sequence on its way; pointers to place 0 of their rows.
    ptrdiff_t i
    ptrdiff_t steps
    ptrdiff_t places
    ptrdiff_t padded            # places in whole vectors
    double* alpha               # (steps, width): log of the paths that end here, step t included
    double* log_sums            # (steps): log of the softmax's denominator
    double* emission            # (padded): log p of the class of each place
    double* gate                # 0 where a path may leave out the blank before, else -inf
    double* beta                # log of the paths from here to the end, step t not included
    double* ahead               # beta and emission of the step after
    double* occupied            # (classes): probability that the path is there
    ptrdiff_t* classes          # (padded): the class of each place


cdef ptrdiff_t ctc_width(ptrdiff_t labels) noexcept nogil:
    return round_up(2 * labels + 1, MOST_WIDE_LANES) + 2 * EDGE


cdef ptrdiff_t ctc_size(ptrdiff_t longest, ptrdiff_t width, ptrdiff_t classes) noexcept nogil:
    return longest * (width + 1) + 5 * width + classes


cdef inline bint ctc_begin(const Ctc* task, Path* path, ptrdiff_t i, double* scratch) noexcept nogil:
    # Lay out the scratch, and say what stands at each place.
    cdef ptrdiff_t first = task.ends[i - 1] if i > 0 else 0
    cdef ptrdiff_t labels = task.ends[i] - first, width = task.width, k
    cdef const ptrdiff_t* label = task.targets + first
    path.i = i
    path.steps = task.lengths[i]
    path.places = 2 * labels + 1
    path.padded = round_up(path.places, MOST_WIDE_LANES)
    path.alpha = scratch + EDGE
    path.emission = path.alpha + task.longest * width
    path.gate = path.emission + width
    path.beta = path.gate + width
    path.ahead = path.beta + width
    path.classes = <ptrdiff_t*>(path.ahead + width - EDGE)
    path.log_sums = path.ahead + 2 * width - EDGE
    path.occupied = path.log_sums + task.longest
    for k in range(-EDGE, width - EDGE):
        path.emission[k] = path.gate[k] = path.beta[k] = path.ahead[k] = -INFINITY
    for k in range(labels):
        path.classes[2 * k] = task.blank
        path.classes[2 * k + 1] = label[k]
        if k > 0 and label[k] != label[k - 1]:
            path.gate[2 * k + 1] = 0
    path.classes[2 * labels] = task.blank
    return path.steps > 0


cdef inline void ctc_emit(const Ctc* task, Path* path, ptrdiff_t t) noexcept nogil:
    cdef const real* l = task.logits + (task.offset[t] + path.i) * task.logits_stride
    cdef double log_sum = path.log_sums[t]
    cdef ptrdiff_t s
    for s in range(path.places):
        path.emission[s] = <double>l[path.classes[s]] - log_sum


cdef double ctc_forward(const Ctc* task, Path* path) noexcept nogil:
    # alpha_t(s) = log(e^alpha_{t-1}(s) + e^alpha_{t-1}(s-1) + e^(alpha_{t-1}(s-2) + gate(s)))
    #              + log p_t(class of s);  at t = 0 a path is at place 0 or 1.
    cdef ptrdiff_t t, s, row
    cdef double* alpha = path.alpha
    cdef double* prev
    cdef double last, other
    cdef real highest, total
    for t in range(path.steps):
        row = task.offset[t] + path.i
        total = exponentials(task.dlogits + row * task.dlogits_stride,
                             task.logits + row * task.logits_stride, task.classes, &highest)
        path.log_sums[t] = <double>highest + log(<double>total)
        ctc_emit(task, path, t)
        for s in range(EDGE):
            alpha[s - EDGE] = alpha[path.padded + s] = -INFINITY
        if t == 0:
            for s in range(path.padded):
                alpha[s] = path.emission[s] if s < 2 else -INFINITY
        else:
            prev = alpha - task.width
            log_add(alpha, prev, prev - 1, prev - 2, path.gate, path.padded)
            for s in range(path.padded):
                alpha[s] += path.emission[s]
        alpha += task.width
    alpha -= task.width
    # The path ends at the last label or at the blank behind it.
    last, other = alpha[path.places - 1], alpha[path.places - 2]
    if other > last:
        last, other = other, last
    return -last if other == -INFINITY else -(last + log(1 + exp(other - last)))


cdef void ctc_backward(const Ctc* task, Path* path, double loss) noexcept nogil:
    # d holds e^(logits - max) since the forward pass, and beta the probabilities once it was used.
    # beta_t(s) = log(e^ahead(s) + e^ahead(s+1) + e^(ahead(s+2) + gate(s+2))), ahead = beta + log p of t+1
    # dloss/dlogits_t = p_t - sum of e^(alpha_t + beta_t + loss) over the places of each class
    cdef ptrdiff_t t, s, k, row
    cdef double* alpha = path.alpha + (path.steps - 1) * task.width
    cdef double scale = task.scales[path.i], to_p
    cdef real* d
    for t in range(path.steps - 1, -1, -1):
        if t == path.steps - 1:
            path.beta[path.places - 1] = 0
            if path.places > 1:
                path.beta[path.places - 2] = 0
        else:
            log_add(path.beta, path.ahead, path.ahead + 1, path.ahead + 2, path.gate + 2, path.padded)
        ctc_emit(task, path, t)
        for s in range(path.padded):
            path.ahead[s] = path.beta[s] + path.emission[s]
        exponential_of(path.beta, alpha, path.beta, -loss, path.padded)
        memset(path.occupied, 0, task.classes * sizeof(double))
        for s in range(path.places):
            path.occupied[path.classes[s]] += path.beta[s]
        row = task.offset[t] + path.i
        d = task.dlogits + row * task.dlogits_stride
        to_p = 1 / sum_of(d, task.classes)
        for k in range(task.classes):
            d[k] = <real>(scale * (<double>d[k] * to_p - path.occupied[k]))
        alpha -= task.width


cdef void ctc_fill(const Ctc* task, ptrdiff_t i, real value) noexcept nogil:
    # A gradient that is the same everywhere: of no loss, or of one that is infinite or a NaN.
    cdef ptrdiff_t t, k
    cdef real* d
    for t in range(task.lengths[i]):
        d = task.dlogits + (task.offset[t] + i) * task.dlogits_stride
        for k in range(task.classes):
            d[k] = value


cdef double ctc_sequence(const Ctc* task, ptrdiff_t i, double* scratch) noexcept nogil:
    cdef double loss
    cdef Path path
    if task.scales[i] == 0:
        ctc_fill(task, i, 0)
        return 0
    if ctc_begin(task, &path, i, scratch):
        loss = ctc_forward(task, &path)
    else:
        loss = 0.0 if path.places == 1 else <double>INFINITY
    if isfinite(loss):
        ctc_backward(task, &path, loss)
        return loss
    if loss == INFINITY and task.zero_infinity:
        ctc_fill(task, i, 0)
        return 0
    ctc_fill(task, i, NAN)
    return loss


cdef void ctc_region(void* argument, int thread, int threads) noexcept nogil:
    # Sequences are dealt in turns: the longest may come first.
    cdef Ctc* task = <Ctc*>argument
    cdef ptrdiff_t i = thread
    while i < task.sequences:
        task.losses[i] = ctc_sequence(task, i, task.scratch + thread * task.size)
        i += threads


def ctc_scratch(ptrdiff_t longest, ptrdiff_t labels, ptrdiff_t classes):
    """Numbers of float64 that `ctc` needs for each thread: most steps, most labels, classes."""
    return ctc_size(longest, ctc_width(labels), classes)


def ctc(dlogits, double[::1] losses, logits, const ptrdiff_t[::1] offset,
        const ptrdiff_t[::1] lengths, const ptrdiff_t[::1] targets, const ptrdiff_t[::1] ends,
        const double[::1] scales, double[::1] scratch, ptrdiff_t rows, ptrdiff_t classes,
        ptrdiff_t logits_stride, ptrdiff_t dlogits_stride, ptrdiff_t blank, bint zero_infinity,
        int threads):
    """losses[i] = -log p(targets of i | logits); dlogits = scales[i] * dloss, of the steps that are."""
    cdef Ctc task
    cdef ptrdiff_t i, t, first = 0, labels = 0
    task.sequences = len(losses)
    if task.sequences == 0:
        return
    for name, array in (("lengths", lengths), ("ends", ends), ("scales", scales)):
        if len(array) != task.sequences:
            raise ValueError(f"{name}: expected {task.sequences}, got {len(array)}")
    if classes < 1 or not 0 <= blank < classes:
        raise ValueError(f"blank: expected one of {classes} classes, got {blank}")
    for i in range(task.sequences):
        if not 0 <= lengths[i] <= len(offset):
            raise ValueError(f"lengths: expected 0 to {len(offset)}, got {lengths[i]}")
        for t in range(lengths[i]):
            if not 0 <= offset[t] + i < rows:
                raise ValueError(f"offset: expected places in {rows} rows, got {offset[t]}")
        if not first <= ends[i] <= len(targets):
            raise ValueError(f"ends: expected {first} to {len(targets)}, got {ends[i]}")
        labels = max(labels, ends[i] - first)
        first = ends[i]
    for i in range(first):
        if not 0 <= targets[i] < classes:
            raise ValueError(f"targets: expected labels below {classes}, got {targets[i]}")
    task.longest = len(offset)
    task.width = ctc_width(labels)
    task.size = ctc_size(task.longest, task.width, classes)
    threads = max(1, min(threads, MOST_THREADS))
    if len(scratch) < threads * task.size:
        raise ValueError(f"scratch: expected {threads * task.size} numbers, got {len(scratch)}")
    if rows > 0:
        task.dlogits = numbers(dlogits, (rows - 1) * dlogits_stride + classes)
        task.logits = numbers(logits, (rows - 1) * logits_stride + classes)
        if overlap(dlogits, logits):
            logits = logits.copy()      # rows are read again after they are written
            task.logits = reals(logits)
    task.losses = &losses[0]
    task.offset = &offset[0] if len(offset) else NULL
    task.lengths = &lengths[0]
    task.targets = &targets[0] if len(targets) else NULL
    task.ends = &ends[0]
    task.scales = &scales[0]
    task.scratch = &scratch[0]
    task.classes = classes
    task.logits_stride = logits_stride
    task.dlogits_stride = dlogits_stride
    task.blank = blank
    task.zero_infinity = zero_infinity
    with nogil:
        run_region(ctc_region, &task, worthwhile(threads, rows * (
            classes * COST_OF_A_MOVE + (task.width - 2 * EDGE) * COST_OF_A_PLACE)))
