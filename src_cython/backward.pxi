# Backpropagation through time: walk back through a chunk of steps, then add what the chunk
# contributes to the gradients of the input and the weights while it is in the cache.

cdef void clear_padding(const Work* work, real* z, ptrdiff_t z_stride, ptrdiff_t rows) noexcept nogil:
    # Beyond the last hidden unit an infinite input has left NaN (0 times infinity): z is the last
    # block of some rows, whose padding must not reach the sums over all units.
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t row, place, used = layout.units - (layout.blocks - 1) * layout.block
    for row in range(rows):
        for place in range(layout.places):
            memset(z + row * z_stride + place * layout.block + used, 0,
                   (layout.block - used) * sizeof(real))


cdef inline void backward_gates(const Work* work, ptrdiff_t t, const real* dy, ptrdiff_t block,
                                ptrdiff_t row, ptrdiff_t rows, ptrdiff_t z_stride,
                                ptrdiff_t state_stride, ptrdiff_t dy_stride) noexcept nogil:
    # Rows of one block, or blocks of one row: whatever is z_stride apart in z. dy begins at the first.
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t here = row * work.state_stride + block * layout.block
    cdef ptrdiff_t before = slot_before(work, t) * work.state_stride + here
    cdef ptrdiff_t after = slot_after(work, t) * work.state_stride + here
    cdef ptrdiff_t first = work.offset[t] + row
    work.cell.backward(
        work.z + first * layout.stride + block * layout.places * layout.block,
        work.dh + here, work.dc + here,
        dy, work.h + after, work.c + after, work.h + before, work.c + before, rows, layout.block,
        z_stride, state_stride, dy_stride)


cdef void backward_step(const Work* work, ptrdiff_t t, const real* dy, ptrdiff_t dy_stride,
                        const Split* split) noexcept nogil:
    # dz of this thread's rows and units of step t; dy is row 0 of the step.
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t blocks = split.last_block - split.block, apart = split.row_threads
    cdef ptrdiff_t places = layout.places * layout.block
    cdef ptrdiff_t block, i, row, rows, k, r, unit
    for i in range(split.tiles):
        row = split.row_thread + tile_begin(split, i) * apart
        rows = tile_begin(split, i + 1) - tile_begin(split, i)
        if rows < blocks:
            unit = split.block * layout.block
            for k in range(rows):
                r = row + k * apart
                backward_gates(work, t, NULL if dy == NULL else dy + r * dy_stride + unit,
                               split.block, r, blocks, places, layout.block, layout.block)
        else:
            for block in range(split.block, split.last_block):
                unit = block * layout.block
                backward_gates(work, t, NULL if dy == NULL else dy + row * dy_stride + unit, block,
                               row, rows, layout.stride * apart, work.state_stride * apart,
                               dy_stride * apart)
        if split.last_block * layout.block > layout.units:
            clear_padding(work, work.z + (work.offset[t] + row) * layout.stride
                          + (layout.blocks - 1) * places, layout.stride * apart, rows)


