# The forward pass of a task: project a chunk of steps, then walk through it step by step.

cdef struct Split:
    # Who does what. Either threads share the rows: thread k has the rows k, k + threads, ... of every
    # step, from its input to its output, and waits for nobody. Or they share the hidden units, in
    # runs of blocks, and wait for each other once a step.
    int row_thread
    int row_threads
    int unit_threads
    # this thread's rows of a step, in tiles of tile_rows; the first `taller` have one more
    ptrdiff_t rows              # of the step that the tiles are for
    ptrdiff_t own
    ptrdiff_t tiles
    ptrdiff_t tile_rows
    ptrdiff_t taller
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
    bint looks_ahead            # this thread's part of W_hh is larger than its second cache


cdef inline ptrdiff_t own_rows(const Split* split, ptrdiff_t rows) noexcept nogil:
    if split.row_threads == 1:
        return rows
    return (rows - split.row_thread + split.row_threads - 1) // split.row_threads


cdef inline ptrdiff_t first_unit(const Work* work, const Split* split) noexcept nogil:
    return split.block * work.z_layout.block


cdef inline ptrdiff_t last_unit(const Work* work, const Split* split) noexcept nogil:
    return min(split.last_block * work.z_layout.block, work.z_layout.units)


cdef inline ptrdiff_t rows_in(const Split* split, ptrdiff_t rows, ptrdiff_t apart) noexcept nogil:
    # How many rows a step has in a matrix: those of all threads, or, if a thread's rows stand close
    # together, its own.
    return own_rows(split, rows) if apart == 1 else rows


cdef inline void deal_rows(Split* split, ptrdiff_t rows) noexcept nogil:
    if rows == split.rows:
        return
    split.rows = rows
    split.own = own_rows(split, rows)
    split.tiles = (split.own + TILE_ROWS - 1) // TILE_ROWS
    if split.tiles > 0:
        split.tile_rows = split.own // split.tiles
        split.taller = split.own % split.tiles


cdef inline ptrdiff_t tile_begin(const Split* split, ptrdiff_t i) noexcept nogil:
    return i * split.tile_rows + min(i, split.taller)


cdef bint has_long_steps(const Work* work, ptrdiff_t rows, int threads) noexcept nogil:
    # A barrier costs some hundred multiply-adds of a vector; a share of a step has to be longer.
    cdef const Layout* z = &work.z_layout
    return z.gates * z.units * z.units * rows >= threads * 1024 * LANES


cdef inline ptrdiff_t count_weights(const Work* work) noexcept nogil:
    # Of W_hh.
    cdef const Layout* z = &work.z_layout
    return z.gates * z.units * z.units


cdef inline ptrdiff_t count_panels(const Work* work) noexcept nogil:
    # Of hidden units, the last one perhaps not full: threads share units in these.
    return round_up(work.z_layout.units, PANEL) // PANEL


cdef bint splits_weights(const Work* work, int threads) noexcept nogil:
    # W_hh stays in the second caches only if each holds a part of it, and that is fair.
    return (threads > 1 and count_panels(work) % threads == 0
            and count_weights(work) * <ptrdiff_t>sizeof(real) > SECOND_CACHE)


cdef bint shares_units(const Work* work, ptrdiff_t rows, int threads) noexcept nogil:
    # Whether threads had better share the hidden units of steps of so many rows than the rows: these
    # are too few to keep the multiply-adds of all of them busy, or the weights are better split.
    if threads == 1 or not has_long_steps(work, rows, threads):
        return False
    if rows < 4 * threads and count_panels(work) >= threads:
        return True
    return splits_weights(work, threads)


cdef ptrdiff_t group_panels(ptrdiff_t depth, ptrdiff_t width, ptrdiff_t panels) noexcept nogil:
    # Panels of depth x width numbers that few rows take at once. Beyond the first cache the fewest
    # that keep the multiply-adds busy: then the gates of some units run while the weights of the
    # next arrive, and going there and back finds the most in the cache.
    cdef ptrdiff_t weights = depth * width * panels * <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t few = (PANEL + width - 1) // width       # of narrower ones
    if weights <= FIRST_CACHE:
        return panels
    if PANEL_VECTORS < 4:
        return 4
    # One panel is as fast as the second cache; two are, where half is found in the first one.
    return 2 * few if weights <= 3 * FIRST_CACHE and panels >= 4 else few


