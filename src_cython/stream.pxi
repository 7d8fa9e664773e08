# Streams: a stack of recurrent layers, and linear ones behind them, fed step by step, with states of
# its own.

cdef inline bint overlap(cnp.ndarray a, cnp.ndarray b):
    # Whether two contiguous arrays share memory.
    cdef char* first = <char*>cnp.PyArray_DATA(a)
    cdef char* second = <char*>cnp.PyArray_DATA(b)
    return (first < second + cnp.PyArray_NBYTES(b) and second < first + cnp.PyArray_NBYTES(a))


cdef object state_given(list parts):
    # Copies of the states of all layers: h, or (h, c), (h, c, ...); None stands for a layer without.
    copies = tuple([[None if one is None else one.copy() for one in part] for part in parts])
    return copies if len(copies) > 1 else copies[0]


cdef object state_taken(object state, list places):
    # Writes a state as `state_given` returns it to its places; another one is refused first.
    from rnncore.arguments import as_real
    parts = state if len(places) > 1 else (state,)
    if not isinstance(parts, tuple) or len(parts) != len(places):
        raise TypeError("state: expected what get_state returns: h, or a tuple (h, c) for cells with a "
                        f"cell state; here {'h' if len(places) == 1 else f'a tuple of {len(places)}'}")
    checked = []
    for n, (given, places_of) in enumerate(zip(parts, places)):
        if given is None:
            raise TypeError("state: expected arrays, as get_state returns them, got None")
        if len(given) != len(places_of):
            raise ValueError(f"state: expected one array for each of {len(places_of)} layers, "
                             f"got {len(given)}")
        for k, (one, place) in enumerate(zip(given, places_of)):
            if place is None:
                if one is not None:
                    name = "c" if n == 1 else f"state {n}"
                    raise ValueError(f"state: expected no {name} of layer {k}, whose cell has none; "
                                     "give None there")
                continue
            if getattr(one, "shape", None) != place.shape:
                raise ValueError(f"state: expected arrays of shape {place.shape} in layer {k}, "
                                 f"got {getattr(one, 'shape', one)}; of the "
                                 "state of a batch take one sequence, h[:, 0]")
            checked.append((place, as_real(f"state: layer {k}", one, place.dtype)))
    for place, values in checked:
        place[...] = values


