# Backpropagation through time: walk back through a chunk of steps, then add what the chunk
# contributes to the gradients of the input and the weights while it is in the cache.

cdef void clear_padding(const Work* work, real* z, ptrdiff_t z_stride, ptrdiff_t rows) noexcept nogil:
    # Beyond the last hidden unit an infinite input has left NaN (0 times infinity): z is the last
    # block of some rows, whose padding must not reach the sums over all units.
    cdef const Layout* layout = &work.layer.z
    cdef ptrdiff_t row, place, used = layout.units - (layout.blocks - 1) * layout.block
    for row in range(rows):
        for place in range(layout.places):
            memset(z + row * z_stride + place * layout.block + used, 0,
                   (layout.block - used) * sizeof(real))


cdef void keep_gradients(const Work* work, ptrdiff_t t, const real* dy, ptrdiff_t dy_stride,
                         const Split* split) noexcept nogil:
    # dL/dh_t, and of dL/dc_t what step t + 1 hands on, of this thread's rows and units; dy is row 0 of
    # the step.
    cdef ptrdiff_t stride = work.layer.state_stride, unit = split.block * work.layer.z.block
    cdef ptrdiff_t vectors = (split.last_block * work.layer.z.block - unit) // LANES
    cdef ptrdiff_t first = work.batch.offset[t] * stride
    cdef ptrdiff_t i, k, row, here, above
    for i in range(split.own):
        row = split.row_thread + i * split.row_threads
        for k in range(vectors):
            here, above = row * stride + unit + k * LANES, row * dy_stride + unit + k * LANES
            if dy == NULL:
                store(work.grads.dh_steps + first + here, load(work.grads.dh + here))
            else:
                store(work.grads.dh_steps + first + here, load(work.grads.dh + here) + load(dy + above))
            if work.grads.dc_steps != NULL:
                store(work.grads.dc_steps + first + here, load(work.grads.dc + here))


cdef struct StepBack:
    # What one phase of a step goes back from, row 0 of each.
    int phase
    const real* dy              # NULL is zero
    ptrdiff_t dy_stride
    real* dh
    const real* h_prev


cdef inline void backward_gates(const Work* work, ptrdiff_t t, const StepBack* step, const real* dy,
                                ptrdiff_t unit_block, ptrdiff_t row, Block* block) noexcept nogil:
    # The cell on rows of one block, or blocks of one row: whatever is saved_stride apart in z. dy
    # begins at the first.
    cdef const Layout* layout = &work.layer.z
    cdef ptrdiff_t here = row * work.layer.state_stride + unit_block * layout.block
    cdef ptrdiff_t before = slot_before(work, t) * work.layer.state_stride + here
    cdef ptrdiff_t after = slot_after(work, t) * work.layer.state_stride + here
    block.saved = (work.states.z + (work.batch.offset[t] + row) * layout.stride
                   + unit_block * layout.places * layout.block)
    block.own = work.back.own + unit_block * work.layer.handed * layout.block
    block.dh, block.dc, block.dy = step.dh + here, work.grads.dc + here, dy
    block.h, block.c = work.states.h + after, work.states.c + after
    block.h_prev, block.c_prev = step.h_prev + here, work.states.c + before
    if work.noise.h.rate > 0:
        block.h = work.noise.h.now + first_now(work, t) + here
    if work.noise.c.rate > 0:
        block.c = work.noise.c.now + first_now(work, t) + here
    work.layer.phase[step.phase].backward(block)