cdef void set_groups(Split* split, const Layout* z, ptrdiff_t panels) noexcept nogil:
    cdef ptrdiff_t depth = z.blocks * z.gates * z.block
    split.group = group_panels(z.units, z.panel, z.blocks * z.block_panels) // z.block_panels
    split.group = max(<ptrdiff_t>1, min(split.group, <ptrdiff_t>GROUP_BLOCKS))
    split.groups = (split.last_block - split.block + split.group - 1) // split.group
    split.group_back = group_panels(depth, PANEL, panels)
    split.groups_back = (
        (split.last_panel - split.panel + split.group_back - 1) // split.group_back)


cdef Split split_team(const Work* work, ptrdiff_t rows, int thread, int threads) noexcept nogil:
    # For steps of so many rows.
    cdef Split split
    cdef ptrdiff_t panels = count_panels(work)
    cdef int unit_thread = 0
    memset(&split, 0, sizeof(Split))
    split.row_thread, split.row_threads, split.unit_threads = thread, threads, 1
    if shares_units(work, rows, threads):
        split.row_thread, split.row_threads = 0, 1
        unit_thread, split.unit_threads = thread, threads
    split.rows = -1
    deal_rows(&split, rows)
    split.panel = share(panels, unit_thread, split.unit_threads)
    split.last_panel = share(panels, unit_thread + 1, split.unit_threads)
    split.block = min(work.z_layout.blocks, split.panel * (PANEL // work.z_layout.block))
    split.last_block = min(work.z_layout.blocks, split.last_panel * (PANEL // work.z_layout.block))
    set_groups(&split, &work.z_layout, panels)
    split.looks_ahead = are_large(count_weights(work) // split.unit_threads)
    return split


cdef inline ptrdiff_t scratch_size(const Work* work) noexcept nogil:
    return FEW_ROWS * GROUP_BLOCKS * work.z_layout.gates * work.z_layout.block


cdef ptrdiff_t forward_chunk(const Work* work) noexcept nogil:
    # Steps a chunk: z stays in the second cache between the projection and the recurrence. Few rows
    # stay in the first cache, if W_hx is so small that going through it often costs nothing. And
    # weights so large that W_hx and W_hh drive each other out of the third cache pass less often.
    cdef ptrdiff_t row = work.z_layout.stride * <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t rows = max(SECOND_CACHE // 2 // row, <ptrdiff_t>48)
    if row * (work.input_size + work.z_layout.units) > 32 * SECOND_CACHE:
        rows = CHUNK_ROWS
    if work.batch <= FEW_ROWS and row * work.input_size <= FIRST_CACHE // 4:
        rows = max(FIRST_CACHE // 4 // row, <ptrdiff_t>2 * TILE_ROWS)
    rows = min(rows, <ptrdiff_t>CHUNK_ROWS)
    return max(<ptrdiff_t>1, rows // max(<ptrdiff_t>1, work.batch))


cdef inline ptrdiff_t most_own(const Work* work, int threads) noexcept nogil:
    # Rows of a chunk that one thread has at most.
    return min(forward_chunk(work), work.steps) * ((work.batch + threads - 1) // threads)


cdef inline ptrdiff_t most_rows(const Work* work, int threads) noexcept nogil:
    # Rows of a chunk that all have at most, at least threads * most_own.
    return min(forward_chunk(work), work.steps) * (work.batch + threads - 1)


cdef void gather_rows(const Work* work, real* z, ptrdiff_t z_apart, ptrdiff_t t,
                      const Split* split) noexcept nogil:
    # z[row] = table[tokens[row]], this thread's rows and blocks of step t; z is its first row.
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t width = layout.gates * layout.block
    cdef ptrdiff_t k, block
    cdef const real* source
    for k in range(own_rows(split, rows_of(work, t))):
        source = work.table + layout.blocks * width * work.tokens[
            work.offset[t] + split.row_thread + k * split.row_threads]
        for block in range(split.block, split.last_block):
            memcpy(z + k * z_apart * layout.stride + block * layout.places * layout.block,
                   source + block * width, width * sizeof(real))


cdef struct Step:
    # The states of one step, and its part of z, from this thread's first row on.
    real* h
    real* c
    real* z
    const real* h_prev
    const real* c_prev
    ptrdiff_t apart             # from one of this thread's rows to the next, in the states
    ptrdiff_t z_apart           # and in z


cdef void step_few_rows(const Work* work, ptrdiff_t t, const Step* step, const Split* split,
                        real* recurrent) noexcept nogil:
    # Several blocks at a time, and those of one row in one call of the cell: what it takes for rows
    # are blocks of one sequence.
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t width = layout.gates * layout.block, places = layout.places * layout.block
    cdef tile_kernel tile_rows = layout.tile[split.own]
    cdef ptrdiff_t n, r, block, many, here
    for n in range(split.groups):
        # There and back: the weights that a step reads last are the first that the next one reads.
        block = split.block + split.group * (split.groups - 1 - n if t & 1 else n)
        many = min(split.group, split.last_block - block)
        # W_hh h_prev (+ b_hh)
        tile_rows(recurrent, many * width, NULL if work.b_h == NULL else work.b_h + block * width, 0,
                  step.h_prev, step.apart, 1, layout.units, 0,
                  work.W_hh + block * width * layout.units, many * width, NULL)
        for r in range(split.own):
            here = r * step.apart + block * layout.block
            work.cell.forward(step.h + here, step.c + here,
                              step.z + r * step.z_apart + block * places,
                              recurrent + r * many * width, step.h_prev + here, step.c_prev + here,
                              many, layout.block, places, width, layout.block)


cdef void step_many_rows(const Work* work, ptrdiff_t t, const Step* step, const Split* split,
                         real* recurrent) noexcept nogil:
    # A block at a time, and a tile of rows: the weights of a block stay in the first cache.
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t width = layout.gates * layout.block, places = layout.places * layout.block
    cdef ptrdiff_t blocks = split.last_block - split.block, n, i, row, rows, block, here, after
    cdef const real* next = NULL
    for n in range(blocks):
        block = split.last_block - 1 - n if t & 1 else split.block + n
        if split.looks_ahead:
            after = block - 1 if t & 1 else block + 1
            next = NULL if n + 1 == blocks else work.W_hh + after * width * layout.units
        for i in range(split.tiles):
            row = tile_begin(split, i)
            rows = tile_begin(split, i + 1) - row
            layout.tile[rows](
                recurrent, width, NULL if work.b_h == NULL else work.b_h + block * width, 0,
                step.h_prev + row * step.apart, step.apart, 1, layout.units, 0,
                work.W_hh + block * width * layout.units, width,
                look_ahead(next, i, layout.panel, layout.units * layout.block_panels))
            here = row * step.apart + block * layout.block
            work.cell.forward(step.h + here, step.c + here,
                              step.z + row * step.z_apart + block * places, recurrent,
                              step.h_prev + here, step.c_prev + here, rows, layout.block,
                              step.z_apart, width, step.apart)


cdef void forward_step(const Work* work, ptrdiff_t t, real* z, ptrdiff_t z_apart,
                       const Split* split, real* recurrent) noexcept nogil:
    # This thread's rows and units of step t; z is its first row, the next is z_apart rows on.
    cdef Step step
    cdef ptrdiff_t stride = work.state_stride, first = split.row_thread * stride
    step.z = z
    step.z_apart = z_apart * work.z_layout.stride
    step.apart = stride * split.row_threads
    step.h_prev = work.h + slot_before(work, t) * stride + first
    step.h = work.h + slot_after(work, t) * stride + first
    step.c_prev = step.c = work.c + first
    if work.training and work.c != NULL:
        step.c_prev = work.c + slot_before(work, t) * stride + first
        step.c = work.c + slot_after(work, t) * stride + first
    if split.own > FEW_ROWS:
        step_many_rows(work, t, &step, split, recurrent)
    elif split.own > 0:
        step_few_rows(work, t, &step, split, recurrent)


cdef inline bint is_even(const Work* work, ptrdiff_t low, ptrdiff_t high,
                         const Split* split) noexcept nogil:
    # Whether this thread's rows of all these steps are evenly apart.
    cdef ptrdiff_t rows = rows_of(work, low)
    return split.row_threads == 1 or (
        rows % split.row_threads == 0
        and work.offset[high] - work.offset[low] == (high - low) * rows)


cdef inline ptrdiff_t count_own(const Work* work, ptrdiff_t low, ptrdiff_t high,
                                const Split* split) noexcept nogil:
    # This thread's rows of some steps.
    cdef ptrdiff_t rows = 0, t
    if split.row_threads == 1:
        return work.offset[high] - work.offset[low]
    for t in range(low, high):
        rows += own_rows(split, rows_of(work, t))
    return rows


cdef void project_steps(const Work* work, real* z, ptrdiff_t z_apart, ptrdiff_t low, ptrdiff_t high,
                        const Split* split, int thread, int threads) noexcept nogil:
    # z = W_hx x + b of this thread's rows and units; z is its first row.
    cdef const Layout* layout = &work.z_layout
    cdef Rows x = work.x, x_t
    cdef ptrdiff_t x_apart = split.row_threads, rows, t, block
    cdef real* z_t
    cdef bint even = is_even(work, low, high, split)
    if work.x_placed or (work.x_rows != NULL and not even):
        # rows close together make full tiles
        x_apart = 1
        x.data = work.x_rows + thread * most_rows(work, threads) * x.stride
        take_rows(work, x.data, x.stride, work.x.data, x.stride, low, high, 0, x.stride, x.stride,
                  work.x_placed, True, split.row_thread, split.row_threads)
    else:
        x.data = x.data + (work.offset[low] + split.row_thread) * x.stride
    if even or (x_apart == 1 and z_apart == 1):
        rows = count_own(work, low, high, split)
        project(z, z_apart, layout, &x, x_apart, rows, work.W_hx, work.b_x, split.block,
                split.last_block)
        return
    for block in range(split.block, split.last_block):
        x_t, z_t = x, z
        for t in range(low, high):
            rows = rows_of(work, t)
            project(z_t, z_apart, layout, &x_t, x_apart, own_rows(split, rows), work.W_hx, work.b_x,
                    block, block + 1)
            x_t.data = x_t.data + rows_in(split, rows, x_apart) * x.stride
            z_t = z_t + rows_in(split, rows, z_apart) * layout.stride


cdef void forward_steps(Work* work, ptrdiff_t low, ptrdiff_t high, Split* split, int thread,
                        int threads) noexcept nogil:
    # Steps low to high: project them all, recur, and leave the outputs where they are wanted. In
    # training z stands by rows; in inference each thread has a place for its own rows of a chunk.
    cdef ptrdiff_t z_apart = split.row_threads if work.training else 1
    cdef ptrdiff_t k, t, size, at_once, stride = work.z_layout.stride
    cdef bint reverse = work.reverse
    cdef real* scratch = work.scratch + thread * scratch_size(work)
    cdef real* z = work.z
    cdef real* z_t
    if work.training:
        z = z + (work.offset[low] + split.row_thread) * stride
    elif split.row_thread > 0:
        z = z + split.row_thread * most_own(work, threads) * stride
    z_t = z
    if work.tokens == NULL:
        project_steps(work, z, z_apart, low, high, split, thread, threads)
    else:
        for t in range(low, high):
            gather_rows(work, z_t, z_apart, t, split)
            z_t = z_t + rows_in(split, rows_of(work, t), z_apart) * stride
    z_t = z
    if reverse:
        size = work.offset[high] - work.offset[low]
        z_t = z + (count_own(work, low, high, split) if z_apart == 1 else size) * stride
    for k in range(high - low):
        t = high - 1 - k if reverse else low + k
        deal_rows(split, rows_of(work, t))
        size = (split.own if z_apart == 1 else split.rows) * stride
        if reverse:
            z_t = z_t - size
        forward_step(work, t, z_t, z_apart, split, scratch)
        if not reverse:
            z_t = z_t + size
        if split.unit_threads > 1:
            barrier_wait(&work.barrier, thread, threads)
    if work.y.data != NULL:
        # rows of a dense batch follow each other over all steps
        at_once = high - low if work.rank == NULL and is_even(work, low, high, split) else 1
        for k in range((high - low) // at_once):
            t = low + k
            put_rows(work, &work.y, work.h + slot_after(work, t) * work.state_stride,
                     work.state_stride, t, t + at_once, first_unit(work, split),
                     last_unit(work, split), split.row_thread, split.row_threads)


cdef ptrdiff_t chunk_end(const Work* work, ptrdiff_t begin, int threads) noexcept nogil:
    # Where the chunk ends that begins before step `begin`, or after it in a reverse direction. It
    # has as many steps as forward_chunk says; more, where sequences have ended.
    cdef ptrdiff_t chunk = forward_chunk(work), end = begin
    cdef ptrdiff_t room = chunk * ((work.batch + threads - 1) // threads)   # of rows of one thread
    if work.rank == NULL:
        return max(begin - chunk, <ptrdiff_t>0) if work.reverse else min(begin + chunk, work.steps)
    while end > 0 if work.reverse else end < work.steps:
        room -= (rows_of(work, end - work.reverse) + threads - 1) // threads
        if room < 0:
            break
        end += -1 if work.reverse else 1
    return end


cdef void forward_task(Work* work, int thread, int threads) noexcept nogil:
    cdef Split split = split_team(work, work.batch, thread, threads)
    cdef ptrdiff_t done = work.steps if work.reverse else 0, end, low, high
    while done != (0 if work.reverse else work.steps):
        end = chunk_end(work, done, threads)
        low, high = min(done, end), max(done, end)
        if shares_units(work, rows_of(work, low), threads) != (split.unit_threads > 1):
            barrier_wait(&work.barrier, thread, threads)
            split = split_team(work, rows_of(work, low), thread, threads)
        forward_steps(work, low, high, &split, thread, threads)
        done = end


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
        shared = shared or work.batch > 1 or shares_units(work, work.batch, threads)
    directions.side_by_side = directions.count == 2 and not splits_weights(work, threads)
    if not shared and directions.count == 1:
        threads = 1
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
            alone = split_team(wave.work[layer], wave.work[layer].batch, 0, 1)
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


def splits(Task task, int threads):
    """Whether the threads had better share the weights of each step than each run a layer."""
    return bool(splits_weights(&task.work, threads))


def plan(Task task, ptrdiff_t steps, ptrdiff_t batch, bint tokens, int threads):
    """How a dense batch is shared out: threads by rows and by units, tiles, steps a chunk."""
    cdef Work work = task.work
    cdef ptrdiff_t inputs = 0 if tokens else task.work.input_size
    cdef ptrdiff_t gates = work.z_layout.gates * work.z_layout.units, tiles = 0
    cdef Split split
    work.batch = batch
    threads = worthwhile(threads, steps * batch * gates * (work.z_layout.units + inputs))
    for thread in range(threads):
        split = split_team(&work, batch, thread, threads)
        tiles += split.tiles
    return {"row_threads": min(split.row_threads, max(batch, 1)),
            "unit_threads": split.unit_threads, "tiles": tiles // split.unit_threads,
            "chunk": forward_chunk(&work), "splits_weights": bool(splits_weights(&work, threads))}


def forward_sizes(Task task, ptrdiff_t steps, ptrdiff_t batch, int threads):
    """Rows that inference needs room for in z, and in x_rows; the size of the scratch."""
    cdef Work work = task.work
    work.batch, work.steps = batch, steps
    cdef ptrdiff_t rows = most_rows(&work, threads)     # enough for fewer threads as well
    return {"rows": rows, "x_rows": threads * rows, "scratch": threads * scratch_size(&work)}