cdef class Chain:
    """A stack of layers with weights and buffers of its own, and linear layers behind it.

    Attributes
    ----------
    input_size, output_size
        Numbers a step, in and out. For token ids the input is one integer.
    vocabulary
        How many ids there are; 0: the input is features.
    """

    cdef list tasks, heads
    cdef Work* work[MOST_LAYERS]
    cdef Split split[MOST_LAYERS]
    cdef int layers
    cdef Product product[MOST_HEADS]
    cdef int products
    cdef bint shares            # a head is worth several threads
    cdef ptrdiff_t* tokens      # (rows of a pass), where the input is token ids
    cdef object buffers, dtype
    cdef readonly ptrdiff_t vocabulary
    cdef readonly ptrdiff_t input_size
    cdef readonly ptrdiff_t output_size

    def __init__(self, list tasks, list heads, list outputs, tokens, ptrdiff_t vocabulary, dtype):
        cdef Task task
        cdef LinearWeights head
        self.tasks, self.heads, self.buffers, self.dtype = tasks, heads, (outputs, tokens), dtype
        self.products, self.shares = 0, False
        self.layers = length_of(tasks, MOST_LAYERS)
        for k in range(self.layers):
            task = tasks[k]
            self.work[k] = &task.work
        self.vocabulary = vocabulary
        self.tokens = <ptrdiff_t*>indices(tokens)
        self.input_size = tasks[0].layer.input_size
        self.output_size = tasks[self.layers - 1].layer.hidden_size
        if len(heads) > MOST_HEADS:
            raise ValueError(f"heads: expected at most {MOST_HEADS}, got {len(heads)}")
        for head, y in zip(heads, outputs, strict=True):
            if head.in_features != self.output_size:
                raise ValueError(f"heads: expected {self.output_size} features, got {head.in_features}")
            self.product[self.products] = head.product
            self.product[self.products].y = reals(y)
            self.shares |= worthwhile(2, head.in_features * head.product.layout.stride) > 1
            self.output_size = head.product.layout.units
            self.products += 1

    cdef void run_layers(self, const real* x, const ptrdiff_t* ids, ptrdiff_t steps,
                         ptrdiff_t rows, int threads) noexcept nogil:
        # All recurrent layers, some steps of so many rows.
        cdef int layer, many
        cdef Work* work
        cdef Directions directions
        for layer in range(self.layers):
            work = self.work[layer]
            work.batch.steps = steps
            if layer > 0:
                work.input.x.data = (self.work[layer - 1].states.h
                                     + rows * self.work[layer - 1].layer.state_stride)
            elif ids != NULL:
                memcpy(self.tokens, ids, steps * rows * sizeof(ptrdiff_t))
            else:
                work.input.x.data = <real*>x
            many = worthwhile(threads, work_of(work)) if threads > 1 else 1
            if many > 1:
                memset(&work.barrier, 0, sizeof(Barrier))
                directions.work[0], directions.count = work, 1
                directions.kernel, directions.side_by_side = forward_task, False
                run_region(directions_region, &directions, many)
            else:
                forward_steps(work, 0, steps, &self.split[layer], 0, 1)

    cdef void run_heads(self, real* y, ptrdiff_t steps, ptrdiff_t rows, int threads) noexcept nogil:
        # What the layers left goes through the heads, and to y.
        cdef Work* work = self.work[self.layers - 1]
        cdef real* source = work.states.h + rows * work.layer.state_stride
        cdef ptrdiff_t stride = work.layer.state_stride, depth = work.layer.z.units, k
        cdef Product* product
        for k in range(self.products):
            product = &self.product[k]
            product.x = Rows(source, stride, 1, depth, 0)
            product.rows = steps * rows
            if threads > 1:
                run_region(product_region, product, threads_for(product, threads))
            else:
                product_region(product, 0, 1)
            source, stride, depth = product.y, product.layout.stride, product.layout.units
        for k in range(steps * rows):
            memcpy(y + k * depth, source + k * stride, depth * sizeof(real))

    cdef ptrdiff_t most_states(self):
        # That a layer has.
        return max([1 + self.work[k].layer.carried for k in range(self.layers)])

    cdef int threads_of(self, bint many) except -1:
        # Threads that may share the work of one step or of many.
        if many or self.shares:
            from rnncore.engine.threads import team_size
            return team_size()
        return 1

    cdef cnp.ndarray features(self, object x, int axes, str name):
        # x as a contiguous array of the dtype with `axes` axes, the last of input_size
        cdef cnp.ndarray array
        # A number is a step of one feature.
        if (cnp.PyArray_CheckExact(x) and cnp.PyArray_TYPE(<cnp.ndarray>x) == REAL_TYPE
                and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x)):
            array = x
        else:
            import numpy
            if isinstance(x, numpy.ndarray) and numpy.any(getattr(x, "mask", False)):
                raise TypeError(f"{name}: expected an array, got a masked one with hidden numbers; "
                                "fill them with .filled(...)")
            given = numpy.asarray(x)
            if given.dtype.kind not in "f" and not isinstance(x, (int, float)):
                raise TypeError(f"{name}: expected floating-point numbers, got dtype {given.dtype}; "
                                f"convert with .astype(np.{self.dtype})")
            if given.ndim < axes and self.input_size == 1:
                given = given[..., None]
            array = numpy.require(given, self.dtype, ["C", "A"])
        if (cnp.PyArray_NDIM(array) != axes
                or cnp.PyArray_DIM(array, axes - 1) != self.input_size):
            expected = f"({self.input_size},)" if axes == 1 else f"(T, {self.input_size})"
            raise ValueError(f"{name}: expected shape {expected}, got {(<object>array).shape}")
        return array

    cdef cnp.ndarray space(self, object out, int axes, cnp.npy_intp steps):
        # out, if it fits, or a new array
        cdef cnp.npy_intp shape[2]
        shape[0] = steps
        shape[axes - 1] = self.output_size
        if out is None:
            return cnp.PyArray_EMPTY(axes, shape, REAL_TYPE, 0)
        if (not cnp.PyArray_Check(out) or cnp.PyArray_TYPE(<cnp.ndarray>out) != REAL_TYPE
                or not cnp.PyArray_ISCARRAY(<cnp.ndarray>out)
                or cnp.PyArray_NDIM(<cnp.ndarray>out) != axes
                or cnp.PyArray_DIM(<cnp.ndarray>out, 0) != shape[0]
                or cnp.PyArray_DIM(<cnp.ndarray>out, axes - 1) != self.output_size):
            expected = f"({self.output_size},)" if axes == 1 else f"({steps}, {self.output_size})"
            raise ValueError(f"out: expected a contiguous, writable {self.dtype} array of shape "
                             f"{expected}, got {getattr(out, 'dtype', type(out).__name__)} "
                             f"{getattr(out, 'shape', '')}")
        return out

    cdef object token_id(self, object x):
        import operator
        if not isinstance(x, bool):
            try:
                return operator.index(x)
            except TypeError:
                pass
        came = f"{type(x).__name__} {getattr(x, 'shape', x)}"
        raise TypeError(f"x: expected a token id, one whole number, got {came}")

    cdef cnp.ndarray token_ids(self, object x, str name, str axis):
        # A copy of x as ids of the vocabulary, on one axis.
        from rnncore.arguments import check_tokens
        cdef cnp.ndarray given = check_tokens(name, x, self.vocabulary)
        if cnp.PyArray_NDIM(given) != 1:
            raise TypeError(f"{name}: expected integer token ids ({axis},), got shape "
                            f"{(<object>given).shape}")
        return given


