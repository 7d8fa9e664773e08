# Matrix products over all rows of a chunk, on the tile that the recurrence uses.

cdef inline const real* look_ahead(const real* next, ptrdiff_t i, ptrdiff_t width,
                                   ptrdiff_t depth) noexcept nogil:
    # The part of the next panels, depth x width numbers, that the i-th tile brings. Larger than the
    # second cache, they would come too late by themselves.
    return NULL if next == NULL or i >= width // CACHE_LINE else next + i * depth * CACHE_LINE


cdef void project(real* z, ptrdiff_t z_apart, const Layout* layout, const Rows* x,
                  ptrdiff_t x_apart, ptrdiff_t rows, const real* panels, const real* bias,
                  ptrdiff_t low, ptrdiff_t high) noexcept nogil:
    # z[row * z_apart] = x[row * x_apart] W^T + b, blocks low to high; the weights of a block stay in
    # the cache while the rows pass by, and so do those of several blocks if they are small.
    cdef ptrdiff_t width = layout.gates * layout.block
    cdef ptrdiff_t depth = x.parts * x.depth, block_size = width * depth
    cdef ptrdiff_t count = (rows + TILE_ROWS - 1) // TILE_ROWS
    cdef ptrdiff_t z_stride = z_apart * layout.stride, x_stride = x_apart * x.stride
    cdef ptrdiff_t block = low, many = 1, i, row, above
    cdef const real* next = NULL
    if layout.places == layout.gates:       # z of many blocks is in one piece, too
        many = max(many, FIRST_CACHE // 4 // (block_size * <ptrdiff_t>sizeof(real)))
    while block < high:
        many = min(many, high - block)
        if are_large((high - low) * block_size):
            next = NULL if block + many == high else panels + (block + many) * block_size
        for i in range(count):
            row = rows * i // count
            above = rows * (i + 1) // count
            layout.tile[above - row](
                z + row * z_stride + block * layout.places * layout.block, z_stride,
                bias + block * width, 0, x.data + row * x_stride, x_stride,
                x.parts, x.depth, x.part_stride, panels + block * block_size,
                many * width,
                look_ahead(next, i, layout.panel, many * depth * layout.block_panels))
        block += many


cdef inline ptrdiff_t panel_width(ptrdiff_t columns, ptrdiff_t panel) noexcept nogil:
    # Of a matrix of so many columns in panels of PANEL, the last one in as few vectors as it needs.
    return min(PANEL, round_up(columns - panel * PANEL, LANES))


cdef void project_back(real* dx, ptrdiff_t stride, ptrdiff_t end, const Rows* x, ptrdiff_t rows,
                       const Layout* layout, const real* dz, ptrdiff_t dz_stride,
                       const real* panels) noexcept nogil:
    # dx[row] = dz[row] W, its parts apart like those of x, and zeros from the last one to `end`. dz
    # begins at the first of the `gates` places that count.
    cdef ptrdiff_t depth = layout.gates * layout.block
    cdef ptrdiff_t panel_size = layout.blocks * depth * PANEL
    cdef ptrdiff_t columns = (x.parts - 1) * x.part_stride + x.depth
    cdef ptrdiff_t count = round_up(columns, PANEL) // PANEL
    cdef ptrdiff_t tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    cdef ptrdiff_t panel, i, row, above, r, width, rest
    cdef bint fits
    cdef real edge[6 * 64]
    cdef real* out
    cdef const real* next = NULL
    for panel in range(count):
        width, rest = panel_width(columns, panel), end - panel * PANEL
        fits = rest >= width
        if are_large(count * panel_size):
            next = NULL if panel + 1 == count else panels + (panel + 1) * panel_size
        for i in range(tiles):
            row = rows * i // tiles
            above = rows * (i + 1) // tiles
            out = dx + row * stride + panel * PANEL
            tile[above - row](out if fits else edge, stride if fits else PANEL, NULL, 0,
                              dz + row * dz_stride, dz_stride, layout.blocks, depth,
                              layout.places * layout.block, panels + panel * panel_size, width,
                              look_ahead(next, i, PANEL, panel_size // PANEL))
            if panel + 1 < count:
                continue
            for r in range(above - row):
                if fits:
                    memset(out + r * stride + width, 0, (rest - width) * sizeof(real))
                else:
                    memcpy(out + r * stride, edge + r * PANEL, rest * sizeof(real))


# Weight gradients: dW[m][j] (+)= sum_row dz[row][m] x[row][j], a chunk of at most CHUNK_ROWS rows at
# a time. dz is turned into columns and x into panels, which makes it the same tile as above.
# Each chunk is summed from zero and then added, or put in the place of what stood there: the order
# depends on the rows alone.

cdef inline ptrdiff_t column_size(ptrdiff_t rows) noexcept nogil:
    # Numbers from one column of a chunk of rows to the next, and rows of its panels.
    return round_up(min(rows, <ptrdiff_t>CHUNK_ROWS), LANES)


cdef void columns_of(real* columns, const real* dz, ptrdiff_t dz_stride, ptrdiff_t rows, int thread,
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


cdef inline void copy_to_panels(real* panels, const Rows* x, ptrdiff_t first, ptrdiff_t rows,
                                ptrdiff_t at, ptrdiff_t size, int thread,
                                int threads) noexcept nogil:
    # panels[p][at + row][j] = x[first + row][p * PANEL + j], zeros beyond the last column, panels
    # of `size` rows; this thread's share of the panels
    cdef ptrdiff_t columns = x.parts * x.depth
    cdef ptrdiff_t count = round_up(columns, PANEL) // PANEL
    cdef ptrdiff_t panel, row, j, column, width, whole
    cdef const real* source
    cdef real* out
    for panel in range(share(count, thread, threads), share(count, thread + 1, threads)):
        width = panel_width(columns, panel)
        whole = 0       # columns that stand side by side in x, in vectors
        if x.parts == 1:
            whole = min(width, (columns - panel * PANEL) // LANES * LANES)
        for row in range(rows):
            source = x.data + (first + row) * x.stride
            out = panels + panel * size * PANEL + (at + row) * width
            for j in range(whole // LANES):
                store(out + j * LANES, load(source + panel * PANEL + j * LANES))
            for j in range(whole, width):
                column = panel * PANEL + j
                out[j] = 0 if column >= columns else (
                    source[column // x.depth * x.part_stride + column % x.depth])


cdef void accumulate(real* dW, ptrdiff_t columns, const Layout* layout, ptrdiff_t first_place,
                     const int* gate_of, const real* dz_columns, const real* panels,
                     ptrdiff_t rows, bint adds, int thread, int threads) noexcept nogil:
    # This thread's share of the blocks of dW, as many at a time as stay in the second cache.
    cdef ptrdiff_t height = layout.gates * layout.block
    cdef ptrdiff_t low = share(layout.blocks, thread, threads), high
    cdef ptrdiff_t last = share(layout.blocks, thread + 1, threads)
    cdef ptrdiff_t many = max(<ptrdiff_t>1, 65536 // (height * column_size(rows)))
    while low < last:
        high = min(low + many, last)
        accumulate_blocks(dW, columns, layout, first_place, gate_of, dz_columns, panels, rows,
                          adds, low, high)
        low = high


cdef void accumulate_blocks(real* dW, ptrdiff_t columns, const Layout* layout,
                            ptrdiff_t first_place, const int* gate_of, const real* dz_columns,
                            const real* panels, ptrdiff_t rows, bint adds, ptrdiff_t low,
                            ptrdiff_t high) noexcept nogil:
    cdef ptrdiff_t height = layout.gates * layout.block
    cdef ptrdiff_t tiles = (height + TILE_ROWS - 1) // TILE_ROWS, size = column_size(rows)
    cdef ptrdiff_t panel, block, i, m, above, r, j, inside, unit, width
    cdef const real* a
    cdef real sums[6 * 64]
    cdef real* out[6]
    cdef vec before
    for panel in range(round_up(columns, PANEL) // PANEL):
        width = min(PANEL, columns - panel * PANEL)
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
                        out[r] = dW + panel * PANEL + columns * (
                            gate_of[inside // layout.block] * layout.units + unit)
                        for j in range(panel_width(columns, panel) // LANES):
                            expect(out[r] + j * LANES)
                tile[above - m](sums, PANEL, NULL, 0, a + m * size, size, 1, rows, 0,
                                panels + panel * size * PANEL, panel_width(columns, panel), NULL)
                for r in range(above - m):
                    if out[r] == NULL:
                        continue
                    for j in range(width // LANES):
                        before = load(out[r] + j * LANES) if adds else splat(0)
                        store(out[r] + j * LANES, before + load(sums + r * PANEL + j * LANES))
                    for j in range(width // LANES * LANES, width):
                        out[r][j] = (out[r][j] if adds else 0) + sums[r * PANEL + j]


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
    cdef real parts[16]
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


# y = x W^T + b by itself: a linear layer, which is a layout with one gate, so that its rows stand
# in their natural order; or the projection of an embedding table into the layout of a cell.

cdef int NATURAL[1]
NATURAL[:] = [0]

cdef struct Linear:
    Layout layout
    const int* gate_of
    Rows x
    ptrdiff_t rows
    const real* W
    const real* b
    real* y
    # backward
    const real* W_back
    real* dx
    ptrdiff_t dx_stride
    real* dW
    real* db
    bint adds                   # to dW and db; False: they are only written to
    real* dy_columns
    real* x_panels
    Barrier barrier


cdef void linear_forward_region(void* argument, int thread, int threads) noexcept nogil:
    # A chunk of rows at a time, so that they stay in the second cache for all blocks.
    cdef Linear* linear = <Linear*>argument
    cdef ptrdiff_t first = share(linear.rows, thread, threads)
    cdef ptrdiff_t end = share(linear.rows, thread + 1, threads), rows
    cdef Rows x = linear.x
    x.data = x.data + first * x.stride
    while first < end:
        rows = min(<ptrdiff_t>SHORT_CHUNK_ROWS, end - first)
        project(linear.y + first * linear.layout.stride, 1, &linear.layout, &x, 1, rows, linear.W,
                linear.b, 0, linear.layout.blocks)
        x.data = x.data + rows * x.stride
        first += rows


cdef void linear_backward_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Linear* linear = <Linear*>argument
    cdef Layout* layout = &linear.layout
    cdef ptrdiff_t first = share(linear.rows, thread, threads)
    cdef ptrdiff_t end = share(linear.rows, thread + 1, threads), rows
    cdef bint adds = linear.adds
    while linear.dx != NULL and first < end:
        rows = min(<ptrdiff_t>SHORT_CHUNK_ROWS, end - first)
        project_back(linear.dx + first * linear.dx_stride, linear.dx_stride, linear.x.depth,
                     &linear.x, rows, layout, linear.y + first * layout.stride, layout.stride,
                     linear.W_back)
        first += rows
    first = 0
    while first < linear.rows:
        rows = min(<ptrdiff_t>CHUNK_ROWS, linear.rows - first)
        columns_of(linear.dy_columns, linear.y + first * layout.stride, layout.stride, rows,
                   thread, threads)
        copy_to_panels(linear.x_panels, &linear.x, first, rows, 0, column_size(rows), thread,
                       threads)
        barrier_wait(&linear.barrier, thread, threads)
        accumulate(linear.dW, linear.x.depth, layout, 0, linear.gate_of, linear.dy_columns,
                   linear.x_panels, rows, adds, thread, threads)
        if linear.db != NULL:
            accumulate_bias(linear.db, layout, 0, linear.gate_of, linear.dy_columns, rows, adds,
                            thread, threads)
        adds = True
        barrier_wait(&linear.barrier, thread, threads)
        first += rows


def linear_sizes(ptrdiff_t in_features, ptrdiff_t out_features, ptrdiff_t rows=0):
    """Row length of y, sizes of the packed weights, and of the scratch for so many rows."""
    cdef Layout layout = layout_of(out_features, 1, 1)
    return {"y": layout.stride, "W": layout.stride * in_features,
            "W_back": layout.stride * round_up(in_features, LANES),
            "dy_columns": layout.stride * column_size(rows),
            "x_panels": round_up(in_features, LANES) * column_size(rows)}


def linear_pack(W, b, packed_W, packed_b, packed_W_back):
    """Pack W (out_features, in_features) for both passes. None is left out."""
    cdef Layout layout = layout_of(len(W), 1, 1)
    pack_weights(reals(packed_W), reals(W), W.shape[1], &layout, NATURAL, 0, 1)
    if b is None:
        memset(reals(packed_b), 0, layout.stride * sizeof(real))
    else:
        spread_gates(reals(packed_b), reals(b), 1, NULL, &layout, NATURAL)
    if packed_W_back is not None:
        pack_weights_back(reals(packed_W_back), reals(W), 1, W.shape[1], 0, &layout, NATURAL, 0,
                          1)


cdef void run_linear(region kernel, Linear* linear, int threads):
    with nogil:
        run_region(kernel, linear,
                   worthwhile(threads, linear.rows * linear.x.depth * linear.layout.stride))


def linear_forward(y, x, ptrdiff_t first, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t in_features,
                   ptrdiff_t out_features, packed_W, packed_b, int threads):
    """y = x W^T + b for rows of x that begin at `first`, `stride` apart, in a flat array."""
    cdef Linear linear
    memset(&linear, 0, sizeof(Linear))
    linear.layout = layout_of(out_features, 1, 1)
    linear.x = Rows(reals(x) + first, stride, 1, in_features, 0)
    linear.rows = rows
    linear.W = reals(packed_W)
    linear.b = reals(packed_b)
    linear.y = reals(y)
    run_linear(linear_forward_region, &linear, threads)


def linear_backward(dy, x, ptrdiff_t first, ptrdiff_t stride, ptrdiff_t rows,
                    ptrdiff_t in_features, ptrdiff_t out_features, packed_W_back, dx,
                    ptrdiff_t dx_stride, dW, db, bint adds, dy_columns, x_panels, int threads):
    """dx = dy W; dW += dy^T x; db += sum dy. dx or db None: nobody wants it.

    `adds` False: dW and db are replaced, for which it takes a row.
    """
    cdef Linear linear
    memset(&linear, 0, sizeof(Linear))
    linear.layout = layout_of(out_features, 1, 1)
    linear.gate_of = NATURAL
    linear.x = Rows(reals(x) + first, stride, 1, in_features, 0)
    linear.rows = rows
    linear.y = reals(dy)
    linear.W_back = reals(packed_W_back)
    linear.dx = reals(dx)
    linear.dx_stride = dx_stride
    linear.dW = reals(dW)
    linear.db = reals(db)
    linear.adds = adds
    linear.dy_columns = reals(dy_columns)
    linear.x_panels = reals(x_panels)
    run_linear(linear_backward_region, &linear, threads)


cdef Linear table_of(Task task, embedding, ptrdiff_t vocabulary, table):
    cdef Linear linear
    cdef Layout z = task.work.z_layout
    memset(&linear, 0, sizeof(Linear))
    linear.layout = layout_of(z.units, z.gates, z.gates)
    linear.gate_of = task.work.cell.x_gates
    linear.x = Rows(reals(embedding), task.work.input_size, 1, task.work.input_size, 0)
    linear.rows = vocabulary
    linear.y = reals(table)
    return linear


def table_forward(Task task, table, embedding, ptrdiff_t vocabulary, packed_W_hx, packed_b_x,
                  int threads):
    """table[v] = W_hx embedding[v] + b_h, in the engine's layout."""
    cdef Linear linear = table_of(task, embedding, vocabulary, table)
    linear.W = reals(packed_W_hx)
    linear.b = reals(packed_b_x)
    run_linear(linear_forward_region, &linear, threads)


def table_backward(Task task, dtable, embedding, ptrdiff_t vocabulary, packed_W_hx_back,
                   dembedding, dW_hx, columns, x_panels, int threads):
    """dembedding = dtable W_hx; dW_hx += dtable^T embedding."""
    cdef Linear linear = table_of(task, embedding, vocabulary, dtable)
    linear.W_back = reals(packed_W_hx_back)
    linear.dx = reals(dembedding)
    linear.dx_stride = task.work.input_size
    linear.dW = reals(dW_hx)
    linear.adds = True
    linear.dy_columns = reals(columns)
    linear.x_panels = reals(x_panels)
    run_linear(linear_backward_region, &linear, threads)
