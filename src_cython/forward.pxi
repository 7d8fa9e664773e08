# The forward pass: project a chunk of steps, then walk through it step by step.

cdef void gather_rows(const Work* work, real* z, ptrdiff_t z_apart, ptrdiff_t t,
                      const Split* split) noexcept nogil:
    # z[row] = table[tokens[row]], this thread's rows and blocks of step t; z is its first row.
    cdef const Layout* layout = &work.layer.z
    cdef ptrdiff_t width = layout.gates * layout.block
    cdef ptrdiff_t k, block
    cdef const real* source
    for k in range(own_rows(split, rows_of(work, t))):
        source = work.input.table + layout.blocks * width * work.input.tokens[
            work.batch.offset[t] + split.row_thread + k * split.row_threads]
        for block in range(split.block, split.last_block):
            memcpy(z + k * z_apart * layout.stride + block * layout.places * layout.block,
                   source + block * width, width * sizeof(real))


cdef inline void run_cell(const Work* work, Block* block, const Step* step, ptrdiff_t here,
                          ptrdiff_t z_here, ptrdiff_t at, ptrdiff_t rows) noexcept nogil:
    # The cell on some rows of block `at`, whose states begin `here` and whose z begins at z_here. Fields
    # are set one by one: what is stored in pieces is slow to read as a whole.
    block.rows = rows
    block.h, block.c = step.h + here, step.c + here
    block.h_prev, block.c_prev = step.h_prev + here, step.c_prev + here
    block.saved = step.z + z_here
    block.own = work.weights.own + at * work.layer.handed * work.layer.z.block
    work.layer.phase[step.phase].forward(block)


cdef void step_few_rows(const Work* work, ptrdiff_t t, const Step* step, const Split* split,
                        real* recurrent) noexcept nogil:
    # Several blocks at a time, and those of one row in one call of the cell: what it takes for rows
    # are blocks of one sequence.
    cdef const Layout* layout = &work.layer.phase[step.phase].z
    cdef const Panels* W_hh = &work.weights.W_hh[step.phase]
    cdef ptrdiff_t group = split.group[step.phase], groups = split.groups[step.phase]
    cdef ptrdiff_t width = layout.gates * layout.block, places = layout.places * layout.block
    cdef tile_kernel own_tile = layout.tile[split.own]
    cdef ptrdiff_t n, r, first, many
    cdef const real* start = NULL
    cdef Block block
    block.units = block.state_stride = layout.block
    block.c_apart, block.c_prev_apart = step.c_apart, step.c_prev_apart
    block.saved_stride, block.recurrent_stride = places, width
    block.own_stride = work.layer.handed * layout.block
    for n in range(groups):
        # There and back: the weights that a step reads last are the first that the next one reads.
        first = split.block + group * (groups - 1 - n if t & 1 else n)
        many = min(group, split.last_block - first)
        if work.weights.start != NULL:
            start = work.weights.start + first * width
        # W_hh h_prev, from an own vector on where there is one
        if work.layer.depth > 0:
            own_tile(recurrent, many * width, start, 0, step.multiplied, step.apart, 1, step.depth, 0,
                     panel_at(W_hh, first * width), many * width, NULL)
        for r in range(split.own):
            block.recurrent = recurrent + r * many * width
            run_cell(work, &block, step, r * step.apart + first * layout.block,
                     r * step.z_apart + first * places, first, many)