cdef class Stream(Chain):
    """A `Chain` that remembers: feed it one step, or a block of steps, at a time.

    `layer.stream()` makes one. It owns a copy of the packed weights, and its state. Steps, blocks
    and a call of the layer over the whole sequence give the same bits. Several threads may run
    several streams at once; one stream belongs to one thread at a time.
    """

    cdef object make_another
    cdef ptrdiff_t chunk
    cdef object initial         # the states of each layer

    def __init__(self, list tasks, list heads, list outputs, ptrdiff_t chunk, tokens,
                 ptrdiff_t vocabulary, initial, dtype, make_another):
        Chain.__init__(self, tasks, heads, outputs, tokens, vocabulary, dtype)
        for k in range(self.layers):
            self.split[k] = split_team(self.work[k], 1, 0, 1)
        self.chunk, self.initial, self.make_another = chunk, initial, make_another
        self.reset()

    cdef void run(self, const real* x, const ptrdiff_t* ids, real* y, ptrdiff_t steps,
                  int threads) noexcept nogil:
        cdef ptrdiff_t done = 0, many
        cdef int layer
        cdef Work* work
        cdef float_mode mode = enter_kernels()
        while done < steps:
            many = min(self.chunk, steps - done)
            if ids != NULL:
                self.run_layers(NULL, ids + done, many, 1, 1)
            else:
                self.run_layers(x + done * self.input_size, NULL, many, 1, 1)
            self.run_heads(y + done * self.output_size, many, 1, threads)
            for layer in range(self.layers):
                work = self.work[layer]
                memcpy(work.states.h, work.states.h + many * work.layer.state_stride,
                       work.layer.state_stride * sizeof(real))
            done += many
        leave_kernels(mode)

    def step(self, x, out=None):
        """Take one step: x (input_size,), or one token id; returns y (output_size,), or `out`."""
        cdef cnp.ndarray y = self.space(out, 1, 1)
        cdef cnp.ndarray given
        cdef real* to = <real*>cnp.PyArray_DATA(y)
        cdef const real* source
        cdef ptrdiff_t token
        cdef int threads = self.threads_of(False)
        if self.tokens != NULL:
            if type(x) is not int:
                x = self.token_id(x)
            if not 0 <= x < self.vocabulary:
                raise ValueError(f"x: index out of range: expected a token id from 0 to "
                                 f"{self.vocabulary - 1}, got {x}")
            token = x
            with nogil:
                self.run(NULL, &token, to, 1, threads)
            return y
        given = self.features(x, 1, "x")
        source = <const real*>cnp.PyArray_DATA(given)
        with nogil:
            self.run(source, NULL, to, 1, threads)
        return y

    def process(self, block, out=None, reset=None):
        """Take T steps: block (T, input_size), or token ids (T,); returns y (T, output_size).
        Where a mask `reset` (T,) is True, the stream is reset before the step.
        """
        cdef cnp.ndarray y, given
        cdef const real* source = NULL
        cdef const ptrdiff_t* ids = NULL
        cdef real* to
        cdef ptrdiff_t steps, done = 0, end
        cdef int threads = self.threads_of(True)
        if self.tokens != NULL:
            given = self.token_ids(block, "block", "T")
            ids = <const ptrdiff_t*>cnp.PyArray_DATA(given)
        else:
            given = self.features(block, 2, "block")
            source = <const real*>cnp.PyArray_DATA(given)
        steps = cnp.PyArray_DIM(given, 0)
        y = self.space(out, 2, steps)
        if ids == NULL and overlap(given, y):
            given = given.copy()        # steps would be overwritten before they are read
            source = <const real*>cnp.PyArray_DATA(given)
        to = <real*>cnp.PyArray_DATA(y)
        if reset is not None:
            from rnncore.arguments import check_mask
            for end in check_mask("reset", reset, (steps,)).nonzero()[0]:
                self.run(source, ids, to, end - done, threads)
                self.reset()
                source = NULL if source == NULL else source + (end - done) * self.input_size
                ids = NULL if ids == NULL else ids + (end - done)
                to, done = to + (end - done) * self.output_size, end
        with nogil:
            self.run(source, ids, to, steps - done, threads)
        return y

    def get_state(self):
        """The state of each layer: h, or (h, c), (h, c, ...), as lists of arrays (hidden_size,).

        In these a layer that has none has None.
        """
        return state_given(self.parts())

    def set_state(self, state):
        """Take a state as `get_state` gives it."""
        state_taken(state, self.parts())

    def reset(self):
        """Go back to the state that a new stream begins with."""
        for k, states in enumerate(self.initial):
            for n, values in enumerate(states):
                self.part(k, n)[...] = values

    def __reduce__(self):
        """Refuse to be pickled: `copy` makes another stream."""
        raise TypeError("stream: cannot be pickled; use stream.copy(), or get_state and set_state")

    def copy(self):
        """A stream with the same weights and state that goes its own way from here."""
        other = self.make_another()
        other.set_state(self.get_state())
        return other

    cdef list parts(self):
        return [[self.part(k, n) for k in range(self.layers)] for n in range(self.most_states())]

    cdef object part(self, int k, ptrdiff_t n):
        # The n-th state of a layer, as a view; None where the cell has none.
        if n > self.work[k].layer.carried:
            return None
        cdef cnp.npy_intp size = self.work[k].layer.z.units
        cdef real* where = self.work[k].states.h
        if n > 0:
            where = self.work[k].states.c + (n - 1) * state_apart(self.work[k])
        cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(1, &size, REAL_TYPE, where)
        cnp.set_array_base(array, self)
        return array
