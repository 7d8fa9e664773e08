# A task: one direction of one layer over one batch, as the kernels see it.
#
# Rows are packed: step t has offset[t + 1] - offset[t] sequences, the longest first, so the
# sequences still running at step t are the first ones. A dense batch is the case where every step
# has the same number.
#
# States h and c stand in slots, one more than there are steps. Slot t begins at row slot(t); a
# forward direction reads its previous state from slot t and writes slot t + 1, a reverse direction
# the other way round. Slot 0 has room for the whole batch, slot t + 1 for the sequences of step t:
# where a sequence ends, a reverse direction finds its initial state in place.

cdef struct Layout:
    # How the gates of one row stand in memory: (blocks, places, block). The first `gates` of the
    # `places` belong to W_hx x, the last `gates` to W_hh h.
    ptrdiff_t units             # hidden units
    ptrdiff_t block             # hidden units a block
    ptrdiff_t blocks
    ptrdiff_t gates
    ptrdiff_t places
    ptrdiff_t stride            # blocks * places * block
    ptrdiff_t panel             # columns of the panels of the weights
    ptrdiff_t block_panels      # gates * block // panel
    const tile_kernel* tile     # the loop for such panels


cdef struct Rows:
    # A matrix by rows, each row in `parts` of `depth` numbers, `part_stride` apart.
    real* data
    ptrdiff_t stride
    ptrdiff_t parts
    ptrdiff_t depth
    ptrdiff_t part_stride


cdef struct Target:
    # Where rows of `depth` numbers go, `stride` apart: one after another, or to the caller's places,
    # whose padding becomes zeros. Past the caches, if that is where they would end up anyway.
    real* data
    ptrdiff_t stride
    ptrdiff_t depth
    bint placed
    bint past


cdef struct Work:
    const Cell* cell
    Layout z_layout
    ptrdiff_t input_size
    ptrdiff_t steps
    ptrdiff_t batch             # sequences of step 0
    ptrdiff_t chunk             # steps a chunk of the backward pass
    const ptrdiff_t* offset     # IN (steps + 1): the first row of each step
    bint reverse
    bint training               # z, h and c of every step are kept
    ptrdiff_t state_stride      # hidden units in whole blocks
    # The caller's arrays have `sequences` places a step. Which row of a step each of them is, or
    # would be: beyond the last row is padding. NULL: row i is in place i.
    ptrdiff_t sequences
    const ptrdiff_t* rank       # IN (sequences)
    # input: features, or rows of the projected table chosen by tokens
    Rows x
    bint x_placed               # x stands at the caller's places, not in rows
    real* x_rows                # SCRATCH (threads, rows of a chunk, x.stride) for such x, and for rows
                                # that threads share unevenly; NULL: for neither
    const ptrdiff_t* tokens     # IN (rows)
    const real* table           # IN (vocabulary, blocks, gates, block)
    # packed weights
    const real* W_hx            # IN (blocks, panels, input_size, z_layout.panel)
    const real* W_hh            # IN (blocks, panels, hidden_size, z_layout.panel)
    const real* b_x             # IN (blocks, gates, block)
    const real* b_h             # IN the same; NULL is zero
    const real* W_hx_back       # IN (panels, blocks, gates, block, width)
    const real* W_hh_back       # IN the same
    # activations
    real* z                     # (rows, blocks, places, block); inference keeps a chunk, in which
                                # threads that share rows have a place each
    real* h                     # (slots, state_stride)
    real* c                     # the same; inference keeps (batch, state_stride)
    real* scratch               # (threads, scratch_size)
    Target y                    # OUT h_t; data NULL: nobody wants it elsewhere
    # gradients
    const real* dy              # IN dy_stride apart; NULL is zero
    ptrdiff_t dy_stride
    real* dy_rows               # SCRATCH (rows of a chunk, state_stride); NULL: dy stands in rows,
                                # zeros beyond the hidden size
    real* dh                    # INOUT (batch, state_stride): dL/dh_last, then dL/dh_0
    real* dc                    # the same for c
    Target dx                   # OUT; data NULL: nobody wants it
    real* dx_rows               # SCRATCH (rows of a chunk, depth), where dx goes to places
    real* dtable                # INOUT (vocabulary, blocks, gates, block)
    real* dW_hx                 # INOUT (gates * hidden_size, input_size)
    real* dW_hh                 # INOUT (gates * hidden_size, hidden_size)
    real* db_x                  # INOUT (gates * hidden_size)
    real* db_h                  # INOUT the same; NULL: nobody wants it
    bint adds                   # to these four; False: they are only written to
    real* dz_columns            # SCRATCH (blocks * places * block, column_size)
    real* x_panels              # SCRATCH (panels, column_size, width)
    real* h_panels              # SCRATCH (panels, column_size, width)
    Barrier barrier


