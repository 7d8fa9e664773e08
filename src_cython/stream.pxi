# Streams: a stack of layers that is fed step by step, with its own state.

cdef inline bint overlap(cnp.ndarray a, cnp.ndarray b):
    # Whether two contiguous arrays share memory.
    cdef char* first = <char*>cnp.PyArray_DATA(a)
    cdef char* second = <char*>cnp.PyArray_DATA(b)
    return (first < second + cnp.PyArray_NBYTES(b) and second < first + cnp.PyArray_NBYTES(a))


cdef class Stream:
    """A stack of layers that remembers: feed it one step, or a block of steps, at a time.

    `layer.stream()` makes one. It owns a copy of the packed weights, and its state. Steps, blocks
    and a call of the layer over the whole sequence give the same bits. Several threads may run
    several streams at once; one stream belongs to one thread at a time.

    Attributes
    ----------
    input_size, output_size
        Numbers a step, in and out. For token ids the input is one integer.
    """

    cdef list tasks
    cdef object make_another
    cdef Work* work[MOST_LAYERS]
    cdef Split split[MOST_LAYERS]
    cdef int layers
    cdef ptrdiff_t chunk
    cdef ptrdiff_t* tokens      # (chunk), where the input is token ids
    cdef object initial         # the states of each layer
    cdef object dtype
    cdef readonly ptrdiff_t vocabulary
    cdef readonly ptrdiff_t input_size
    cdef readonly ptrdiff_t output_size

    def __init__(self, list tasks, ptrdiff_t chunk, tokens, ptrdiff_t vocabulary, initial, dtype,
                 make_another):
        cdef Task task
        self.tasks = tasks
        self.layers = length_of(tasks, MOST_LAYERS)
        for k in range(self.layers):
            task = tasks[k]
            self.work[k] = &task.work
            self.split[k] = split_team(&task.work, 1, 0, 1)
        self.chunk = chunk
        self.vocabulary = vocabulary
        self.tokens = <ptrdiff_t*>indices(tokens)
        self.initial = (initial, tokens)
        self.dtype = dtype
        self.make_another = make_another
        self.input_size = tasks[0].layer.input_size
        self.output_size = tasks[self.layers - 1].layer.hidden_size
        self.reset()

    cdef void run(self, const real* x, const ptrdiff_t* ids, real* y, ptrdiff_t steps) noexcept nogil:
        cdef ptrdiff_t done = 0, many, k
        cdef int layer
        cdef Work* work = self.work[self.layers - 1]
        cdef float_mode mode = flush_denormals()
        while done < steps:
            many = min(self.chunk, steps - done)
            for layer in range(self.layers):
                work = self.work[layer]
                work.batch.steps = many
                if layer > 0:
                    work.input.x.data = (self.work[layer - 1].states.h
                                         + self.work[layer - 1].layer.state_stride)
                elif ids != NULL:
                    memcpy(self.tokens, ids + done, many * sizeof(ptrdiff_t))
                else:
                    work.input.x.data = <real*>x + done * self.input_size
                forward_steps(work, 0, many, &self.split[layer], 0, 1)
            for k in range(many):
                memcpy(y + (done + k) * self.output_size,
                       work.states.h + (k + 1) * work.layer.state_stride,
                       self.output_size * sizeof(real))
            for layer in range(self.layers):
                work = self.work[layer]
                memcpy(work.states.h, work.states.h + many * work.layer.state_stride,
                       work.layer.state_stride * sizeof(real))
            done += many
        restore_denormals(mode)

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

    def step(self, x, out=None):
        """Take one step: x (input_size,), or one token id; returns y (output_size,), or `out`."""
        cdef cnp.ndarray y = self.space(out, 1, 1)
        cdef cnp.ndarray given
        cdef real* to = <real*>cnp.PyArray_DATA(y)
        cdef const real* source
        cdef ptrdiff_t token
        if self.tokens != NULL:
            if type(x) is not int:
                x = self.token_id(x)
            if not 0 <= x < self.vocabulary:
                raise ValueError(f"x: index out of range: expected a token id from 0 to "
                                 f"{self.vocabulary - 1}, got {x}")
            token = x
            with nogil:
                self.run(NULL, &token, to, 1)
            return y
        given = self.features(x, 1, "x")
        source = <const real*>cnp.PyArray_DATA(given)
        with nogil:
            self.run(source, NULL, to, 1)
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
        if self.tokens != NULL:
            from rnncore.arguments import check_tokens
            given = check_tokens("block", block, self.vocabulary)       # a copy
            if cnp.PyArray_NDIM(given) != 1:
                raise TypeError(f"block: expected integer token ids (T,), got shape "
                                f"{(<object>given).shape}")
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
                self.run(NULL if source == NULL else source + done * self.input_size,
                         NULL if ids == NULL else ids + done, to + done * self.output_size, end - done)
                self.reset()
                done = end
        with nogil:
            self.run(NULL if source == NULL else source + done * self.input_size,
                     NULL if ids == NULL else ids + done, to + done * self.output_size, steps - done)
        return y

    def get_state(self):
        """The state of each layer: h, or (h, c), (h, c, ...), as lists of arrays (hidden_size,)."""
        parts = tuple([[self.part(k, n).copy() for k in range(self.layers)] for n in range(self.count())])
        return parts if len(parts) > 1 else parts[0]

    def set_state(self, state):
        """Take a state as `get_state` gives it."""
        from rnncore.arguments import as_real
        parts = state if self.count() > 1 else (state,)
        if not isinstance(parts, tuple) or len(parts) != self.count():
            raise TypeError("state: expected what get_state returns: h, or a tuple of "
                            f"{self.count()} for cells of so many states, as (h, c)")
        checked = []
        for n in range(len(parts)):
            if parts[n] is None:
                raise TypeError("state: expected arrays, as get_state returns them, got None")
            if len(parts[n]) != self.layers:
                raise ValueError(f"state: expected one array for each of {self.layers} layers, "
                                 f"got {len(parts[n])}")
            for k in range(self.layers):
                place = self.part(k, n)
                if getattr(parts[n][k], "shape", None) != place.shape:
                    raise ValueError(f"state: expected arrays of shape {place.shape} in layer {k}, "
                                     f"got {getattr(parts[n][k], 'shape', parts[n][k])}; of the "
                                     "state of a batch take one sequence, h[:, 0]")
                checked.append((place, as_real(f"state: layer {k}", parts[n][k], place.dtype)))
        for place, values in checked:
            place[...] = values

    def reset(self):
        """Go back to the state that a new stream begins with."""
        for k, states in enumerate(self.initial[0]):
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

    cdef ptrdiff_t count(self):
        # of states
        return 1 + self.work[0].layer.carried

    cdef object part(self, int k, ptrdiff_t n):
        # The n-th state of layer k.
        cdef cnp.npy_intp size = self.work[k].layer.z.units
        cdef real* where = self.work[k].states.h
        if n > 0:
            where = self.work[k].states.c + (n - 1) * state_apart(self.work[k])
        cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(1, &size, REAL_TYPE, where)
        cnp.set_array_base(array, self)
        return array