cdef void step_many_rows(const Work* work, ptrdiff_t t, const Step* step, const Split* split,
                         real* recurrent) noexcept nogil:
    # A block or a few at a time, and a tile of rows: their weights stay in a near cache.
    cdef const Layout* layout = &work.layer.phase[step.phase].z
    cdef const Panels* W_hh = &work.weights.W_hh[step.phase]
    cdef ptrdiff_t width = layout.gates * layout.block, places = layout.places * layout.block
    cdef ptrdiff_t blocks = split.last_block - split.block, n = 0, i, k, row, rows, at, many, after, group
    cdef const weight* next = NULL
    cdef const real* start = NULL
    cdef Block block
    block.units = layout.block
    block.c_apart, block.c_prev_apart = step.c_apart, step.c_prev_apart
    block.saved_stride, block.state_stride, block.own_stride = step.z_apart, step.apart, 0
    if work.layer.depth == 0:
        for at in range(split.block, split.last_block):
            run_cell(work, &block, step, at * layout.block, at * places, at, split.own)
        return
    group = min(max(panels_at_once(layout, W_hh.steps) // layout.block_panels, <ptrdiff_t>1), blocks)
    while n < blocks:
        many = min(group, blocks - n)
        at = split.last_block - n - many if t & 1 else split.block + n
        block.recurrent_stride = many * width
        if work.weights.start != NULL:
            start = work.weights.start + at * width
        if split.looks_ahead:
            after = at - min(group, blocks - n - many) if t & 1 else at + many
            next = NULL if n + many == blocks else panel_at(W_hh, after * width)
        for i in range(split.tiles):
            row = tile_begin(split, i)
            rows = tile_begin(split, i + 1) - row
            layout.tile[rows](
                recurrent, many * width, start, 0, step.multiplied + row * step.apart, step.apart, 1,
                step.depth, 0, panel_at(W_hh, at * width), many * width,
                look_ahead(next, i, layout.panel, many * W_hh.steps * layout.block_panels))
            for k in range(many):
                block.recurrent = recurrent + k * width
                run_cell(work, &block, step, row * step.apart + (at + k) * layout.block,
                         row * step.z_apart + (at + k) * places, at + k, rows)
        n += many


cdef inline void run_phase(const Work* work, ptrdiff_t t, const Step* step, const Split* split,
                           real* recurrent) noexcept nogil:
    if split.own > FEW_ROWS:
        step_many_rows(work, t, step, split, recurrent)
    elif split.own > 0:
        step_few_rows(work, t, step, split, recurrent)


cdef void run_first_phase(Work* work, ptrdiff_t t, Step step, const Split* split, real* recurrent) noexcept nogil:
    # Leaves for all units what W_hh of the second phase multiplies.
    step.h, step.h_prev = <real*>between_of(work, t, split), step.multiplied
    run_phase(work, t, &step, split, recurrent)
    if split.unit_threads > 1:
        barrier_wait(&work.barrier, split.unit_thread, split.unit_threads)


cdef inline const real* between_of(const Work* work, ptrdiff_t t, const Split* split) noexcept nogil:
    cdef ptrdiff_t row = work.batch.offset[t] if work.batch.training else 0
    return work.states.between + (row + split.row_thread) * work.layer.state_stride


cdef void forward_step(Work* work, ptrdiff_t t, real* z, ptrdiff_t z_apart,
                       const Split* split, real* recurrent) noexcept nogil:
    # This thread's rows and units of step t; z is its first row, the next is z_apart rows on.
    cdef Step step
    cdef ptrdiff_t stride = work.layer.state_stride, first = split.row_thread * stride
    cdef real* h
    cdef real* c
    step.phase, step.z = 0, z
    step.z_apart = z_apart * work.layer.z.stride
    step.apart = stride * split.row_threads
    step.depth = 0 if begins_at_zero(work, t) else work.layer.depth
    step.h_prev = step.multiplied = work.states.h + slot_before(work, t) * stride + first
    step.h = work.states.h + slot_after(work, t) * stride + first
    step.c_prev = step.c = work.states.c + first
    step.c_apart = step.c_prev_apart = state_apart(work)
    if work.batch.training and work.states.c != NULL:
        step.c_prev = work.states.c + slot_before(work, t) * stride + first
        step.c = work.states.c + slot_after(work, t) * stride + first
    h, c = step.h, step.c
    if work.noise.active:
        turn_aside(work, t, &step, split)
    if work.layer.phases > 1:
        run_first_phase(work, t, step, split, recurrent)
        step.phase, step.multiplied = 1, between_of(work, t, split)
    run_phase(work, t, &step, split, recurrent)
    if work.noise.active:
        settle(work, t, &step, h, c, split)


cdef inline bint walks_alone(const Work* work, const Split* split) noexcept nogil:
    # Whether a step is one row and one call of the tile and the cell.
    return (work.batch.running == 1 and split.row_threads == 1 and split.unit_threads == 1
            and split.groups[0] == 1 and work.layer.phases == 1 and not work.noise.active)


cdef void walk_alone(const Work* work, ptrdiff_t low, ptrdiff_t high, real* z, real* recurrent) noexcept nogil:
    # The same as `forward_step` of each step, in which small layers spend more time on what does not change
    # than on arithmetic: slots follow one another, so addresses move by a step.
    cdef const Layout* layout = &work.layer.z
    cdef const Panels* W_hh = &work.weights.W_hh[0]
    cdef bint reverse = work.layer.reverse
    cdef ptrdiff_t t = high - 1 if reverse else low, columns = layout.blocks * layout.gates * layout.block
    cdef ptrdiff_t stride = work.layer.state_stride, apart = -stride if reverse else stride, k
    cdef ptrdiff_t z_apart = -layout.stride if reverse else layout.stride
    cdef ptrdiff_t depth = 0 if begins_at_zero(work, t) else work.layer.depth
    cdef tile_kernel tile = work.layer.phase[0].z.tile[1]
    cdef cell_function forward = work.layer.phase[0].forward
    cdef bint keeps_c = work.batch.training and work.states.c != NULL
    cdef Block block
    block.rows, block.units = layout.blocks, layout.block
    block.state_stride, block.own_stride = layout.block, work.layer.handed * layout.block
    block.saved_stride, block.recurrent_stride = layout.places * layout.block, layout.gates * layout.block
    block.c_apart = block.c_prev_apart = state_apart(work)
    block.own, block.recurrent = work.weights.own, recurrent
    block.saved = z + (high - 1 - low) * layout.stride if reverse else z
    block.h = work.states.h + slot_after(work, t) * stride
    block.h_prev = work.states.h + slot_before(work, t) * stride
    block.c = work.states.c + slot_after(work, t) * stride if keeps_c else work.states.c
    block.c_prev = work.states.c + slot_before(work, t) * stride if keeps_c else work.states.c
    for k in range(high - low):
        if work.layer.depth > 0:
            tile(recurrent, columns, work.weights.start, 0, block.h_prev, stride, 1, depth, 0, W_hh.data,
                 columns, NULL)
        forward(&block)
        block.saved, block.h, block.h_prev = block.saved + z_apart, block.h + apart, block.h_prev + apart
        if keeps_c:
            block.c, block.c_prev = block.c + apart, block.c_prev + apart
        depth = work.layer.depth


cdef inline bint is_even(const Work* work, ptrdiff_t low, ptrdiff_t high,
                         const Split* split) noexcept nogil:
    # Whether this thread's rows of all these steps are evenly apart.
    cdef ptrdiff_t rows = rows_of(work, low)
    return split.row_threads == 1 or (
        rows % split.row_threads == 0
        and work.batch.offset[high] - work.batch.offset[low] == (high - low) * rows)


cdef inline ptrdiff_t count_own(const Work* work, ptrdiff_t low, ptrdiff_t high,
                                const Split* split) noexcept nogil:
    # This thread's rows of some steps.
    cdef ptrdiff_t rows = 0, t
    if split.row_threads == 1:
        return work.batch.offset[high] - work.batch.offset[low]
    for t in range(low, high):
        rows += own_rows(split, rows_of(work, t))
    return rows


cdef void project_steps(const Work* work, real* z, ptrdiff_t z_apart, ptrdiff_t low, ptrdiff_t high,
                        const Split* split, int thread, int threads) noexcept nogil:
    # z = W_hx x + b of this thread's rows and units; z is its first row.
    cdef const Layout* layout = &work.layer.z
    cdef Rows x = work.input.x, x_t
    cdef ptrdiff_t x_apart = split.row_threads, rows, t, block
    cdef real* z_t
    cdef bint even = is_even(work, low, high, split)
    if work.input.placed or (work.input.x_rows != NULL and not even):
        # rows close together make full tiles
        x_apart = 1
        x.data = work.input.x_rows + thread * most_rows(work, threads) * x.stride
        take_rows(work, x.data, x.stride, work.input.x.data, x.stride, low, high, 0, x.stride, x.stride,
                  work.input.placed, True, split.row_thread, split.row_threads)
    else:
        x.data = x.data + (work.batch.offset[low] + split.row_thread) * x.stride
    if even or (x_apart == 1 and z_apart == 1):
        rows = count_own(work, low, high, split)
        project(z, z_apart, layout, &x, x_apart, rows, &work.weights.W_hx, work.weights.b_x,
                split.block, split.last_block)
        return
    for block in range(split.block, split.last_block):
        x_t, z_t = x, z
        for t in range(low, high):
            rows = rows_of(work, t)
            project(z_t, z_apart, layout, &x_t, x_apart, own_rows(split, rows), &work.weights.W_hx,
                    work.weights.b_x, block, block + 1)
            x_t.data = x_t.data + rows_in(split, rows, x_apart) * x.stride
            z_t = z_t + rows_in(split, rows, z_apart) * layout.stride


cdef void forward_steps(Work* work, ptrdiff_t low, ptrdiff_t high, Split* split, int thread,
                        int threads) noexcept nogil:
    # Steps low to high: project them all, recur, and leave the outputs where they are wanted. In
    # training z stands by rows; in inference each thread has a place for its own rows of a chunk.
    cdef ptrdiff_t z_apart = split.row_threads if work.batch.training else 1
    cdef ptrdiff_t k, t, size, at_once, stride = work.layer.z.stride
    cdef bint reverse = work.layer.reverse
    cdef real* scratch = work.states.scratch + thread * scratch_size(work)
    cdef real* z = work.states.z
    cdef real* z_t
    if work.batch.training:
        z = z + (work.batch.offset[low] + split.row_thread) * stride
    elif split.row_thread > 0:
        z = z + split.row_thread * most_own(work, threads) * stride
    z_t = z
    if work.input.tokens == NULL:
        project_steps(work, z, z_apart, low, high, split, thread, threads)
    else:
        for t in range(low, high):
            gather_rows(work, z_t, z_apart, t, split)
            z_t = z_t + rows_in(split, rows_of(work, t), z_apart) * stride
    z_t = z
    if reverse:
        size = work.batch.offset[high] - work.batch.offset[low]
        z_t = z + (count_own(work, low, high, split) if z_apart == 1 else size) * stride
    if walks_alone(work, split):
        walk_alone(work, low, high, z, scratch)
    else:
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
    if work.states.y.data != NULL:
        # rows of a dense batch follow each other over all steps
        at_once = high - low if work.batch.rank == NULL and is_even(work, low, high, split) else 1
        for k in range((high - low) // at_once):
            t = low + k
            put_rows(work, &work.states.y, work.states.h + slot_after(work, t) * work.layer.state_stride,
                     work.layer.state_stride, t, t + at_once, first_unit(work, split),
                     last_unit(work, split), split.row_thread, split.row_threads)


cdef ptrdiff_t chunk_end(const Work* work, ptrdiff_t begin, int threads) noexcept nogil:
    # Where the chunk ends that begins before step `begin`, or after it in a reverse direction. It
    # has as many steps as forward_chunk says; more, where sequences have ended.
    cdef ptrdiff_t chunk = forward_chunk(work), end = begin
    cdef ptrdiff_t room = chunk * ((work.batch.running + threads - 1) // threads)   # of rows of one thread
    if work.batch.rank == NULL:
        return max(begin - chunk, <ptrdiff_t>0) if work.layer.reverse else min(begin + chunk, work.batch.steps)
    while end > 0 if work.layer.reverse else end < work.batch.steps:
        room -= (rows_of(work, end - work.layer.reverse) + threads - 1) // threads
        if room < 0:
            break
        end += -1 if work.layer.reverse else 1
    return end


cdef void forward_task(Work* work, int thread, int threads) noexcept nogil:
    cdef Split split = split_team(work, work.batch.running, thread, threads)
    cdef ptrdiff_t done = work.batch.steps if work.layer.reverse else 0, end, low, high
    while done != (0 if work.layer.reverse else work.batch.steps):
        end = chunk_end(work, done, threads)
        low, high = min(done, end), max(done, end)
        if shares_units(work, rows_of(work, low), threads) != (split.unit_threads > 1):
            barrier_wait(&work.barrier, thread, threads)
            split = split_team(work, rows_of(work, low), thread, threads)
        forward_steps(work, low, high, &split, thread, threads)
        done = end
