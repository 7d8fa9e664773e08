# The forward pass of a task: project a chunk of steps, then walk through it step by step.

cdef struct Split:
    # Who does what in the recurrence. Rows are dealt out in tiles, hidden units in runs of blocks.
    ptrdiff_t tiles
    ptrdiff_t tile_rows         # of every tile; the first `taller` have one more
    ptrdiff_t taller
    ptrdiff_t turns             # tiles of this thread
    bint by_step                # sequences end: their rows are dealt anew each step
    bint waits                  # for everybody after each step: somebody else needs its results
    int row_thread
    int row_threads
    int unit_threads
    # this thread's units; whole panels, so that the thread that computes dh of some units is the
    # one that turns it into their dz
    ptrdiff_t panel
    ptrdiff_t last_panel
    ptrdiff_t block
    ptrdiff_t last_block
    # blocks forward, and panels backward, that few rows take at once; how many times
    ptrdiff_t group
    ptrdiff_t groups
    ptrdiff_t group_back
    ptrdiff_t groups_back


cdef inline void deal_rows(Split* split, ptrdiff_t rows) noexcept nogil:
    split.tiles = round_up(max(<ptrdiff_t>1, (rows + TILE_ROWS - 1) // TILE_ROWS),
                           split.row_threads)
    split.tile_rows = rows // split.tiles
    split.taller = rows % split.tiles
    split.turns = split.tiles // split.row_threads


cdef bint has_long_steps(const Work* work, int threads) noexcept nogil:
    # A barrier costs some hundred multiply-adds of a vector; a share of a step has to be longer.
    cdef const Layout* z = &work.z_layout
    return z.gates * z.units * z.units * work.batch >= threads * 1024 * LANES


cdef bint loses_rows(const Work* work) noexcept nogil:
    # Sequences end: a tenth of the rows of a dense batch is missing.
    return work.offset != NULL and 10 * work.offset[work.steps] < 9 * work.steps * work.batch


cdef bint shares_units(const Work* work, int threads) noexcept nogil:
    # Whether threads had better share the hidden units of a step than its rows, where that is fair:
    # W_hh stays in the second caches only if each holds a part of it, or rows become too few.
    cdef const Layout* z = &work.z_layout
    if (threads == 1 or work.state_stride // PANEL % threads
            or not has_long_steps(work, threads)):
        return False
    return (z.gates * z.units * z.units * <ptrdiff_t>sizeof(real) > SECOND_CACHE
            or loses_rows(work))


cdef ptrdiff_t group_panels(ptrdiff_t size, ptrdiff_t panels) noexcept nogil:
    # Panels, of `size` numbers each, that few rows take at once. Beyond the first cache the fewest
    # that keep the multiply-adds busy: then the gates of some units run while the weights of the
    # next arrive, and going there and back finds the most in the cache.
    cdef ptrdiff_t weights = size * panels * <ptrdiff_t>sizeof(real)
    if weights <= FIRST_CACHE:
        return panels
    if PANEL_VECTORS < 4:
        return 4
    # One panel is as fast as the second cache; two are, where half is found in the first one.
    return 2 if weights <= 3 * FIRST_CACHE and panels >= 4 else 1


cdef void set_groups(Split* split, const Layout* z, ptrdiff_t panels) noexcept nogil:
    cdef ptrdiff_t block_panels = z.gates * z.block // PANEL
    cdef ptrdiff_t depth = z.blocks * z.gates * z.block
    split.group = group_panels(z.units * PANEL, z.blocks * block_panels) // block_panels
    split.group = max(<ptrdiff_t>1, min(split.group, <ptrdiff_t>GROUP_BLOCKS))
    split.groups = (split.last_block - split.block + split.group - 1) // split.group
    split.group_back = group_panels(depth * PANEL, panels)
    split.groups_back = (
        (split.last_panel - split.panel + split.group_back - 1) // split.group_back)


cdef Split split_team(const Work* work, int thread, int threads) noexcept nogil:
    cdef Split split
    cdef const Layout* z = &work.z_layout
    cdef int unit_thread = 0
    cdef ptrdiff_t panels = work.state_stride // PANEL
    cdef bint long_steps = has_long_steps(work, threads)
    cdef bint idle = False
    split.row_thread, split.row_threads, split.unit_threads = 0, 1, 1
    if work.batch >= 4 * threads and not shares_units(work, threads):
        split.row_thread, split.row_threads = thread, threads
    elif panels >= threads and long_steps:
        unit_thread, split.unit_threads = thread, threads
    else:
        idle = thread > 0           # one thread is faster
    split.by_step = split.row_threads > 1 and long_steps and loses_rows(work)
    split.waits = split.by_step or split.unit_threads > 1
    deal_rows(&split, work.batch)
    if idle:
        split.turns = 0
    split.panel = share(panels, unit_thread, split.unit_threads)
    split.last_panel = share(panels, unit_thread + 1, split.unit_threads)
    split.block = min(z.blocks, split.panel * (PANEL // z.block))
    split.last_block = min(z.blocks, split.last_panel * (PANEL // z.block))
    set_groups(&split, z, panels)
    return split


cdef inline ptrdiff_t tile_begin(const Split* split, ptrdiff_t i) noexcept nogil:
    return i * split.tile_rows + min(i, split.taller)


cdef inline ptrdiff_t scratch_size(const Work* work) noexcept nogil:
    return FEW_ROWS * GROUP_BLOCKS * work.z_layout.gates * work.z_layout.block


cdef ptrdiff_t forward_chunk(const Work* work) noexcept nogil:
    # Steps a chunk: z stays in the second cache between the projection and the recurrence. Few rows
    # stay in the first cache, if W_hx is so small that going through it often costs nothing.
    cdef ptrdiff_t row = work.z_layout.stride * <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t rows = max(SECOND_CACHE // 2 // row, <ptrdiff_t>48)
    if work.batch <= FEW_ROWS and row * work.input_size <= FIRST_CACHE // 4:
        rows = max(FIRST_CACHE // 4 // row, <ptrdiff_t>2 * TILE_ROWS)
    rows = min(rows, <ptrdiff_t>CHUNK_ROWS)
    return max(<ptrdiff_t>1, rows // max(<ptrdiff_t>1, work.batch))


cdef void gather_rows(const Work* work, real* z, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t low,
                      ptrdiff_t high, int thread, int threads) noexcept nogil:
    # z[row] = table[tokens[first + row]], blocks low to high of this thread's share of the rows
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t width = layout.gates * layout.block
    cdef ptrdiff_t row, block
    cdef const real* source
    for row in range(share(rows, thread, threads), share(rows, thread + 1, threads)):
        source = work.table + work.tokens[first + row] * layout.blocks * width
        for block in range(low, high):
            memcpy(z + row * layout.stride + block * layout.places * layout.block,
                   source + block * width, width * sizeof(real))


cdef inline void forward_gates(const Work* work, ptrdiff_t block, ptrdiff_t many, ptrdiff_t row,
                               ptrdiff_t rows, real* z, const real* recurrent, real* h, real* c,
                               const real* h_prev, const real* c_prev) noexcept nogil:
    # Of some rows and blocks. The blocks of a row are evenly apart, as the rows of a block are, so
    # the cell takes either many rows of one block or many blocks of one row in one call.
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t stride = work.state_stride, places = layout.places * layout.block
    cdef ptrdiff_t width = layout.gates * layout.block, here, r
    if many == 1:
        here = row * stride + block * layout.block
        work.cell.forward(h + here, c + here, z + row * layout.stride + block * places, recurrent,
                          h_prev + here, c_prev + here, rows, layout.block, layout.stride, width,
                          stride)
        return
    for r in range(rows):
        here = (row + r) * stride + block * layout.block
        work.cell.forward(h + here, c + here, z + (row + r) * layout.stride + block * places,
                          recurrent + r * many * width, h_prev + here, c_prev + here, many,
                          layout.block, places, width, layout.block)


cdef void forward_step(const Work* work, ptrdiff_t t, real* z, const Split* split,
                       real* recurrent) noexcept nogil:
    # This thread's rows and units of step t; z is row 0 of the step.
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t rows = rows_of(work, t), stride = work.state_stride
    cdef ptrdiff_t width = layout.gates * layout.block, panels = width // PANEL
    cdef const real* h_prev = work.h + slot_before(work, t) * stride
    cdef real* h = work.h + slot_after(work, t) * stride
    cdef const real* c_prev = work.c
    cdef real* c = work.c
    cdef ptrdiff_t group = 1, groups = split.last_block - split.block
    cdef ptrdiff_t n, block, many, k, i, row, above
    if rows <= FEW_ROWS:
        group, groups = split.group, split.groups
    if work.training and work.c != NULL:
        c_prev = work.c + slot_before(work, t) * stride
        c = work.c + slot_after(work, t) * stride
    for n in range(groups):
        # There and back: the weights that a step reads last are the first that the next one reads.
        block = split.block + group * (groups - 1 - n if t & 1 else n)
        many = min(group, split.last_block - block)
        for k in range(split.turns):
            i = k * split.row_threads + split.row_thread
            row = tile_begin(split, i)
            above = min(tile_begin(split, i + 1), rows)
            if row >= above:
                continue
            # W_hh h_prev (+ b_hh)
            tile[above - row](recurrent, many * width,
                              NULL if work.b_h == NULL else work.b_h + block * width, 0,
                              h_prev + row * stride, stride, 1, layout.units, 0,
                              work.W_hh + block * width * layout.units, many * panels)
            forward_gates(work, block, many, row, above - row, z, recurrent, h, c, h_prev, c_prev)


cdef void forward_steps(Work* work, ptrdiff_t low, ptrdiff_t high, Split* split, int thread,
                        int threads) noexcept nogil:
    # Steps low to high: project them all, recur, and leave the outputs where they are wanted.
    cdef ptrdiff_t k, t, first = work.offset[low], rows = work.offset[high] - first
    cdef ptrdiff_t begin = 0, end = work.z_layout.blocks
    cdef int thread_of_rows = thread, sharing = threads
    cdef real* z = work.z
    cdef Rows x = work.x
    cdef ptrdiff_t x_first = first
    if work.training:
        z = z + first * work.z_layout.stride
    if split.unit_threads > 1:      # threads keep to their units, and need not wait for z
        begin, end, thread_of_rows, sharing = split.block, split.last_block, 0, 1
    if work.tokens != NULL:
        gather_rows(work, z, first, rows, begin, end, thread_of_rows, sharing)
    else:
        if work.x_rows != NULL:
            x = Rows(work.x_rows, work.input_size, 1, work.input_size, 0)
            x_first = 0
            take_rows(work, work.x_rows, x.stride, work.x.data, work.x.stride, x.depth, low, high,
                      thread, threads)
            barrier_wait(&work.barrier, threads)
        project(z, &work.z_layout, &x, x_first, rows, work.W_hx, work.b_x, begin, end,
                thread_of_rows, sharing)
    barrier_wait(&work.barrier, sharing)
    for k in range(high - low):
        t = high - 1 - k if work.reverse else low + k
        if split.by_step:
            deal_rows(split, rows_of(work, t))
        forward_step(work, t, z + (work.offset[t] - first) * work.z_layout.stride, split,
                     work.scratch + thread * scratch_size(work))
        if split.waits:
            barrier_wait(&work.barrier, threads)
    if not split.waits and (work.y.data != NULL or not work.training):
        barrier_wait(&work.barrier, threads)    # the next chunk overwrites z
    if work.y.data != NULL:
        for t in range(low, high):
            put_rows(work, &work.y, work.h + slot_after(work, t) * work.state_stride,
                     work.state_stride, t, thread, threads)


cdef void forward_task(Work* work, int thread, int threads) noexcept nogil:
    # As many steps a chunk as have the rows of forward_chunk: more, where sequences have ended.
    cdef Split split = split_team(work, thread, threads)
    cdef ptrdiff_t most = forward_chunk(work) * work.batch
    cdef ptrdiff_t low = 0, high = work.steps
    if work.reverse:
        while high > 0:
            low = high - 1
            while low > 0 and work.offset[high] - work.offset[low - 1] <= most:
                low -= 1
            forward_steps(work, low, high, &split, thread, threads)
            high = low
        return
    while low < work.steps:
        high = low + 1
        while high < work.steps and work.offset[high + 1] - work.offset[low] <= most:
            high += 1
        forward_steps(work, low, high, &split, thread, threads)
        low = high


# The directions of a layer run side by side where there are threads for both, unless these had
# better share each direction's units.

ctypedef void (*task_kernel)(Work* work, int thread, int threads) noexcept nogil

cdef struct Directions:
    Work* work[2]
    int count
    bint side_by_side
    task_kernel kernel


cdef void directions_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Directions* directions = <Directions*>argument
    cdef int d
    if directions.side_by_side and threads >= 2:
        d = thread % 2
        directions.kernel(directions.work[d], thread // 2, (threads + 1 - d) // 2)
    else:
        for d in range(directions.count):
            directions.kernel(directions.work[d], thread, threads)


cdef ptrdiff_t work_of(const Work* work) noexcept nogil:
    # Multiply-adds of a forward pass.
    cdef ptrdiff_t inputs = work.x.depth * work.x.parts if work.tokens == NULL else 0
    return work.offset[work.steps] * work.z_layout.gates * work.z_layout.units * (
        work.z_layout.units + inputs)


cdef void run_directions(list tasks, task_kernel kernel, int threads):
    cdef Directions directions
    cdef Task task
    cdef Work* work = NULL
    cdef Split split
    cdef bint shared = False
    cdef ptrdiff_t multiply_adds = 0
    directions.count = len(tasks)
    directions.kernel = kernel
    for d in range(directions.count):
        task = tasks[d]
        work = &task.work
        memset(&work.barrier, 0, sizeof(Barrier))
        directions.work[d] = work
        multiply_adds += work_of(work)
        split = split_team(work, 0, threads)
        shared = shared or split.row_threads > 1 or split.unit_threads > 1
    directions.side_by_side = directions.count == 2 and not shares_units(work, threads)
    if not shared and directions.count == 1:
        threads = 1     # a step is too short to be shared: helping with the input does not pay
    with nogil:
        run_region(directions_region, &directions, worthwhile(threads, multiply_adds))


# The layers of a stack side by side, each a chunk of steps behind the one below.

cdef struct Wavefront:
    Work* work[MOST_LAYERS]
    atomic_int done[MOST_LAYERS]    # chunks that each layer has finished
    int count
    ptrdiff_t steps                 # a chunk


cdef void wavefront_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Wavefront* wave = <Wavefront*>argument
    cdef Split alone
    cdef ptrdiff_t low = 0, high
    cdef int chunk = 0, k, layer
    while low < wave.work[0].steps:
        high = min(low + wave.steps, wave.work[0].steps)
        for k in range((wave.count - thread + threads - 1) // threads):
            layer = thread + k * threads
            if layer > 0:
                wait_until_above(&wave.done[layer - 1], chunk)
            alone = split_team(wave.work[layer], 0, 1)
            forward_steps(wave.work[layer], low, high, &alone, 0, 1)
            raise_to(&wave.done[layer], chunk + 1)
        low = high
        chunk += 1


cdef int set_wavefront(Wavefront* wave, list tasks, int threads):
    # Returns how many threads are worth having.
    cdef Task task
    cdef ptrdiff_t multiply_adds = 0
    memset(wave, 0, sizeof(Wavefront))
    wave.count = len(tasks)
    for k in range(wave.count):
        task = tasks[k]
        wave.work[k] = &task.work
        multiply_adds += work_of(&task.work)
    return worthwhile(min(threads, wave.count), multiply_adds)


def forward_wavefront(list tasks, int threads):
    """Run a stack of layers of one direction, the layers side by side."""
    cdef Wavefront wave
    threads = set_wavefront(&wave, tasks, threads)
    # Short chunks fill the pipeline soon; four rows at least share each pass over the weights.
    wave.steps = max(<ptrdiff_t>4, min(forward_chunk(wave.work[0]), wave.work[0].steps // 16))
    for k in range(wave.count):
        wave.steps = min(wave.steps, forward_chunk(wave.work[k]))
    with nogil:
        run_region(wavefront_region, &wave, threads)


def forward(list tasks, int threads):
    """Run the directions of one layer over a batch."""
    run_directions(tasks, forward_task, threads)


def prefers_units(Task task, ptrdiff_t batch, int threads):
    """Whether the threads had better share each step of a dense batch than each run a layer."""
    task.work.batch = batch
    return bool(shares_units(&task.work, threads))


def plan(Task task, ptrdiff_t steps, ptrdiff_t batch, bint tokens, int threads):
    """How a dense batch is shared out: threads by rows and by units, tiles, steps a chunk."""
    cdef Work work = task.work
    cdef ptrdiff_t inputs = 0 if tokens else task.work.input_size
    cdef ptrdiff_t gates = work.z_layout.gates * work.z_layout.units
    cdef Split split
    work.batch = batch
    threads = worthwhile(threads, steps * batch * gates * (work.z_layout.units + inputs))
    split = split_team(&work, 0, threads)
    return {"row_threads": split.row_threads, "unit_threads": split.unit_threads,
            "tiles": split.tiles, "chunk": forward_chunk(&work),
            "shares_units": bool(shares_units(&work, threads))}


def forward_sizes(Task task, ptrdiff_t batch, int threads):
    """Rows of z that inference needs, and the size of the scratch buffer."""
    task.work.batch = batch
    cdef ptrdiff_t rows = forward_chunk(&task.work) * task.work.batch
    return {"z_rows": rows, "scratch": threads * scratch_size(&task.work)}
