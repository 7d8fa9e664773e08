# Weights into panels. Done once per optimizer step in training, once per model in inference. Rows are
# read in the order of the gates, which no processor guesses: those of large weights are prefetched.

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


cdef void pack_weights(const Panels* panels, const real* W, const Layout* z, const int* gate_of,
                       int thread, int threads) noexcept nogil:
    # panels[k][column] = W[row of column][k], this thread's share of the columns; LANES of them at a
    # time, which are neighbouring units of one gate
    cdef ptrdiff_t depth = panels.depth
    cdef ptrdiff_t vector, column, width, lane, row, after, k
    cdef bint large = are_large(z.gates * z.units * depth * <ptrdiff_t>sizeof(real))
    cdef weight* out
    cdef real square[MOST_LANES * MOST_LANES]
    for vector in range(share(panels.columns // LANES, thread, threads),
                        share(panels.columns // LANES, thread + 1, threads)):
        column = vector * LANES
        out, width = weight_at(panels, 0, column), panel_width(panels, column - column % panels.width)
        if panels.storage.together == 4:
            for lane in range(LANES):
                row = weight_row(z, gate_of, column + lane)
                put_int8_column(out + lane, width, NULL if row < 0 else W + row * depth, depth)
            continue
        after = weight_row(z, gate_of, column + LANES) if large else -1
        k = 0
        if weight_row(z, gate_of, column + LANES - 1) >= 0:
            row = weight_row(z, gate_of, column)
            while k + LANES <= depth:
                for lane in range(LANES if after >= 0 and k % CACHE_LINE == 0 else 0):
                    prefetch(W + (after + lane) * depth + k)
                if panels.storage.together == 1:
                    transpose(out + k * width, width, W + row * depth + k, depth)
                    k += LANES
                    continue
                transpose(square, LANES, W + row * depth + k, depth)
                for lane in range(0, LANES, 2):
                    put_pairs(panels.storage, out + word_of(k, panels.storage) * width, width, k,
                              square + lane * LANES, square + (lane + 1) * LANES, LANES)
                    k += 2
        for lane in range(LANES):
            row = weight_row(z, gate_of, column + lane)
            pack_column(panels, out + lane, width, NULL if row < 0 else W + row * depth, k)


cdef inline void pack_column(const Panels* panels, weight* out, ptrdiff_t width, const real* row,
                             ptrdiff_t k) noexcept nogil:
    cdef real number = 0
    while k < panels.depth:
        if row != NULL:
            number = row[k]
        put_numbers(panels.storage, out + word_of(k, panels.storage) * width, width, k, &number, 1)
        k += 1


cdef void pack_weights_back(const Panels* panels, const real* W, ptrdiff_t parts, ptrdiff_t depth,
                            ptrdiff_t part_stride, const Layout* z, const int* gate_of, int thread,
                            int threads) noexcept nogil:
    # panels[m][column] = W[row of m][column]; columns stand in parts, part_stride apart.
    # Threads share the panels, if their number allows it and the weights are not large. Then each packs
    # what it will read, and in the part of the memory where it packed for the forward pass: nothing
    # goes from core to core. Else they share the m.
    cdef ptrdiff_t height = panels.depth, columns = (parts - 1) * part_stride + depth
    cdef ptrdiff_t count = round_up(columns, PANEL) // PANEL
    cdef bint padded = columns % LANES > 0 or parts * depth < columns or (
        z.blocks * z.block > z.units)
    cdef bint large = are_large(z.gates * z.units * columns * <ptrdiff_t>sizeof(real))
    cdef bint by_panels = count % threads == 0 and not large
    cdef ptrdiff_t first = share(count, thread, threads) if by_panels else 0
    cdef ptrdiff_t last = share(count, thread + 1, threads) if by_panels else count
    cdef ptrdiff_t together = panels.storage.together, pieces = panels.steps // panels.storage.words
    cdef ptrdiff_t low = 0 if by_panels else together * share(pieces, thread, threads)
    cdef ptrdiff_t high = height if by_panels else together * share(pieces, thread + 1, threads)
    cdef ptrdiff_t next_m = low, m, row, after, part, column, end, many, panel, k
    cdef bint two
    while next_m < high:
        m = next_m
        row = weight_row(z, gate_of, m)
        after = weight_row(z, gate_of, m + ROWS_AHEAD) if large else -1
        if padded and m % together == 0:
            for panel in range(first, last):
                clear_words(panels, m, panel * PANEL, 0)
        two = together == 2 and m % 2 == 0 and row >= 0 and weight_row(z, gate_of, m + 1) == row + 1
        next_m = m + 2 if two else m + 1
        if row < 0:
            continue
        if after >= 0:
            for k in range(parts * depth // CACHE_LINE):
                prefetch(W + after * parts * depth + k * CACHE_LINE)
        for part in range(parts):
            column = max(part * part_stride, first * PANEL)
            end = min(part * part_stride + depth, last * PANEL)
            while column < end:
                many = min((column // PANEL + 1) * PANEL, end) - column
                pack_rows(panels, m, column,
                          W + (row * parts + part) * depth + column - part * part_stride,
                          parts * depth if two else 0, many)
                column += many


cdef void spread_gates(real* out, const real* values, ptrdiff_t value_stride, const real* add,
                       const Layout* z, const int* gate_of) noexcept nogil:
    # out[column] = values[row of column] + add[column]; zero beyond the last unit
    # Each number is written once: another thread may read the same values meanwhile.
    cdef ptrdiff_t column, row
    cdef real value
    for column in range(z.width):
        row = weight_row(z, gate_of, column)
        value = 0 if row < 0 else values[row * value_stride]
        out[column] = value if add == NULL else value + add[column]


cdef void gather_gates(real* values, ptrdiff_t value_stride, const real* spread, const Layout* z,
                       const int* gate_of) noexcept nogil:
    # values[row of column] += spread[column]
    cdef ptrdiff_t column, row
    for column in range(z.width):
        row = weight_row(z, gate_of, column)
        if row >= 0:
            values[row * value_stride] += spread[column]


cdef void spread_own(real* out, ptrdiff_t stride, const real* values, const Layout* z) noexcept nogil:
    # out[block * stride + unit in it] = values[unit]; zero beyond the last unit
    cdef ptrdiff_t unit
    for unit in range(z.blocks * z.block):
        out[unit // z.block * stride + unit % z.block] = values[unit] if unit < z.units else 0


cdef struct Packing:
    const Layout* z
    const int* x_gates
    Panels W_hx                 # OUT
    const real* W_hx_given      # NULL: left out
    ptrdiff_t parts             # of the columns of W_hx, for the backward pass
    ptrdiff_t depth
    ptrdiff_t part_stride
    const Description* layer    # NULL: W_hh is left out
    Panels* W_hh                # OUT, one a phase
    const real* W_hh_given


cdef void pack_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Packing* p = <Packing*>argument
    cdef int k
    if p.W_hx_given != NULL:
        pack_weights(&p.W_hx, p.W_hx_given, p.z, p.x_gates, thread, threads)
    if p.W_hh_given != NULL:
        for k in range(p.layer.phases):
            pack_weights(&p.W_hh[k], p.W_hh_given, &p.layer.phase[k].z, p.layer.phase[k].gate_of, thread,
                         threads)


cdef void pack_back_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Packing* p = <Packing*>argument
    cdef int k
    if p.W_hx_given != NULL:
        pack_weights_back(&p.W_hx, p.W_hx_given, p.parts, p.depth, p.part_stride, p.z, p.x_gates,
                          thread, threads)
    if p.W_hh_given != NULL:
        for k in range(p.layer.phases):
            pack_weights_back(&p.W_hh[k], p.W_hh_given, 1, p.z.units, 0, &p.layer.phase[k].z,
                              p.layer.phase[k].gate_of, thread, threads)


cdef void run_packing(region kernel, Packing* packing, int threads):
    cdef ptrdiff_t columns = packing.parts * packing.depth + packing.z.units
    with nogil:
        run_region(kernel, packing,
                   worthwhile(threads, packing.z.gates * packing.z.units * columns * COST_OF_A_MOVE))


# One buffer holds W_hx, W_hh, b_x, where W_hh h starts, and the own vectors that a cell is handed; for
# the backward pass W_hx, W_hh and own vectors.

cdef inline bint starts_from_own(const CellDescription* cell) noexcept nogil:
    cdef ptrdiff_t k
    for k in range(own_vectors(cell)):
        if cell.own[k].starts:
            return True
    return False


cdef inline size_t aligned(size_t bytes) noexcept nogil:
    return (bytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


cdef inline size_t own_bytes(const Description* layer) noexcept nogil:
    return aligned(layer.state_stride * layer.handed * sizeof(real))


cdef int pack_own(real* out, const Description* layer, tuple own) except -1:
    # The own vectors that the cell's functions get, (blocks, handed, block).
    cdef const Layout* z = &layer.z
    cdef ptrdiff_t k, handed = 0
    if len(own) != own_vectors(layer.cell):
        raise ValueError(f"own: expected {own_vectors(layer.cell)} vectors, got {len(own)}")
    for k in range(own_vectors(layer.cell)):
        if layer.cell.own[k].starts:
            continue
        if own[k] is None:
            raise ValueError(f"own: expected an array {layer.cell.own[k].name.decode()}, got None")
        spread_own(out + handed * z.block, layer.handed * z.block, numbers(own[k], z.units), z)
        handed += 1
    return 0


cdef size_t packed_bytes(const Description* layer) noexcept nogil:
    cdef const Layout* z = &layer.z
    cdef size_t vectors = z.width * sizeof(real)
    return (aligned(panels_bytes(layer.input_size, z.width, z.storage))
            + aligned(panels_bytes(layer.depth, z.width, z.storage))
            + aligned(vectors) * (2 if starts_from_own(layer.cell) else 1) + own_bytes(layer))


cdef size_t packed_back_bytes(const Description* layer, ptrdiff_t parts, ptrdiff_t part_stride) noexcept nogil:
    cdef ptrdiff_t columns = columns_of(parts, layer.input_size // parts, part_stride)
    return (aligned(panels_bytes(layer.z.width, columns, layer.z.storage))
            + aligned(panels_bytes(layer.z.width, round_up(layer.depth, LANES), layer.z.storage))
            + own_bytes(layer))


cdef char* buffer_of(object buffer, size_t bytes) except NULL:
    return <char*>numbers(buffer, bytes // sizeof(real))


cdef const real* given_W_hh(const Description* layer, W_hh) except? NULL:
    if layer.depth == 0:
        return NULL
    return numbers(W_hh, layer.z.gates * layer.z.units * layer.depth)


cdef class Weights:
    """The weights of a layer packed for the forward pass; never changed once made.

    Parameters
    ----------
    layer
    buffer
        Flat array of the dtype on a cache line, `layer.packed_bytes` large.
    W_hx, W_hh
        (gates * hidden_size, input_size) and (gates * hidden_size, hidden_size); an elementwise cell
        has no W_hh.
    bias
        (gates * hidden_size,) or None.
    own
        The cell's own vectors (hidden_size,), None where there is none.
    threads
        That may share the packing.
    """

    cdef ForwardWeights weights
    cdef object buffer

    def __init__(self, Layer layer not None, buffer, W_hx, W_hh, bias, tuple own, int threads):
        cdef const Description* d = &layer.layer
        cdef const Layout* z = &d.z
        cdef const CellDescription* cell = d.cell
        cdef size_t bytes = packed_bytes(d)
        cdef char* at = buffer_of(buffer, bytes)
        cdef ForwardWeights* w = &self.weights
        cdef ptrdiff_t k, place
        cdef real* start = NULL
        self.buffer = buffer
        w.W_hx = panels_of(z, <real*>at, d.input_size)
        at += aligned(panels_bytes(d.input_size, z.width, z.storage))
        w.W_hh[0] = panels_of(&d.phase[0].z, <real*>at, d.depth)
        w.W_hh[1] = panels_of(&d.phase[1].z, <real*>(
            at + panels_bytes(d.depth, w.W_hh[0].columns, z.storage)), d.depth)
        at += aligned(panels_bytes(d.depth, z.width, z.storage))
        cdef Packing packing = Packing(
            z, &cell.x_gates[0], w.W_hx, numbers(W_hx, z.gates * z.units * d.input_size),
            1, d.input_size, 0, d, &w.W_hh[0], given_W_hh(d, W_hh))
        run_packing(pack_region, &packing, threads)
        w.b_x = <real*>at
        if bias is None:
            memset(at, 0, z.width * sizeof(real))
        else:
            spread_gates(<real*>at, numbers(bias, z.gates * z.units), 1, NULL, z, cell.x_gates)
        at += aligned(z.width * sizeof(real))
        if starts_from_own(cell):
            start = <real*>at
            at += aligned(z.width * sizeof(real))
        w.own = <real*>at
        pack_own(<real*>at, d, own)
        w.start = NULL
        for k in range(own_vectors(cell)):
            place = cell.own[k].starts - 1
            if place >= 0 and own[k] is not None:
                if w.start == NULL:
                    memset(start, 0, z.width * sizeof(real))
                    w.start = start
                spread_own(start + place * z.block, z.gates * z.block, numbers(own[k], z.units), z)


cdef class WeightsBack:
    """The same weights packed for the backward pass; the input stands in parts, `part_stride` apart."""

    cdef BackwardWeights weights
    cdef object buffer

    def __init__(self, Layer layer not None, buffer, W_hx, W_hh, tuple own, ptrdiff_t parts,
                 ptrdiff_t part_stride, int threads):
        cdef const Description* d = &layer.layer
        cdef const Layout* z = &d.z
        cdef BackwardWeights* w = &self.weights
        cdef ptrdiff_t depth = d.input_size // parts, columns
        cdef char* at = buffer_of(buffer, packed_back_bytes(d, parts, part_stride))
        self.buffer = buffer
        w.W_hx = panels_back(z, <real*>at, parts, depth, part_stride)
        at += aligned(panels_bytes(z.width, w.W_hx.columns, z.storage))
        w.W_hh[0] = panels_back(&d.phase[0].z, <real*>at, 1, d.depth, 0)
        columns = w.W_hh[0].columns
        w.W_hh[1] = panels_back(&d.phase[1].z, <real*>(
            at + panels_bytes(w.W_hh[0].depth, columns, z.storage)), 1, d.depth, 0)
        at += aligned(panels_bytes(z.width, columns, z.storage))
        w.own = <real*>at
        pack_own(<real*>at, d, own)
        cdef Packing packing = Packing(
            z, &d.cell.x_gates[0], w.W_hx, numbers(W_hx, z.gates * z.units * d.input_size),
            parts, depth, part_stride, d, &w.W_hh[0], given_W_hh(d, W_hh))
        run_packing(pack_back_region, &packing, threads)