cdef void backward_phase(const Work* work, ptrdiff_t t, const StepBack* step, const Split* split) noexcept nogil:
    # dz of this thread's rows and units of step t.
    cdef const Layout* layout = &work.layer.z
    cdef ptrdiff_t blocks = split.last_block - split.block, apart = split.row_threads
    cdef ptrdiff_t places = layout.places * layout.block
    cdef ptrdiff_t at, i, row, rows, k, r, unit, dy_stride = step.dy_stride
    cdef const real* dy = step.dy
    cdef Block block
    block.units = layout.block
    block.c_prev_apart, block.dc_apart = state_apart(work), gradient_apart(work)
    block.c_apart = now_apart(work) if work.noise.c.rate > 0 else block.c_prev_apart
    for i in range(split.tiles):
        row = split.row_thread + tile_begin(split, i) * apart
        rows = tile_begin(split, i + 1) - tile_begin(split, i)
        if rows < blocks:
            unit = split.block * layout.block
            block.rows, block.saved_stride = blocks, places
            block.state_stride = block.dy_stride = layout.block
            block.own_stride = work.layer.handed * layout.block
            for k in range(rows):
                r = row + k * apart
                backward_gates(work, t, step, NULL if dy == NULL else dy + r * dy_stride + unit,
                               split.block, r, &block)
        else:
            block.rows, block.saved_stride = rows, layout.stride * apart
            block.state_stride, block.dy_stride = work.layer.state_stride * apart, dy_stride * apart
            block.own_stride = 0
            for at in range(split.block, split.last_block):
                unit = at * layout.block
                backward_gates(work, t, step, NULL if dy == NULL else dy + row * dy_stride + unit,
                               at, row, &block)
        if split.last_block * layout.block > layout.units:
            clear_padding(work, work.states.z + (work.batch.offset[t] + row) * layout.stride
                          + (layout.blocks - 1) * places, layout.stride * apart, rows)


cdef void backward_step(Work* work, ptrdiff_t t, const real* dy, ptrdiff_t dy_stride,
                        const Split* split) noexcept nogil:
    # All of dz of this thread's rows and units of step t; dy is row 0 of the step.
    cdef StepBack step
    if work.grads.dh_steps != NULL:
        keep_gradients(work, t, dy, dy_stride, split)
    if work.noise.active:
        part_gradients(work, t, dy, dy_stride, split)
        dy = NULL if work.noise.h.rate > 0 else dy
    step.phase, step.dy, step.dy_stride = work.layer.phases - 1, dy, dy_stride
    step.dh = work.grads.dh
    step.h_prev = work.states.h + slot_before(work, t) * work.layer.state_stride
    backward_phase(work, t, &step, split)
    if work.noise.active:
        join_gradients(work, t, split)
    if work.layer.phases == 1:
        return
    # z_h = W_hh s, so ds = dz_h W_hh, of the gates of the second phase
    if split.unit_threads > 1:
        barrier_wait(&work.barrier, split.unit_thread, split.unit_threads)
    multiply_back(work, t, 1, work.grads.dbetween, NULL, split)
    step.phase, step.dy, step.dy_stride = 0, work.grads.dbetween, work.layer.state_stride
    if work.noise.mask != NULL:     # s = f(masked h_prev)
        clear_aside(work, t, split)
        step.dh = work.noise.h.aside
        step.h_prev = work.noise.masked + slot_before(work, t) * work.layer.state_stride
    backward_phase(work, t, &step, split)


cdef void backward_step_h(const Work* work, ptrdiff_t t, const Split* split) noexcept nogil:
    # z_h = W_hh h_prev, so dh_prev += dz_h W_hh, for this thread's rows and units.
    cdef real* aside = work.noise.h.aside
    if work.noise.mask == NULL:
        multiply_back(work, t, 0, work.grads.dh, work.grads.dh, split)
    else:               # dh_prev += mask * (what the first phase of two has left + dz_h W_hh)
        multiply_back(work, t, 0, aside, aside if work.layer.phases > 1 else NULL, split)
        join_masked(work, split)


cdef void multiply_back(const Work* work, ptrdiff_t t, int phase, real* out, const real* start,
                        const Split* split) noexcept nogil:
    # out = start + dz_h W_hh, of the gates of a phase, for this thread's rows and units; row 0 of each.
    cdef const Layout* layout = &work.layer.phase[phase].z
    cdef const Panels* W_hh = &work.back.W_hh[phase]
    cdef ptrdiff_t stride = work.layer.state_stride * split.row_threads
    cdef ptrdiff_t z_stride = layout.stride * split.row_threads
    cdef const real* dz = (
        work.states.z + (work.batch.offset[t] + split.row_thread) * layout.stride
        + work.layer.phase[phase].place * layout.block)
    cdef ptrdiff_t group = panels_at_once(layout, W_hh.steps)
    cdef ptrdiff_t groups = (split.last_panel - split.panel + group - 1) // group
    cdef ptrdiff_t n, panel, many, i, row, after, columns
    cdef const weight* next = NULL
    out = out + split.row_thread * work.layer.state_stride
    if start != NULL:
        start = start + split.row_thread * work.layer.state_stride
    if split.own <= FEW_ROWS:
        group, groups = split.group_back[phase], split.groups_back[phase]
    for n in range(groups):
        panel = split.panel + group * (groups - 1 - n if t & 1 else n)
        many = min(group, split.last_panel - panel)
        columns = min(many * PANEL, W_hh.columns - panel * PANEL)
        if split.looks_ahead:
            after = panel - group if t & 1 else panel + group
            next = NULL if n + 1 == groups else panel_at(W_hh, after * PANEL)
        for i in range(split.tiles):
            row = tile_begin(split, i)
            layout.wide[tile_begin(split, i + 1) - row](
                out + row * stride + panel * PANEL, stride,
                NULL if start == NULL else start + row * stride + panel * PANEL, stride,
                dz + row * z_stride, z_stride,
                layout.blocks, layout.gates * layout.block, layout.places * layout.block,
                panel_at(W_hh, panel * PANEL), columns,
                look_ahead(next, i, PANEL, many * W_hh.steps))