# Rows that the projection takes at a time at most, and the sums of the weight gradients.
cdef enum:
    CHUNK_ROWS = 256
    SHORT_CHUNK_ROWS = 96       # of a product by itself
    GROUP_BLOCKS = 8            # blocks whose pre-activations few rows compute at once
    FEW_ROWS = 3
    MOST_LAYERS = 64

# Bytes that stay in a core's own caches beside what else is there.
cdef ptrdiff_t FIRST_CACHE = cache_bytes(1) // 4 * 3
cdef ptrdiff_t SECOND_CACHE = cache_bytes(2) // 2


cdef inline bint are_large(ptrdiff_t numbers) noexcept nogil:
    # Larger than the second cache, so that what was used long ago comes from afar.
    return numbers * <ptrdiff_t>sizeof(real) > 2 * SECOND_CACHE


cdef inline ptrdiff_t round_up(ptrdiff_t number, ptrdiff_t multiple) noexcept nogil:
    return (number + multiple - 1) // multiple * multiple


cdef inline ptrdiff_t share(ptrdiff_t number, int thread, int threads) noexcept nogil:
    # Where the part of this thread begins; share(n, i + 1, threads) is where it ends.
    return number * thread // threads


cdef int worthwhile(int threads, ptrdiff_t multiply_adds) noexcept nogil:
    # Work below some tens of microseconds stays on the caller's thread.
    cdef ptrdiff_t most = multiply_adds // 500000
    return <int>max(<ptrdiff_t>1, min(<ptrdiff_t>threads, most))


cdef Layout layout_of(ptrdiff_t units, ptrdiff_t gates, ptrdiff_t places) noexcept nogil:
    # Blocks are the smallest whose gates fill whole panels, and panels the widest of those that pad
    # the units least. A whole number of blocks makes PANEL units, so that these can be shared out.
    cdef Layout layout
    cdef ptrdiff_t vectors, width
    layout.block = 0
    for width in range(PANEL_VECTORS, 1, -1):
        vectors = 1
        while vectors * gates % width:
            vectors += 1
        if layout.block == 0 or (PANEL_VECTORS % vectors == 0 and
                                 round_up(units, vectors * LANES) < round_up(units, layout.block)):
            layout.block = vectors * LANES
            layout.panel = width * LANES
            layout.tile = tiles[width]
    layout.units = units
    layout.block_panels = gates * layout.block // layout.panel
    layout.blocks = round_up(units, layout.block) // layout.block
    layout.gates = gates
    layout.places = places
    layout.stride = layout.blocks * places * layout.block
    return layout


cdef inline ptrdiff_t rows_of(const Work* work, ptrdiff_t t) noexcept nogil:
    return work.offset[t + 1] - work.offset[t]


cdef inline ptrdiff_t slot(const Work* work, ptrdiff_t t) noexcept nogil:
    return 0 if t == 0 else work.batch + work.offset[t - 1]


cdef inline ptrdiff_t slot_before(const Work* work, ptrdiff_t t) noexcept nogil:
    return slot(work, t + 1) if work.reverse else slot(work, t)


cdef inline ptrdiff_t slot_after(const Work* work, ptrdiff_t t) noexcept nogil:
    return slot(work, t) if work.reverse else slot(work, t + 1)


cdef void* data(object array, size_t itemsize) except? NULL:
    if array is None:
        return NULL
    cdef cnp.ndarray a = array
    if <size_t>cnp.PyArray_ITEMSIZE(a) != itemsize or not cnp.PyArray_IS_C_CONTIGUOUS(a):
        raise TypeError("the engine takes contiguous arrays of its own dtype")
    return cnp.PyArray_DATA(a)


cdef inline real* reals(object array) except? NULL:
    return <real*>data(array, sizeof(real))