cdef void backward_step_h(const Work* work, ptrdiff_t t, const Split* split) noexcept nogil:
    # z_h = W_hh h_prev, so dh_prev += dz_h W_hh, for this thread's rows and units.
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t stride = work.state_stride * split.row_threads
    cdef ptrdiff_t z_stride = layout.stride * split.row_threads
    cdef ptrdiff_t depth = layout.gates * layout.block
    cdef const real* dz = work.z + (work.offset[t] + split.row_thread) * layout.stride + (
        layout.places - layout.gates) * layout.block
    cdef real* dh = work.dh + split.row_thread * work.state_stride
    cdef ptrdiff_t panel_size = layout.blocks * depth * PANEL
    cdef ptrdiff_t group = 1, groups = split.last_panel - split.panel
    cdef ptrdiff_t n, panel, many, i, row, after, columns
    cdef const real* next = NULL
    if split.own <= FEW_ROWS:
        group, groups = split.group_back, split.groups_back
    for n in range(groups):
        panel = split.panel + group * (groups - 1 - n if t & 1 else n)
        many = min(group, split.last_panel - panel)
        columns = min(many * PANEL, round_up(layout.units, LANES) - panel * PANEL)
        if split.looks_ahead:
            after = panel - 1 if t & 1 else panel + 1
            next = NULL if n + 1 == groups else work.W_hh_back + after * panel_size
        for i in range(split.tiles):
            row = tile_begin(split, i)
            tile[tile_begin(split, i + 1) - row](
                dh + row * stride + panel * PANEL, stride,
                dh + row * stride + panel * PANEL, stride, dz + row * z_stride, z_stride,
                layout.blocks, depth, layout.places * layout.block,
                work.W_hh_back + panel * panel_size, columns,
                look_ahead(next, i, PANEL, panel_size // PANEL))


cdef void scatter_rows(const Work* work, ptrdiff_t first, ptrdiff_t rows, int thread,
                       int threads) noexcept nogil:
    # dtable[token] += dz_x, this thread's share of the blocks
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t width = layout.gates * layout.block, places = layout.places * layout.block
    cdef ptrdiff_t row, block, k
    cdef const real* dz
    cdef real* out
    for row in range(first, first + rows):
        for block in range(share(layout.blocks, thread, threads),
                           share(layout.blocks, thread + 1, threads)):
            dz = work.z + row * layout.stride + block * places
            out = work.dtable + (work.tokens[row] * layout.blocks + block) * width
            for k in range(width // LANES):
                store(out + k * LANES, load(out + k * LANES) + load(dz + k * LANES))


cdef void contribute(Work* work, ptrdiff_t low, ptrdiff_t high, bint adds, int thread,
                     int threads) noexcept nogil:
    # z = W_hx x + b_h + W_hh h_prev: what the steps low to high contribute.
    cdef const Layout* layout = &work.z_layout
    cdef ptrdiff_t first = work.offset[low], end = work.offset[high]
    cdef ptrdiff_t places = layout.places - layout.gates
    cdef ptrdiff_t rows, t, a, b
    cdef Rows h = Rows(work.h, work.state_stride, 1, layout.units, 0)
    cdef real* dx = work.dx.data
    if dx != NULL:
        dx = work.dx_rows if work.dx.placed else dx + first * work.dx.stride
        project_back(dx + thread * work.dx.stride, threads * work.dx.stride, work.dx.depth,
                     &work.x, (end - first - thread + threads - 1) // threads, layout,
                     work.z + (first + thread) * layout.stride, threads * layout.stride,
                     work.W_hx_back)
    if dx != NULL and work.dx.placed:
        for t in range(low, high):
            # the rows that this thread has just computed
            rows = work.offset[t] - first
            put_rows(work, &work.dx, dx + rows * work.dx.stride, work.dx.stride, t, t + 1, 0,
                     work.dx.depth, <int>((thread + threads - rows % threads) % threads), threads)
    if work.tokens != NULL:
        scatter_rows(work, first, end - first, thread, threads)
    while first < end:
        rows = min(<ptrdiff_t>CHUNK_ROWS, end - first)
        columns_of(work.dz_columns, work.z + first * layout.stride, layout.stride, rows,
                   thread, threads)
        if work.tokens == NULL:
            copy_to_panels(work.x_panels, &work.x, first, rows, 0, column_size(rows), thread,
                           threads)
        for t in range(low, high):
            a = max(work.offset[t], first)
            b = min(work.offset[t + 1], first + rows)
            if a < b:
                copy_to_panels(work.h_panels, &h, slot_before(work, t) + a - work.offset[t], b - a,
                               a - first, column_size(rows), thread, threads)
        barrier_wait(&work.barrier, thread, threads)
        if work.tokens == NULL:
            accumulate(work.dW_hx, work.x.parts * work.x.depth, layout, 0, work.cell.x_gates,
                       work.dz_columns, work.x_panels, rows, adds, thread, threads)
        accumulate(work.dW_hh, layout.units, layout, places, work.cell.h_gates, work.dz_columns,
                   work.h_panels, rows, adds, thread, threads)
        if work.db_x != NULL:
            accumulate_bias(work.db_x, layout, 0, work.cell.x_gates, work.dz_columns, rows, adds,
                            thread, threads)
        if work.db_h != NULL:
            accumulate_bias(work.db_h, layout, places, work.cell.h_gates, work.dz_columns, rows,
                            adds, thread, threads)
        adds = True
        barrier_wait(&work.barrier, thread, threads)
        first += rows


cdef inline ptrdiff_t count_chunks(const Work* work) noexcept nogil:
    return (work.steps + work.chunk - 1) // work.chunk


cdef void backward_chunk(Work* work, ptrdiff_t number, int thread, int threads) noexcept nogil:
    # The number-th chunk in the order of the backward pass. The first one may replace the gradients.
    cdef Split split
    cdef ptrdiff_t low, high, k, t, first = 0, stride = work.dy_stride
    cdef const real* dy = work.dy
    cdef const real* dy_t = NULL
    cdef bint adds = work.adds or number > 0
    if not work.reverse:
        number = count_chunks(work) - 1 - number
    low = number * work.chunk
    high = min(low + work.chunk, work.steps)
    split = split_team(work, rows_of(work, low), thread, threads)
    if work.dy_rows != NULL:
        dy, stride, first = work.dy_rows, work.state_stride, work.offset[low]
        take_rows(work, work.dy_rows, stride, work.dy, work.dy_stride, low, high,
                  first_unit(work, &split), last_unit(work, &split),
                  split.last_block * work.z_layout.block, work.rank != NULL, False,
                  split.row_thread, split.row_threads)
    for k in range(high - low):
        t = low + k if work.reverse else high - 1 - k
        deal_rows(&split, rows_of(work, t))
        if dy != NULL:
            dy_t = dy + (work.offset[t] - first) * stride
        backward_step(work, t, dy_t, stride, &split)
        if split.unit_threads > 1:
            barrier_wait(&work.barrier, thread, threads)
        backward_step_h(work, t, &split)
    barrier_wait(&work.barrier, thread, threads)
    contribute(work, low, high, adds, thread, threads)


cdef void backward_task(Work* work, int thread, int threads) noexcept nogil:
    for number in range(count_chunks(work)):
        backward_chunk(work, number, thread, threads)


# A stack from the top, each layer a chunk behind the one above.

cdef void backward_wavefront_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Wavefront* wave = <Wavefront*>argument
    cdef int chunk, k, layer
    for chunk in range(<int>count_chunks(wave.work[0])):
        for k in range((wave.count - thread + threads - 1) // threads):
            layer = thread + k * threads
            if layer > 0:
                wait_until_above(&wave.done[layer - 1], chunk)
            backward_chunk(wave.work[layer], chunk, 0, 1)
            raise_to(&wave.done[layer], chunk + 1)


def backward_wavefront(list tasks, int threads):
    """Run a stack of layers of one direction backward, the top one first in `tasks`."""
    cdef Wavefront wave
    threads = set_wavefront(&wave, tasks, threads)
    with nogil:
        run_region(backward_wavefront_region, &wave, threads)


def backward_chunks(Task task):
    """Chunks of the backward pass."""
    return count_chunks(&task.work)


def backward(list tasks, int threads):
    """Run the directions of one layer backward; z is overwritten with its gradients."""
    run_directions(tasks, backward_task, threads)


def backward_sizes(Task task, ptrdiff_t rows):
    """Sizes of the packed weights and of the scratch buffers of the backward pass of so many rows."""
    cdef Layout* z = &task.work.z_layout
    cdef ptrdiff_t height = z.blocks * z.gates * z.block
    return {"W_hh_back": height * round_up(z.units, LANES), "panel": PANEL,
            "height": height, "dz_columns": z.stride * column_size(rows),
            "h_panels": round_up(z.units, LANES) * column_size(rows),
            "x_panels": round_up(task.work.input_size, LANES) * column_size(rows)}