cdef void scatter_rows(const Work* work, ptrdiff_t first, ptrdiff_t rows, int thread,
                       int threads) noexcept nogil:
    # dtable[token] += dz_x, this thread's share of the blocks
    cdef const Layout* layout = &work.layer.z
    cdef ptrdiff_t width = layout.gates * layout.block, places = layout.places * layout.block
    cdef ptrdiff_t row, block, k
    cdef const real* dz
    cdef real* out
    for row in range(first, first + rows):
        for block in range(share(layout.blocks, thread, threads),
                           share(layout.blocks, thread + 1, threads)):
            dz = work.states.z + row * layout.stride + block * places
            out = work.grads.dtable + (work.input.tokens[row] * layout.blocks + block) * width
            for k in range(width // LANES):
                store(out + k * LANES, load(out + k * LANES) + load(dz + k * LANES))


cdef void contribute(Work* work, ptrdiff_t low, ptrdiff_t high, bint adds, int thread,
                     int threads) noexcept nogil:
    # z = W_hx x + b_h + W_hh h_prev: what the steps low to high contribute.
    cdef const Layout* layout = &work.layer.z
    cdef ptrdiff_t first = work.batch.offset[low], end = work.batch.offset[high]
    cdef const CellDescription* cell = work.layer.cell
    cdef const Phase* phase
    cdef ptrdiff_t rows, row, t, a, b, k, low_h, high_h, h_size
    cdef Rows h = Rows(work.states.h, work.layer.state_stride, 1, layout.units, 0)
    cdef Rows between = Rows(work.states.between, work.layer.state_stride, 1, layout.units, 0)
    cdef real* dx = work.grads.dx.data
    if work.noise.mask != NULL:
        h.data = work.noise.masked
    if dx != NULL:
        dx = work.grads.dx_rows if work.grads.dx.placed else dx + first * work.grads.dx.stride
        project_back(dx + thread * work.grads.dx.stride, threads * work.grads.dx.stride, work.grads.dx.depth,
                     &work.input.x, (end - first - thread + threads - 1) // threads, layout,
                     work.states.z + (first + thread) * layout.stride, threads * layout.stride,
                     &work.back.W_hx)
    if dx != NULL and work.grads.dx.placed:
        for t in range(low, high):
            # the rows that this thread has just computed
            rows = work.batch.offset[t] - first
            put_rows(work, &work.grads.dx, dx + rows * work.grads.dx.stride, work.grads.dx.stride, t, t + 1, 0,
                     work.grads.dx.depth, <int>((thread + threads - rows % threads) % threads), threads)
    if work.input.tokens != NULL:
        scatter_rows(work, first, end - first, thread, threads)
    while first < end:
        rows = min(<ptrdiff_t>CHUNK_ROWS, end - first)
        h_size = column_size(rows) * round_up(layout.units, LANES)
        to_columns(work.grads.dz_columns, work.states.z + first * layout.stride, layout.stride, rows,
                   thread, threads)
        if work.input.tokens == NULL:
            copy_to_panels(layout, work.grads.x_panels, &work.input.x, first, rows, 0, rows, thread,
                           threads)
        low_h, high_h = 0, rows         # those whose h_prev is not zero
        if work.layer.reverse and begins_at_zero(work, high - 1):
            high_h = min(rows, max(work.batch.offset[high - 1] - first, <ptrdiff_t>0))
        elif begins_at_zero(work, low):
            low_h = min(rows, max(work.batch.offset[low + 1] - first, <ptrdiff_t>0))
        for k in range(work.layer.phases):
            for row in range(low_h - low_h % layout.storage.at_once, low_h):
                clear_row(layout, work.grads.h_panels + k * h_size, layout.units, row, rows, thread, threads)
        for t in range(low, high):
            a = max(work.batch.offset[t], first)
            b = min(work.batch.offset[t + 1], first + rows)
            if a < b and work.layer.depth > 0 and not begins_at_zero(work, t):
                copy_to_panels(layout, work.grads.h_panels, &h,
                               slot_before(work, t) + a - work.batch.offset[t], b - a, a - first,
                               rows, thread, threads)
                if work.layer.phases > 1:
                    copy_to_panels(layout, work.grads.h_panels + h_size, &between, a, b - a, a - first,
                                   rows, thread, threads)
        barrier_wait(&work.barrier, thread, threads)
        if work.input.tokens == NULL:
            accumulate(work.grads.dW_hx, work.input.x.parts * work.input.x.depth, layout, 0,
                       cell.x_gates, work.grads.dz_columns, work.grads.x_panels, rows, 0, rows, adds,
                       thread, threads)
        for k in range(work.layer.phases if work.layer.depth > 0 else 0):
            phase = &work.layer.phase[k]
            accumulate(work.grads.dW_hh, layout.units, &phase.z, phase.place, phase.gate_of,
                       work.grads.dz_columns, work.grads.h_panels + k * h_size, rows, low_h, high_h,
                       adds, thread, threads)
        if work.grads.db != NULL:
            accumulate_bias(work.grads.db, layout, 0, cell.x_gates, work.grads.dz_columns, rows, adds,
                            thread, threads)
        if work.grads.down != NULL:
            for k in range(own_vectors(cell)):
                accumulate_own(work.grads.down + k * layout.units, layout, cell.own[k].gradient,
                               work.grads.dz_columns, rows, thread, threads)
        adds = True
        barrier_wait(&work.barrier, thread, threads)
        first += rows


cdef inline ptrdiff_t count_chunks(const Work* work) noexcept nogil:
    return (work.batch.steps + work.batch.chunk - 1) // work.batch.chunk


cdef void run_back_chunk(Work* work, ptrdiff_t number, int thread, int threads) noexcept nogil:
    # The number-th chunk in the order of the backward pass. The first one may replace the gradients.
    cdef Split split
    cdef ptrdiff_t low, high, k, t, first = 0, stride = work.grads.dy_stride
    cdef const real* dy = work.grads.dy
    cdef const real* dy_t = NULL
    cdef bint adds = work.grads.adds or number > 0
    if not work.layer.reverse:
        number = count_chunks(work) - 1 - number
    low = number * work.batch.chunk
    high = min(low + work.batch.chunk, work.batch.steps)
    split = split_team(work, rows_of(work, low), thread, threads)
    if work.grads.dy_rows != NULL:
        dy, stride, first = work.grads.dy_rows, work.layer.state_stride, work.batch.offset[low]
        take_rows(work, work.grads.dy_rows, stride, work.grads.dy, work.grads.dy_stride, low, high,
                  first_unit(work, &split), last_unit(work, &split),
                  split.last_block * work.layer.z.block, work.grads.dy_placed, False,
                  split.row_thread, split.row_threads)
    for k in range(high - low):
        t = low + k if work.layer.reverse else high - 1 - k
        deal_rows(&split, rows_of(work, t))
        if dy != NULL:
            dy_t = dy + (work.batch.offset[t] - first) * stride
        backward_step(work, t, dy_t, stride, &split)
        if split.unit_threads > 1:
            barrier_wait(&work.barrier, thread, threads)
        if work.layer.depth > 0 and not (work.grads.no_dh_0 and begins_at_zero(work, t)):
            backward_step_h(work, t, &split)
    barrier_wait(&work.barrier, thread, threads)
    contribute(work, low, high, adds, thread, threads)


cdef void backward_task(Work* work, int thread, int threads) noexcept nogil:
    for number in range(count_chunks(work)):
        run_back_chunk(work, number, thread, threads)