cdef Target target_of(object array, ptrdiff_t first, ptrdiff_t stride, ptrdiff_t depth, bint placed,
                      bint leaves) except *:
    # Rows of a flat array. If it leaves the engine and is larger than the second cache, it is written
    # past the caches, given that its rows are whole cache lines.
    cdef Target target = Target(reals(array) + first, stride, depth, placed, False)
    target.past = (leaves and are_large(cnp.PyArray_SIZE(array))
                   and <size_t>target.data % <size_t>(CACHE_LINE * sizeof(real)) == 0
                   and stride % CACHE_LINE == 0)
    return target


cdef class CustomCell:
    """A cell whose gate mathematics is somebody else's: two C functions as in cells/cell.h.

    The functions live at the given addresses, which must stay valid; `keep` is held with them.
    """

    cdef Cell cell
    cdef bytes name
    cdef object keep

    def __init__(self, str name, int saved, bint has_c, list x_gates, list h_gates,
                 size_t forward, size_t backward, keep=None):
        self.name = name.encode()
        self.keep = keep
        memset(&self.cell, 0, sizeof(Cell))
        self.cell.name = self.name
        self.cell.gates = len(x_gates)
        self.cell.saved = saved
        self.cell.has_c = has_c
        if not 1 <= len(x_gates) <= MOST_GATES or len(h_gates) != len(x_gates):
            raise ValueError(f"gates: expected 1 to {MOST_GATES}, got {len(x_gates)}")
        if saved < len(x_gates):
            raise ValueError(f"saved: expected at least the {len(x_gates)} gates, got {saved}")
        for k in range(self.cell.gates):
            self.cell.x_gates[k] = x_gates[k]
            self.cell.h_gates[k] = h_gates[k]
        self.cell.forward = <cell_forward>forward
        self.cell.backward = <cell_backward>backward


