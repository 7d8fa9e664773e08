# Several streams of one chain, which take their steps together.

cdef class Streams(Chain):
    """Streams that come and go, and take their steps in one pass; each as if it were alone.

    `layer.streams()` makes them; there are none at first. Each gives the bits of a `Stream` of its own,
    whatever the others do. One caller at a time.
    """

    cdef ptrdiff_t most         # rows of a pass
    cdef int threads            # that buffers have room for
    cdef ptrdiff_t rows         # that the splits are for
    cdef ptrdiff_t* offset      # (2): where the one step of a pass begins and ends
    cdef ptrdiff_t[::1] chosen  # the numbers of the streams of this call
    cdef char[::1] state_of     # of each place: 0 free, 1 taken, 2 taken and chosen in this call
    # Of each layer (places, state_stride) and, of all states beside h, (places, carried * state_stride);
    # None where the cell has none.
    cdef list bank_h, bank_c
    cdef object initial         # the states of each layer

    def __init__(self, list tasks, list heads, list outputs, offset, ptrdiff_t most, int threads,
                 tokens, ptrdiff_t vocabulary, initial, dtype, holds):
        Chain.__init__(self, tasks, heads, outputs, tokens, vocabulary, dtype)
        self.offset, self.most, self.rows = <ptrdiff_t*>indices(offset), most, 0
        self.threads = threads
        self.buffers = (self.buffers, offset, holds)
        self.initial = initial
        import numpy
        self.chosen, self.state_of = numpy.empty(0, numpy.intp), numpy.empty(0, numpy.int8)
        self.bank_h, self.bank_c = [], []
        for k in range(self.layers):
            empty = numpy.zeros((0, self.work[k].layer.state_stride), dtype)
            self.bank_h.append(empty)
            carried = self.work[k].layer.carried
            self.bank_c.append(numpy.tile(empty, carried) if carried else None)

    def __len__(self):
        """How many streams there are."""
        return int(sum(1 for place in self.state_of if place))

    def __reduce__(self):
        """Refuse to be pickled: get_state and set_state carry a stream elsewhere."""
        raise TypeError("streams: cannot be pickled; use get_state and set_state")

    @property
    def numbers(self):
        """The numbers of all streams, in ascending order."""
        return [number for number in range(len(self.state_of)) if self.state_of[number]]

    def join(self):
        """Begin another stream; returns its number, the lowest that is free."""
        import numpy
        cdef ptrdiff_t places = len(self.state_of), number = 0
        while number < places and self.state_of[number]:
            number += 1
        if number == places:
            larger = max(4, 2 * places)
            for bank in (self.bank_h, self.bank_c):
                for k in range(self.layers):
                    if bank[k] is not None:
                        wide = numpy.zeros((larger, bank[k].shape[1]), self.dtype)
                        wide[:places] = bank[k]
                        bank[k] = wide
            taken = numpy.zeros(larger, numpy.int8)
            taken[:places] = self.state_of
            self.chosen, self.state_of = numpy.empty(larger, numpy.intp), taken
        self.state_of[number] = 1
        self.reset(number)
        return number

    def leave(self, number):
        """End a stream; its number is free for another one."""
        self.state_of[self.checked("number", number)] = 0

    def reset(self, number):
        """Let a stream begin anew."""
        number = self.checked("number", number)
        for k, states in enumerate(self.initial):
            for n, values in enumerate(states):
                self.place(k, n, number)[...] = values

    def get_state(self, number):
        """The state of a stream, as `Stream.get_state` gives it."""
        number = self.checked("number", number)
        return state_given(self.parts(number))

    def set_state(self, number, state):
        """Give a stream a state that `get_state` returned, of this or another one."""
        number = self.checked("number", number)
        state_taken(state, self.parts(number))

    cdef list parts(self, ptrdiff_t number):
        return [[self.place(k, n, number) for k in range(self.layers)] for n in range(self.most_states())]

    cdef object place(self, int k, ptrdiff_t n, ptrdiff_t number):
        # The n-th state of a layer, as a view; None where the cell has none.
        cdef ptrdiff_t first = max(n - 1, 0) * self.work[k].layer.state_stride
        if n > self.work[k].layer.carried:
            return None
        bank = self.bank_c[k] if n > 0 else self.bank_h[k]
        return bank[number, first:first + self.work[k].layer.z.units]

    cdef ptrdiff_t checked(self, str name, object number) except -1:
        # The number of a stream that there is.
        import operator
        if isinstance(number, bool) or not hasattr(number, "__index__"):
            raise TypeError(f"{name}: expected the number of a stream, as join returns it, got "
                            f"{number!r}")
        place = operator.index(number)
        if not 0 <= place < len(self.state_of) or not self.state_of[place]:
            raise ValueError(f"{name}: expected the number of a stream that has joined and not left, "
                             f"got {number}")
        return place

    cdef ptrdiff_t choose(self, object at) except -1:
        # Writes the numbers of the streams of this call; returns how many.
        cdef ptrdiff_t count = 0, place, k
        if at is None:
            for place in range(self.state_of.shape[0]):
                if self.state_of[place]:
                    self.chosen[count] = place
                    count += 1
            return count
        try:
            for number in at:
                if type(number) is int and 0 <= number < self.state_of.shape[0]:
                    place = number
                    if not self.state_of[place]:
                        self.checked("at", number)
                else:
                    place = self.checked("at", number)
                if self.state_of[place] == 2:
                    raise ValueError(f"at: expected each stream once, got {place} twice")
                self.chosen[count], self.state_of[place] = place, 2
                count += 1
        finally:
            for k in range(count):
                self.state_of[self.chosen[k]] = 1
        return count

    def step(self, x, at=None, out=None):
        """Take one step of some streams: x (n, input_size), or token ids (n,).

        Parameters
        ----------
        x
            A row, or an id, for each of them.
        at
            Their numbers, in the order of the rows; None: all there are, in ascending order.
        out
            (n, output_size), to be written; None: a new array.

        Returns
        -------
        y : (n, output_size)
            What each says now, in the same order.
        """
        cdef ptrdiff_t count = self.choose(at), first = 0, rows
        cdef cnp.ndarray given, y
        cdef const real* source = NULL
        cdef const ptrdiff_t* ids = NULL
        cdef real* to
        cdef int threads = min(self.threads, self.threads_of(True))
        if self.tokens != NULL:
            given = self.token_ids(x, "x", "n")
            ids = <const ptrdiff_t*>cnp.PyArray_DATA(given)
        else:
            given = self.features(x, 2, "x")
            source = <const real*>cnp.PyArray_DATA(given)
        if cnp.PyArray_DIM(given, 0) != count:
            raise ValueError(f"x: expected a row for each of {count} streams, got shape "
                             f"{(<object>given).shape}")
        y = self.space(out, 2, count)
        if ids == NULL and overlap(given, y):
            given = given.copy()        # rows would be overwritten before they are read
            source = <const real*>cnp.PyArray_DATA(given)
        to = <real*>cnp.PyArray_DATA(y)
        while first < count:
            rows = min(self.most, count - first)
            self.move(&self.chosen[first], rows, False)
            with nogil:
                self.run(NULL if source == NULL else source + first * self.input_size,
                         NULL if ids == NULL else ids + first, to + first * self.output_size, rows,
                         threads)
            self.move(&self.chosen[first], rows, True)
            first += rows
        return y

    cdef void move(self, const ptrdiff_t* places, ptrdiff_t rows, bint back):
        # The states of some streams to the rows of a pass, or back.
        cdef ptrdiff_t size, k, n, here, there
        cdef int layer
        cdef Work* work
        cdef real* bank
        for layer in range(self.layers):
            work = self.work[layer]
            size = work.layer.state_stride
            bank = <real*>cnp.PyArray_DATA(<cnp.ndarray>self.bank_h[layer])
            for k in range(rows):
                if back:
                    memcpy(bank + places[k] * size, work.states.h + (rows + k) * size,
                           size * sizeof(real))
                else:
                    memcpy(work.states.h + k * size, bank + places[k] * size, size * sizeof(real))
            if work.layer.carried == 0:
                continue
            bank = <real*>cnp.PyArray_DATA(<cnp.ndarray>self.bank_c[layer])
            for n in range(work.layer.carried):
                for k in range(rows):
                    here = (n * rows + k) * size        # see state_apart
                    there = (places[k] * work.layer.carried + n) * size
                    if back:
                        memcpy(bank + there, work.states.c + here, size * sizeof(real))
                    else:
                        memcpy(work.states.c + here, bank + there, size * sizeof(real))

    cdef void run(self, const real* x, const ptrdiff_t* ids, real* y, ptrdiff_t rows,
                  int threads) noexcept nogil:
        cdef float_mode mode = enter_kernels()
        cdef int layer
        if rows != self.rows:
            self.rows = self.offset[1] = rows
            for layer in range(self.layers):
                self.work[layer].batch.running = rows
                self.split[layer] = split_team(self.work[layer], rows, 0, 1)
        self.run_layers(x, ids, 1, rows, threads)
        self.run_heads(y, 1, rows, threads)
        leave_kernels(mode)
