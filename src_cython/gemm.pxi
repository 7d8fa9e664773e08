# Matrix products over all rows of a chunk, on the tile that the recurrence uses.

cdef inline const weight* look_ahead(const weight* next, ptrdiff_t i, ptrdiff_t width,
                                     ptrdiff_t steps) noexcept nogil:
    # The part of the next panels, steps x width words, that the i-th tile prefetches. Larger than the
    # second cache, they would come too late by themselves.
    return NULL if next == NULL or i >= width // CACHE_LINE else next + i * steps * CACHE_LINE


cdef void project(real* z, ptrdiff_t z_apart, const Layout* layout, const Rows* x,
                  ptrdiff_t x_apart, ptrdiff_t rows, const Panels* W, const real* bias,
                  ptrdiff_t low, ptrdiff_t high) noexcept nogil:
    # z[row * z_apart] = x[row * x_apart] W^T + b, blocks low to high; the weights of a block stay in
    # the cache while the rows pass by, and so do those of several blocks if they are small.
    cdef ptrdiff_t width = layout.gates * layout.block
    cdef ptrdiff_t block_size = width * W.steps
    cdef ptrdiff_t count = (rows + layout.storage.rows - 1) // layout.storage.rows
    cdef ptrdiff_t z_stride = z_apart * layout.stride, x_stride = x_apart * x.stride
    cdef ptrdiff_t block = low, many = 1, i, row, above
    cdef bint large = are_large((high - low) * block_size * <ptrdiff_t>sizeof(weight))
    cdef const weight* next = NULL
    if layout.places == layout.gates:       # z of many blocks is in one piece, too
        many = max(panels_at_once(layout, W.steps) // layout.block_panels,
                   FIRST_CACHE // 4 // (block_size * <ptrdiff_t>sizeof(weight)), many)
    while block < high:
        many = min(many, high - block)
        if large:
            next = NULL if block + many == high else panel_at(W, (block + many) * width)
        for i in range(count):
            row = rows * i // count
            above = rows * (i + 1) // count
            layout.tile[above - row](
                z + row * z_stride + block * layout.places * layout.block, z_stride,
                bias + block * width, 0, x.data + row * x_stride, x_stride,
                x.parts, x.depth, x.part_stride, panel_at(W, block * width), many * width,
                look_ahead(next, i, layout.panel, many * W.steps * layout.block_panels))
        block += many


cdef void project_back(real* dx, ptrdiff_t stride, ptrdiff_t end, const Rows* x, ptrdiff_t rows,
                       const Layout* layout, const real* dz, ptrdiff_t dz_stride,
                       const Panels* W) noexcept nogil:
    # dx[row] = dz[row] W, its parts apart like those of x, and zeros from the last one to `end`. dz
    # begins at the first of the `gates` places that count.
    cdef ptrdiff_t depth = layout.gates * layout.block, panel_size = W.steps * PANEL
    cdef ptrdiff_t columns = (x.parts - 1) * x.part_stride + x.depth
    cdef ptrdiff_t count = round_up(columns, PANEL) // PANEL
    cdef ptrdiff_t tiles = (rows + layout.storage.rows - 1) // layout.storage.rows
    cdef ptrdiff_t group = panels_at_once(layout, W.steps)
    cdef ptrdiff_t panel = 0, many, i, row, above, r, width, rest
    cdef bint fits, large = are_large(count * panel_size * <ptrdiff_t>sizeof(weight))
    cdef real edge[MOST_TILE_SUMS]
    cdef real* out
    cdef const weight* next = NULL
    while panel < count:
        # the last panel by itself, since it may not fit
        many = max(min(group, count - 1 - panel), <ptrdiff_t>1)
        width, rest = min(many * PANEL, W.columns - panel * PANEL), end - panel * PANEL
        fits = rest >= width
        if large:
            next = NULL if panel + many == count else panel_at(W, (panel + many) * PANEL)
        for i in range(tiles):
            row = rows * i // tiles
            above = rows * (i + 1) // tiles
            out = dx + row * stride + panel * PANEL
            layout.wide[above - row](
                              out if fits else edge, stride if fits else PANEL, NULL, 0,
                              dz + row * dz_stride, dz_stride, layout.blocks, depth,
                              layout.places * layout.block, panel_at(W, panel * PANEL), width,
                              look_ahead(next, i, PANEL, many * W.steps))
            if panel + many < count:
                continue
            for r in range(above - row):
                if fits:
                    memset(out + r * stride + width, 0, (rest - width) * sizeof(real))
                else:
                    memcpy(out + r * stride, edge + r * PANEL, rest * sizeof(real))
        panel += many


# Weight gradients: dW[m][j] (+)= sum_row dz[row][m] x[row][j], a chunk of at most CHUNK_ROWS rows at
# a time. dz is turned into columns and x into panels, which makes it the same tile as above.
# Each chunk is summed from zero and then added, or put in the place of what stood there: the order
# depends on the rows alone.

cdef void to_columns(real* columns, const real* dz, ptrdiff_t dz_stride, ptrdiff_t rows, int thread,
                     int threads) noexcept nogil:
    # columns[m][row] = dz[row][m], this thread's share of the dz_stride columns
    cdef ptrdiff_t vectors = dz_stride // LANES, whole = rows // LANES * LANES
    cdef ptrdiff_t size = column_size(rows)
    cdef ptrdiff_t vector, i, row, lane
    for vector in range(share(vectors, thread, threads), share(vectors, thread + 1, threads)):
        for i in range(rows // LANES):
            row = i * LANES
            transpose(columns + vector * LANES * size + row, size,
                      dz + row * dz_stride + vector * LANES, dz_stride)
        for row in range(whole, rows):
            for lane in range(LANES):
                columns[(vector * LANES + lane) * size + row] = (
                    dz[row * dz_stride + vector * LANES + lane])


cdef inline void copy_to_panels(const Layout* z, real* data, const Rows* x, ptrdiff_t first,
                                ptrdiff_t rows, ptrdiff_t at, ptrdiff_t chunk, int thread,
                                int threads) noexcept nogil:
    # panels[at + row][column] = x[first + row][column], zeros beyond the last column, of a chunk of so
    # many rows; this thread's share of the panels. A word that it begins within is zero before.
    cdef ptrdiff_t columns = x.parts * x.depth
    cdef Panels panels = row_panels(z, data, columns, chunk)
    cdef ptrdiff_t count = round_up(columns, PANEL) // PANEL
    cdef ptrdiff_t panel, row, j, part, begin, width, filled, run
    cdef const real* source
    cdef bint two
    for panel in range(share(count, thread, threads), share(count, thread + 1, threads)):
        width = panel_width(&panels, panel * PANEL)
        filled = min(width, columns - panel * PANEL)
        row = 0
        while row < rows:
            two = z.storage.together == 2 and (at + row) % 2 == 0 and row + 1 < rows
            source = x.data + (first + row) * x.stride
            part, begin, j = panel * PANEL // x.depth, panel * PANEL % x.depth, 0
            while j < filled:       # columns that stand side by side in x
                run = min(filled - j, x.depth - begin)
                pack_rows(&panels, at + row, panel * PANEL + j, source + part * x.part_stride + begin,
                          x.stride if two else 0, run)
                part, begin, j = part + 1, 0, j + run
            clear_words(&panels, at + row, panel * PANEL, filled)
            row += 2 if two else 1


cdef void clear_row(const Layout* z, real* data, ptrdiff_t columns, ptrdiff_t row, ptrdiff_t chunk,
                    int thread, int threads) noexcept nogil:
    # Zeros in the words of one row of such panels.
    cdef Panels panels = row_panels(z, data, columns, chunk)
    cdef ptrdiff_t count = round_up(columns, PANEL) // PANEL, panel
    for panel in range(share(count, thread, threads), share(count, thread + 1, threads)):
        clear_words(&panels, row, panel * PANEL, 0)


cdef void accumulate(real* dW, ptrdiff_t columns, const Layout* layout, ptrdiff_t first_place,
                     const int* gate_of, const real* dz_columns, const real* x_panels,
                     ptrdiff_t rows, ptrdiff_t begin, ptrdiff_t end, bint adds, int thread,
                     int threads) noexcept nogil:
    # This thread's share of the blocks of dW, as many at a time as stay in the second cache; of the
    # chunk's rows x is zero before `begin` and from `end` on, and its panels hold nothing there, but for
    # zeros from where those are that are added together with `begin`.
    cdef ptrdiff_t height = layout.gates * layout.block
    cdef ptrdiff_t low = share(layout.blocks, thread, threads), high
    cdef ptrdiff_t last = share(layout.blocks, thread + 1, threads)
    cdef ptrdiff_t many = max(<ptrdiff_t>1, SUMS_IN_CACHE // (height * column_size(rows)))
    cdef Panels panels = row_panels(layout, <real*>x_panels, columns, rows)
    begin -= begin % layout.storage.at_once     # so that what is added together does not change
    while low < last:
        high = min(low + many, last)
        accumulate_blocks(dW, columns, layout, first_place, gate_of, dz_columns + begin, &panels,
                          begin, end - begin, adds, low, high)
        low = high


cdef void accumulate_blocks(real* dW, ptrdiff_t columns, const Layout* layout,
                            ptrdiff_t first_place, const int* gate_of, const real* dz_columns,
                            const Panels* panels, ptrdiff_t begin, ptrdiff_t rows, bint adds,
                            ptrdiff_t low, ptrdiff_t high) noexcept nogil:
    cdef ptrdiff_t height = layout.gates * layout.block
    cdef ptrdiff_t tiles = (height + layout.storage.rows - 1) // layout.storage.rows, size = panels.depth
    # Several panels at a time where they are full, as then they are one behind the other for the tile.
    cdef ptrdiff_t column = 0, many = PANEL, block, i, m, above, r, j, inside, unit, width, padded
    cdef const real* a
    cdef real sums[FEWER_PANELS * MOST_TILE_SUMS]
    cdef real* out[MOST_TILE_ROWS]
    cdef vec before
    if begin == 0 and rows == panels.depth:
        many = min(panels_at_once(layout, panels.steps), <ptrdiff_t>FEWER_PANELS) * PANEL
    while column < columns:
        width, padded = min(many, columns - column), min(many, panels.columns - column)
        for block in range(low, high):
            a = dz_columns + (block * layout.places + first_place) * layout.block * size
            for i in range(tiles):
                m = height * i // tiles
                above = height * (i + 1) // tiles
                for r in range(above - m):
                    inside = m + r
                    unit = block * layout.block + inside % layout.block
                    out[r] = NULL
                    if unit < layout.units:
                        out[r] = dW + column + columns * (
                            gate_of[inside // layout.block] * layout.units + unit)
                        for j in range(padded // LANES):
                            prefetch_write(out[r] + j * LANES)
                layout.wide[above - m](
                    sums, many, NULL, 0, a + m * size, size, 1, rows, 0,
                    weight_at(panels, begin, column), padded, NULL)
                for r in range(above - m):
                    if out[r] == NULL:
                        continue
                    for j in range(width // LANES):
                        before = load(out[r] + j * LANES) if adds else splat(0)
                        store(out[r] + j * LANES, before + load(sums + r * many + j * LANES))
                    for j in range(width // LANES * LANES, width):
                        out[r][j] = (out[r][j] if adds else 0) + sums[r * many + j]
        column += many


cdef void accumulate_bias(real* db, const Layout* layout, ptrdiff_t first_place,
                          const int* gate_of, const real* dz_columns, ptrdiff_t rows, bint adds,
                          int thread, int threads) noexcept nogil:
    # db[m] (+)= sum_row dz[row][m], this thread's share of the blocks
    cdef ptrdiff_t block, inside, unit, row, size = column_size(rows)
    cdef const real* a
    cdef real* out
    for block in range(share(layout.blocks, thread, threads),
                       share(layout.blocks, thread + 1, threads)):
        a = dz_columns + (block * layout.places + first_place) * layout.block * size
        for inside in range(layout.gates * layout.block):
            unit = block * layout.block + inside % layout.block
            if unit < layout.units:
                out = db + gate_of[inside // layout.block] * layout.units + unit
                out[0] = (out[0] if adds else 0) + sum_of(a + inside * size, rows)


cdef inline real sum_of(const real* a, ptrdiff_t count) noexcept nogil:
    # A fixed order: one sum a lane, then the lanes, then the rest.
    cdef vec lanes = splat(0)
    cdef real parts[MOST_LANES]
    cdef real total = 0
    cdef ptrdiff_t k = 0, lane
    while k + LANES <= count:
        lanes = lanes + load(a + k)
        k += LANES
    store(parts, lanes)
    for lane in range(LANES):
        total += parts[lane]
    while k < count:
        total += a[k]
        k += 1
    return total


cdef void accumulate_own(real* down, const Layout* layout, ptrdiff_t place, const real* dz_columns,
                         ptrdiff_t rows, int thread, int threads) noexcept nogil:
    # down[unit] += sum_row of one place, this thread's share of the blocks
    cdef ptrdiff_t block, unit, size = column_size(rows)
    for block in range(share(layout.blocks, thread, threads),
                       share(layout.blocks, thread + 1, threads)):
        for unit in range(block * layout.block, min((block + 1) * layout.block, layout.units)):
            down[unit] += sum_of(dz_columns + (
                (block * layout.places + place) * layout.block + unit % layout.block) * size, rows)