cdef class Task:
    """One direction of one layer: sizes, weights and buffers, kept alive while it lives."""

    cdef Work work
    cdef dict arrays

    def __init__(self, cell, ptrdiff_t input_size, ptrdiff_t hidden_size, bint reverse):
        memset(&self.work, 0, sizeof(Work))
        self.arrays = {"cell": cell}
        if isinstance(cell, CustomCell):
            self.work.cell = &(<CustomCell>cell).cell
        else:
            for i in range(6):
                if CELLS[i].name == <bytes>cell.encode():
                    self.work.cell = CELLS[i]
        if self.work.cell == NULL:
            raise ValueError(f"cell: no cell is called {cell!r}")
        self.work.z_layout = layout_of(hidden_size, self.work.cell.gates, self.work.cell.saved)
        self.work.state_stride = self.work.z_layout.blocks * self.work.z_layout.block
        self.work.reverse = reverse
        self.work.input_size = input_size

    @property
    def input_size(self):
        return self.work.input_size

    @property
    def hidden_size(self):
        return self.work.z_layout.units

    @property
    def gates(self):
        return self.work.cell.gates

    @property
    def has_c(self):
        return bool(self.work.cell.has_c)

    @property
    def reverse(self):
        return bool(self.work.reverse)

    @property
    def x_gates(self):
        """Which gate of the public arrays stands in each place of W_hx x."""
        return [self.work.cell.x_gates[k] for k in range(self.work.cell.gates)]

    @property
    def h_gates(self):
        """Which gate of the public arrays stands in each place of W_hh h."""
        return [self.work.cell.h_gates[k] for k in range(self.work.cell.gates)]

    @property
    def sizes(self):
        """Row lengths in memory: z, table, state, and the units of a block."""
        cdef Layout* z = &self.work.z_layout
        return {"z": z.stride, "table": z.blocks * z.gates * z.block,
                "state": self.work.state_stride, "block": z.block, "blocks": z.blocks,
                "places": z.places}

    def set_weights(self, W_hx, W_hh, b_x, b_h):
        self.arrays["weights"] = (W_hx, W_hh, b_x, b_h)
        self.work.W_hx = reals(W_hx)
        self.work.W_hh = reals(W_hh)
        self.work.b_x = reals(b_x)
        self.work.b_h = reals(b_h)

    def set_weights_back(self, W_hx_back, W_hh_back):
        self.arrays["weights back"] = (W_hx_back, W_hh_back)
        self.work.W_hx_back = reals(W_hx_back)
        self.work.W_hh_back = reals(W_hh_back)

    def set_batch(self, offset, ptrdiff_t batch, bint training, z, h, c, scratch,
                  ptrdiff_t chunk=0):
        """Take a batch and its buffers; a chunk of 0 steps: as many as have CHUNK_ROWS rows on average.
        """
        cdef ptrdiff_t rows
        self.arrays["batch"] = (offset, z, h, c, scratch)
        self.work.offset = <const ptrdiff_t*>data(offset, sizeof(ptrdiff_t))
        self.work.steps = len(offset) - 1
        self.work.batch = batch
        rows = max(<ptrdiff_t>1, self.work.offset[self.work.steps])
        self.work.chunk = chunk or max(<ptrdiff_t>1, CHUNK_ROWS * self.work.steps // rows)
        self.work.training = training
        self.work.z = reals(z)
        self.work.h = reals(h)
        self.work.c = reals(c)
        self.work.scratch = reals(scratch)

    def set_x_rows(self, x_rows):
        """Give each thread room for its rows of x of a chunk."""
        self.arrays["x_rows"] = x_rows
        self.work.x_rows = reals(x_rows)

    def set_rank(self, rank):
        """Say which row of a step each sequence of the caller's is, those without a row too."""
        self.arrays["rank"] = rank
        self.work.rank = <const ptrdiff_t*>data(rank, sizeof(ptrdiff_t))
        self.work.sequences = len(rank)

    def forget(self, bint keep_input=False):
        """Let go of arrays that are not the engine's; a new pass sets them first."""
        for name in ("states", "y", "gradients", "dx"):
            self.arrays.pop(name, None)
        if not keep_input:
            self.arrays.pop("input", None)
        self.work.y.data = NULL

    def set_input(self, x, ptrdiff_t first, ptrdiff_t stride, ptrdiff_t parts,
                  ptrdiff_t part_stride, bint placed):
        """x is a flat array whose first row begins at `first`, in rows or at the caller's places."""
        self.arrays["input"] = x
        self.work.x_placed = placed
        self.work.x = Rows(reals(x) + first, stride, parts, self.work.input_size // parts,
                           part_stride)
        self.work.tokens = NULL

    def set_tokens(self, tokens, table):
        self.arrays["input"] = (tokens, table)
        self.work.tokens = <const ptrdiff_t*>data(tokens, sizeof(ptrdiff_t))
        self.work.table = reals(table)

    def set_states(self, h):
        """Have h of every step elsewhere than `set_batch` said."""
        self.arrays["states"] = h
        self.work.h = reals(h)

    def set_output(self, y, ptrdiff_t first, ptrdiff_t stride, bint placed, bint leaves):
        """Have h of every step written to y as well, from column `first` on."""
        self.arrays["y"] = y
        self.work.y = target_of(y, first, stride, self.work.z_layout.units, placed, leaves)

    def set_batch_back(self, dh, dc, dz_columns, x_panels, h_panels):
        """Take the buffers of the backward pass over the batch of `set_batch`."""
        self.arrays["batch back"] = (dh, dc, dz_columns, x_panels, h_panels)
        self.work.dh = reals(dh)
        self.work.dc = reals(dc)
        self.work.dz_columns = reals(dz_columns)
        self.work.x_panels = reals(x_panels)
        self.work.h_panels = reals(h_panels)

    def set_gradients(self, dy, ptrdiff_t first, ptrdiff_t dy_stride, dy_rows, dW_hx, dW_hh, db_x, db_h,
                      bint adds):
        """dy stands in rows, or as the caller has it: then dy_rows has room for a chunk.

        `adds` False: the gradients of weights and biases are replaced.
        """
        self.arrays["gradients"] = (dy, dy_rows, dW_hx, dW_hh, db_x, db_h)
        self.work.dy = NULL if dy is None else reals(dy) + first
        self.work.dy_stride = dy_stride
        self.work.dy_rows = reals(dy_rows)
        self.work.dW_hx = reals(dW_hx)
        self.work.dW_hh = reals(dW_hh)
        self.work.db_x = reals(db_x)
        self.work.db_h = reals(db_h)
        self.work.adds = adds
        self.work.dx.data = NULL
        self.work.dtable = NULL

    def set_dx(self, dx, ptrdiff_t columns, dx_rows=None, bint leaves=False):
        """The gradient of the features, in rows, or in the caller's places: then dx_rows has room
        for a chunk."""
        self.arrays["dx"] = (dx, dx_rows)
        self.work.dx = target_of(dx, 0, columns, columns, dx_rows is not None, leaves)
        self.work.dx_rows = reals(dx_rows)

    def set_dtable(self, dtable):
        """The gradient of the projected table, to which the tokens' gradients are added."""
        self.arrays["dx"] = dtable
        self.work.dtable = reals(dtable)
