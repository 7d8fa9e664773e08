# Weights into panels, and pre-activation tables out of weights. Done once per optimizer step in
# training, once per model in inference. Rows are read in the order of the gates, which no processor
# guesses: those of large weights are fetched some rows ahead.

cdef enum:
    ROWS_AHEAD = 16


cdef inline ptrdiff_t weight_row(const Layout* z, const int* gate_of, ptrdiff_t column) noexcept nogil:
    # Which row of a (gates * units, columns) weight array stands at `column` of the gates of a
    # row, (blocks, gates, block); -1 beyond the last unit.
    cdef ptrdiff_t inside = column % (z.gates * z.block)
    cdef ptrdiff_t unit = column // (z.gates * z.block) * z.block + inside % z.block
    if unit >= z.units:
        return -1
    return gate_of[inside // z.block] * z.units + unit


cdef void pack_weights(real* panels, const real* W, ptrdiff_t depth, const Layout* z,
                       const int* gate_of, int thread, int threads) noexcept nogil:
    # panels[p][k][j] = W[row of column p * z.panel + j][k], this thread's share of the columns;
    # LANES of them at a time, which are neighbouring units of one gate
    cdef ptrdiff_t columns = z.blocks * z.gates * z.block
    cdef ptrdiff_t vector, column, lane, row, after, k
    cdef bint large = are_large(z.gates * z.units * depth)
    cdef real* out
    for vector in range(share(columns // LANES, thread, threads),
                        share(columns // LANES, thread + 1, threads)):
        column = vector * LANES
        out = panels + column // z.panel * depth * z.panel + column % z.panel
        after = weight_row(z, gate_of, column + LANES) if large else -1
        k = 0
        if weight_row(z, gate_of, column + LANES - 1) >= 0:
            row = weight_row(z, gate_of, column)
            while k + LANES <= depth:
                for lane in range(LANES if after >= 0 and k % CACHE_LINE == 0 else 0):
                    fetch(W + (after + lane) * depth + k)
                transpose(out + k * z.panel, z.panel, W + row * depth + k, depth)
                k += LANES
        for lane in range(LANES):
            row = weight_row(z, gate_of, column + lane)
            pack_column(out + lane, z.panel, NULL if row < 0 else W + row * depth, k, depth)


cdef inline void pack_column(real* out, ptrdiff_t width, const real* row, ptrdiff_t k,
                             ptrdiff_t depth) noexcept nogil:
    while k < depth:
        out[k * width] = 0 if row == NULL else row[k]
        k += 1


cdef void pack_weights_back(real* panels, const real* W, ptrdiff_t parts, ptrdiff_t depth,
                            ptrdiff_t part_stride, const Layout* z, const int* gate_of, int thread,
                            int threads) noexcept nogil:
    # panels[p][m][j] = W[row of m][column p * PANEL + j]; columns stand in parts, part_stride apart.
    # Threads share the panels, if their number allows it and the weights are not large. Then each packs
    # what it will read, and in the part of the memory where it packed for the forward pass: nothing
    # goes from core to core. Else they share the m.
    cdef ptrdiff_t height = z.blocks * z.gates * z.block
    cdef ptrdiff_t columns = (parts - 1) * part_stride + depth
    cdef ptrdiff_t count = round_up(columns, PANEL) // PANEL
    cdef bint padded = columns % LANES > 0 or parts * depth < columns or (
        z.blocks * z.block > z.units)
    cdef bint large = are_large(z.gates * z.units * columns)
    cdef bint by_panels = count % threads == 0 and not large
    cdef ptrdiff_t first = share(count, thread, threads) if by_panels else 0
    cdef ptrdiff_t last = share(count, thread + 1, threads) if by_panels else count
    cdef ptrdiff_t low = 0 if by_panels else share(height, thread, threads)
    cdef ptrdiff_t high = height if by_panels else share(height, thread + 1, threads)
    cdef ptrdiff_t m, row, after, part, column, end, many, panel, width, k
    for m in range(low, high):
        row = weight_row(z, gate_of, m)
        after = weight_row(z, gate_of, m + ROWS_AHEAD) if large else -1
        if padded:
            for panel in range(first, last):
                width = panel_width(columns, panel)
                memset(panels + panel * height * PANEL + m * width, 0, width * sizeof(real))
        if row < 0:
            continue
        if after >= 0:
            for k in range(parts * depth // CACHE_LINE):
                fetch(W + after * parts * depth + k * CACHE_LINE)
        for part in range(parts):
            column = max(part * part_stride, first * PANEL)
            end = min(part * part_stride + depth, last * PANEL)
            while column < end:
                panel = column // PANEL
                many = min((panel + 1) * PANEL, end) - column
                memcpy(panels + panel * height * PANEL + m * panel_width(columns, panel)
                       + column % PANEL,
                       W + (row * parts + part) * depth + column - part * part_stride,
                       many * sizeof(real))
                column += many


cdef struct Packing:
    const Layout* z
    const Cell* cell
    ptrdiff_t input_size
    real* W_hx                  # OUT, NULL: left out
    const real* W_hx_given
    real* W_hh                  # OUT
    const real* W_hh_given
    ptrdiff_t parts             # of the columns of W_hx, for the backward pass
    ptrdiff_t part_stride


cdef void pack_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Packing* p = <Packing*>argument
    if p.W_hx != NULL:
        pack_weights(p.W_hx, p.W_hx_given, p.input_size, p.z, p.cell.x_gates, thread, threads)
    pack_weights(p.W_hh, p.W_hh_given, p.z.units, p.z, p.cell.h_gates, thread, threads)


cdef void pack_back_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Packing* p = <Packing*>argument
    if p.W_hx != NULL:
        pack_weights_back(p.W_hx, p.W_hx_given, p.parts, p.input_size // p.parts, p.part_stride,
                          p.z, p.cell.x_gates, thread, threads)
    pack_weights_back(p.W_hh, p.W_hh_given, 1, p.z.units, 0, p.z, p.cell.h_gates, thread, threads)


cdef void spread_gates(real* out, const real* values, ptrdiff_t value_stride, const real* add,
                       const Layout* z, const int* gate_of) noexcept nogil:
    # out[column] = values[row of column] + add[column]; zero beyond the last unit
    # Each number is written once: another thread may read the same values meanwhile.
    cdef ptrdiff_t column, row
    cdef real value
    for column in range(z.blocks * z.gates * z.block):
        row = weight_row(z, gate_of, column)
        value = 0 if row < 0 else values[row * value_stride]
        out[column] = value if add == NULL else value + add[column]


cdef void gather_gates(real* values, ptrdiff_t value_stride, const real* spread, const Layout* z,
                       const int* gate_of) noexcept nogil:
    # values[row of column] += spread[column]
    cdef ptrdiff_t column, row
    for column in range(z.blocks * z.gates * z.block):
        row = weight_row(z, gate_of, column)
        if row >= 0:
            values[row * value_stride] += spread[column]


cdef void run_packing(region kernel, Packing* packing, int threads):
    cdef ptrdiff_t numbers = packing.z.gates * packing.z.units * (
        packing.z.units + packing.input_size)
    with nogil:
        run_region(kernel, packing, worthwhile(threads, numbers * 16))


def pack(Task task, W_hx, W_hh, b_x, b_h, packed_W_hx, packed_W_hh, packed_b_x, packed_b_h,
         int threads):
    """Pack weights (gates * hidden_size, ...) for the forward pass. None is left out."""
    cdef Work* work = &task.work
    cdef Layout* z = &work.z_layout
    cdef Packing packing = Packing(z, work.cell, work.input_size, reals(packed_W_hx), reals(W_hx),
                                   reals(packed_W_hh), reals(W_hh), 1, 0)
    run_packing(pack_region, &packing, threads)
    if b_x is None:
        memset(reals(packed_b_x), 0, z.blocks * z.gates * z.block * sizeof(real))
    else:
        spread_gates(reals(packed_b_x), reals(b_x), 1, NULL, z, work.cell.x_gates)
    if packed_b_h is not None:
        spread_gates(reals(packed_b_h), reals(b_h), 1, NULL, z, work.cell.h_gates)


def pack_back(Task task, W_hx, W_hh, ptrdiff_t parts, ptrdiff_t part_stride, packed_W_hx,
              packed_W_hh, int threads):
    """Pack weights for the backward pass; the columns of W_hx stand in parts. None is left out."""
    cdef Packing packing = Packing(&task.work.z_layout, task.work.cell, task.work.input_size,
                                   reals(packed_W_hx), reals(W_hx), reals(packed_W_hh),
                                   reals(W_hh), parts, part_stride)
    run_packing(pack_back_region, &packing, threads)


def one_hot_table(Task task, table, W_hx, packed_b_x, tokens):
    """table[n] = W_hx e_v + b_h for the n-th token v, in the engine's layout."""
    cdef Work* work = &task.work
    cdef Layout* z = &work.z_layout
    cdef ptrdiff_t n, width = z.blocks * z.gates * z.block
    cdef real* out = reals(table)
    cdef const real* W = reals(W_hx)
    cdef const real* b = reals(packed_b_x)
    cdef const ptrdiff_t* token = <const ptrdiff_t*>data(tokens, sizeof(ptrdiff_t))
    for n in range(<ptrdiff_t>len(tokens)):
        spread_gates(out + n * width, W + token[n], task.work.input_size, b, z, work.cell.x_gates)


def one_hot_gradient(Task task, dtable, dW_hx, tokens):
    """dW_hx e_v += dtable[n] for the n-th token v."""
    cdef Work* work = &task.work
    cdef Layout* z = &work.z_layout
    cdef ptrdiff_t n, width = z.blocks * z.gates * z.block
    cdef const real* spread = reals(dtable)
    cdef real* W = reals(dW_hx)
    cdef const ptrdiff_t* token = <const ptrdiff_t*>data(tokens, sizeof(ptrdiff_t))
    for n in range(<ptrdiff_t>len(tokens)):
        gather_gates(W + token[n], task.work.input_size, spread + n * width, z, work.cell.x_gates)
