# Python's handles: a layer, and a task, which is a layer over a batch with its buffers.

cdef ptrdiff_t depth_of(ptrdiff_t features, ptrdiff_t parts) except -1:
    # Of each part.
    if parts < 1 or features % parts:
        raise ValueError(f"parts: expected a divisor of {features} columns, got {parts}")
    return features // parts


cdef Task task_of(Task task):
    if task is None or task.work.batch.offset == NULL or task.work.batch.chunk < 1:
        raise ValueError("task: expected one of a batch, as set_batch makes it")
    return task


cdef int length_of(list tasks, int most) except -1:
    if not 1 <= len(tasks) <= most:
        raise ValueError(f"tasks: expected 1 to {most}, got {len(tasks)}")
    return <int>len(tasks)


cdef class Layer:
    """One direction of one layer: a cell and its sizes. It knows no batch, weights or buffers.

    Attributes
    ----------
    cell, input_size, hidden_size, reverse
    z_size, table_size, state_size
        Numbers a row of z, of a table of tokens, and of h or c.
    block, places
        Hidden units a block, and places a unit in z.
    packed_bytes
        Of the weights for the forward pass.
    product, tile_rows
        What multiplies, and how many rows at once at most.
    """

    cdef Description layer
    cdef readonly Cell cell
    cdef readonly ptrdiff_t input_size
    cdef readonly ptrdiff_t hidden_size
    cdef readonly bint reverse
    cdef readonly ptrdiff_t z_size
    cdef readonly ptrdiff_t table_size
    cdef readonly ptrdiff_t state_size
    cdef readonly ptrdiff_t block
    cdef readonly ptrdiff_t places
    cdef readonly size_t packed_bytes
    cdef readonly str product
    cdef readonly ptrdiff_t tile_rows

    def __init__(self, Cell cell not None, ptrdiff_t input_size, ptrdiff_t hidden_size, bint reverse,
                 str storage):
        if cell.c == NULL:
            raise ValueError("cell: expected what cell() returns or a CustomCell, got an empty Cell")
        if input_size < 0 or hidden_size < 1:
            raise ValueError(f"input_size, hidden_size: got {input_size}, {hidden_size}")
        cdef ptrdiff_t columns = max(input_size, hidden_size)
        cdef ptrdiff_t weights = columns * hidden_size * <ptrdiff_t>strlen(cell.c.gates)
        self.layer = describe(cell.c, input_size, hidden_size, reverse,
                              storage_of(storage, columns, weights))
        self.cell = cell
        self.input_size, self.hidden_size, self.reverse = input_size, hidden_size, reverse
        self.z_size, self.table_size = self.layer.z.stride, self.layer.z.width
        self.state_size = self.layer.state_stride
        self.block, self.places = self.layer.z.block, self.layer.z.places
        self.packed_bytes = packed_bytes(&self.layer)
        self.product, self.tile_rows = self.layer.z.storage.product.decode(), self.layer.z.storage.rows

    def packed_back_bytes(self, ptrdiff_t parts, ptrdiff_t part_stride):
        """Bytes of the weights for the backward pass, if the input stands in parts."""
        depth_of(self.input_size, parts)
        return packed_back_bytes(&self.layer, parts, part_stride)

    def forward_sizes(self, ptrdiff_t steps, ptrdiff_t batch, int threads):
        """Rows that inference needs room for in z, and in x_rows; numbers of the scratch."""
        cdef Work work
        work.layer, work.batch.running, work.batch.steps = self.layer, batch, steps
        cdef ptrdiff_t rows = most_rows(&work, threads)     # enough for fewer threads as well
        return {"rows": rows, "x_rows": threads * rows, "scratch": threads * scratch_size(&work)}

    def backward_sizes(self, ptrdiff_t rows):
        """Numbers of the scratch buffers of the backward pass of so many rows."""
        cdef ptrdiff_t size = column_size(rows)
        return {"dz_columns": self.layer.z.stride * size,
                "h_panels": self.layer.phases * round_up(self.layer.z.units, LANES) * size,
                "x_panels": round_up(self.layer.input_size, LANES) * size}

    def splits(self, int threads):
        """Whether the threads had better share the weights of each step than each run a layer."""
        cdef Work work
        work.layer = self.layer
        return bool(splits_weights(&work, threads))

    def plan(self, ptrdiff_t steps, ptrdiff_t batch, bint tokens, int threads):
        """How a dense batch is shared out: threads by rows and by units, tiles, steps a chunk."""
        cdef Work work
        work.layer, work.batch.running = self.layer, batch
        cdef ptrdiff_t inputs = 0 if tokens else self.layer.input_size, tiles = 0
        cdef ptrdiff_t gates = self.layer.z.gates * self.layer.z.units
        cdef Split split
        threads = worthwhile(threads, steps * batch * gates * (self.layer.z.units + inputs))
        for thread in range(threads):
            split = split_team(&work, batch, thread, threads)
            tiles += split.tiles
        return {"row_threads": min(split.row_threads, max(batch, 1)),
                "unit_threads": split.unit_threads, "tiles": tiles // split.unit_threads,
                "chunk": forward_chunk(&work), "splits_weights": bool(splits_weights(&work, threads))}


cdef class Task:
    """A layer over one batch: its weights and buffers, kept alive while it lives."""

    cdef Work work
    cdef dict arrays
    cdef readonly Layer layer

    def __init__(self, Layer layer not None):
        memset(&self.work, 0, sizeof(Work))
        self.work.layer = layer.layer
        self.layer = layer
        self.arrays = {}

    def set_weights(self, Weights weights not None):
        check_storage(&weights.weights.W_hx, &self.work.layer.z)
        self.arrays["weights"] = weights
        self.work.weights = weights.weights

    def set_weights_back(self, WeightsBack weights not None):
        check_storage(&weights.weights.W_hx, &self.work.layer.z)
        self.arrays["weights back"] = weights
        self.work.back = weights.weights

    def set_batch(self, offset, ptrdiff_t running, bint training, z, h, c, scratch, ptrdiff_t chunk):
        """Take a batch and its buffers; `chunk` steps a chunk of the backward pass."""
        cdef Sequences* batch = &self.work.batch
        self.arrays["batch"] = (offset, z, h, c, scratch)
        batch.offset = indices(offset)
        batch.steps = len(offset) - 1
        batch.running, batch.chunk, batch.training = running, chunk, training
        self.work.states.z = reals(z)
        self.work.states.h = reals(h)
        self.work.states.c = reals(c)
        self.work.states.scratch = reals(scratch)

    def set_between(self, between):
        """Give a cell of two phases room for what stands between them."""
        self.arrays["between"] = between
        self.work.states.between = reals(between)

    def set_between_back(self, dbetween):
        """The same in the backward pass."""
        self.arrays["between back"] = dbetween
        self.work.grads.dbetween = reals(dbetween)

    def set_x_rows(self, x_rows):
        """Give each thread room for its rows of x of a chunk."""
        self.arrays["x_rows"] = x_rows
        self.work.input.x_rows = reals(x_rows)

    def set_rank(self, rank):
        """Say which row of a step each sequence of the caller's is, those without a row too."""
        self.arrays["rank"] = rank
        self.work.batch.rank = indices(rank)
        self.work.batch.sequences = len(rank)

    def set_noise(self, double zoneout_h, double zoneout_c, h_now, c_now, masked):
        """Take the rates of zoneout, and room for what the cell computes and for h times a mask."""
        cdef StateNoise* noise = &self.work.noise
        self.arrays["noise"] = (h_now, c_now, masked)
        noise.h.rate, noise.c.rate = zoneout_h, zoneout_c
        noise.h.now, noise.c.now, noise.masked = reals(h_now), reals(c_now), reals(masked)
        noise.active = zoneout_h > 0 or zoneout_c > 0 or masked is not None

    def set_noise_back(self, h_aside, c_aside):
        """Take the buffers of noise in the backward pass."""
        self.arrays["noise back"] = (h_aside, c_aside)
        self.work.noise.h.aside, self.work.noise.c.aside = reals(h_aside), reals(c_aside)

    def draw_noise(self, keys, mask, ptrdiff_t first_row):
        """Say what the noise of this pass is: keys of zoneout, or None for its expectation."""
        cdef StateNoise* noise = &self.work.noise
        self.arrays["mask"] = mask
        noise.mask = reals(mask)
        noise.first_row = first_row
        noise.draws = keys is not None
        if keys is not None:
            noise.h.noise = noise_of(noise.h.rate, keys[0])
            noise.c.noise = noise_of(noise.c.rate, keys[1])

    def forget(self, bint keep_input=False):
        """Let go of arrays that are not the workspace's; a new pass sets them first."""
        for name in ("weights", "weights back", "states", "y", "gradients", "steps", "dx"):
            self.arrays.pop(name, None)
        memset(&self.work.weights, 0, sizeof(ForwardWeights))
        memset(&self.work.back, 0, sizeof(BackwardWeights))
        self.work.states.y.data = NULL
        self.work.grads.dy = self.work.grads.dx.data = self.work.grads.dtable = NULL
        self.work.grads.dW_hx = self.work.grads.dW_hh = NULL
        self.work.grads.db = self.work.grads.down = NULL
        self.work.grads.dh_steps = self.work.grads.dc_steps = NULL
        if not keep_input:
            self.arrays.pop("input", None)
            self.arrays.pop("mask", None)
            self.work.noise.mask = NULL
            self.work.input.x.data, self.work.input.tokens, self.work.input.table = NULL, NULL, NULL

    def set_input(self, x, ptrdiff_t first, ptrdiff_t stride, ptrdiff_t parts,
                  ptrdiff_t part_stride, bint placed):
        """x is a flat array whose first row begins at `first`, in rows or at the caller's places."""
        depth_of(self.work.layer.input_size, parts)
        self.arrays["input"] = x
        self.work.input.placed = placed
        self.work.input.x = Rows(reals(x) + first, stride, parts,
                                 self.work.layer.input_size // parts, part_stride)
        self.work.input.tokens = NULL

    def set_tokens(self, tokens, table):
        self.arrays["input"] = (tokens, table)
        self.work.input.tokens = indices(tokens)
        self.work.input.table = reals(table)

    def set_states(self, h):
        """Have h of every step elsewhere than `set_batch` said."""
        self.arrays["states"] = h
        self.work.states.h = reals(h)

    def set_from_zero(self, bint from_zero):
        """Say whether the initial h is zero; then nothing is multiplied by it."""
        self.work.states.from_zero = from_zero

    def set_output(self, y, ptrdiff_t first, ptrdiff_t stride, bint placed, bint leaves):
        """Have h of every step written to y as well, from column `first` on."""
        self.arrays["y"] = y
        self.work.states.y = target_of(y, first, stride, self.work.layer.z.units, placed, leaves)

    def set_batch_back(self, dh, dc, dz_columns, x_panels, h_panels):
        """Take the buffers of the backward pass over the batch of `set_batch`."""
        self.arrays["batch back"] = (dh, dc, dz_columns, x_panels, h_panels)
        self.work.grads.dh = reals(dh)
        self.work.grads.dc = reals(dc)
        self.work.grads.dz_columns = reals(dz_columns)
        self.work.grads.x_panels = reals(x_panels)
        self.work.grads.h_panels = reals(h_panels)

    def set_gradients(self, dy, ptrdiff_t first, ptrdiff_t dy_stride, bint dy_placed, dy_rows,
                      dW_hx, dW_hh, db, down, bint adds, bint no_dh_0):
        """dy stands in rows, or as the caller has it: then dy_rows has room for a chunk.

        `adds` False: the gradients of weights and biases are replaced; to those of own vectors,
        `down`, is always added. With `no_dh_0` dh is left as anything. `set_dx` and `set_dtable` come after this.
        """
        cdef Gradients* grads = &self.work.grads
        self.arrays["gradients"] = (dy, dy_rows, dW_hx, dW_hh, db, down)
        grads.dy = NULL if dy is None else reals(dy) + first
        grads.dy_stride, grads.dy_placed = dy_stride, dy_placed
        grads.dy_rows = reals(dy_rows)
        grads.dW_hx = reals(dW_hx)
        grads.dW_hh = reals(dW_hh)
        grads.db = reals(db)
        grads.down = reals(down)
        grads.adds, grads.no_dh_0 = adds, no_dh_0
        grads.dx.data = NULL
        grads.dtable = NULL

    def set_steps(self, dh_steps, dc_steps):
        """Have the gradients of the states of every step kept, (rows, state_size); dc may be None."""
        self.arrays["steps"] = (dh_steps, dc_steps)
        self.work.grads.dh_steps, self.work.grads.dc_steps = reals(dh_steps), reals(dc_steps)

    def set_dx(self, dx, ptrdiff_t columns, dx_rows=None, bint leaves=False):
        """The gradient of the features, in rows, or in the caller's places: then dx_rows has room
        for a chunk."""
        self.arrays["dx"] = (dx, dx_rows)
        self.work.grads.dx = target_of(dx, 0, columns, columns, dx_rows is not None, leaves)
        self.work.grads.dx_rows = reals(dx_rows)

    def set_dtable(self, dtable):
        """The gradient of the projected table, to which the tokens' gradients are added."""
        self.arrays["dx"] = dtable
        self.work.grads.dtable = reals(dtable)
