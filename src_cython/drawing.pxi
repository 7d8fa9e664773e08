# A text written symbol by symbol, each drawn from what a stream predicts.

cdef class Drawer:
    """Draws the next one of so many symbols, see `rnncore.models.language_drawing`; one caller at a time."""

    cdef Drawing how
    cdef ptrdiff_t symbols
    cdef double[::1] x, spare   # (symbols) with padding, as `draw` wants them
    cdef real* logits           # (symbols)
    cdef object holds

    def __init__(self, ptrdiff_t symbols, double temperature, ptrdiff_t top_k, double top_p,
                 double penalty):
        import numpy
        cdef ptrdiff_t padded = round_up(symbols, MOST_WIDE_LANES)
        if symbols < 1:
            raise ValueError(f"symbols: expected one at least, got {symbols}")
        self.symbols = symbols
        self.how = Drawing(temperature, min(top_k, symbols), top_p, penalty)
        self.x, self.spare = numpy.empty(padded), numpy.empty(padded)
        self.holds = numpy.empty(symbols, "f4" if sizeof(real) == 4 else "f8")
        self.logits = reals(self.holds)

    cdef ptrdiff_t chosen(self, const real* logits, double u, const ptrdiff_t* recent,
                          ptrdiff_t count, const ptrdiff_t* left_out, ptrdiff_t many) noexcept nogil:
        # -1 if the largest of the logits is no number.
        cdef ptrdiff_t k
        cdef double highest = -INFINITY
        cdef bint unknown = False
        for k in range(self.symbols):
            self.x[k] = logits[k]
            highest = max(highest, self.x[k])
            unknown |= self.x[k] != self.x[k]
        if unknown or not isfinite(highest):
            return -1
        for k in range(many):
            self.x[left_out[k]] = -INFINITY
        return draw(&self.how, &self.x[0], &self.spare[0], self.symbols, u, recent, count)

    cdef int are_symbols(self, str name, const ptrdiff_t* given, ptrdiff_t count) except -1:
        cdef ptrdiff_t k
        for k in range(count):
            if not 0 <= given[k] < self.symbols:
                raise ValueError(f"{name}: expected symbols from 0 to {self.symbols - 1}, got {given[k]}")
        return 0

    def choose(self, logits, const double[::1] uniforms, const ptrdiff_t[:, ::1] recent,
               const ptrdiff_t[::1] left_out):
        """A symbol for each row of logits (B, V), uniforms (B,) and last symbols (B, n): (B,).

        Those `left_out` never come. Where the largest logit is no number, -1 stands.
        """
        import numpy
        cdef ptrdiff_t rows = uniforms.shape[0], many = left_out.shape[0], k
        cdef const real* x = numbers(logits, rows * self.symbols)
        cdef const ptrdiff_t* out = NULL
        cdef const ptrdiff_t* last = NULL
        cdef ptrdiff_t count = recent.shape[1]
        cdef cnp.ndarray drawn = numpy.empty(rows, numpy.intp)
        if recent.shape[0] != rows:
            raise ValueError(f"recent: expected {rows} rows, got {recent.shape[0]}")
        if many > 0:
            out = &left_out[0]
        if rows * count > 0:
            last = &recent[0, 0]
        self.are_symbols("left_out", out, many)
        self.are_symbols("recent", last, rows * count)
        for k in range(rows):
            (<ptrdiff_t*>cnp.PyArray_DATA(drawn))[k] = self.chosen(
                x + k * self.symbols, uniforms[k], NULL if last == NULL else last + k * count, count, out,
                many)
        return drawn

    def write(self, Stream stream not None, ptrdiff_t[::1] history, ptrdiff_t known, ptrdiff_t begin,
              ptrdiff_t window, const double[::1] uniforms, const ptrdiff_t[::1] left_out):
        """Write on after history[known - 1], which the stream has not read yet: a symbol for each uniform.

        All but the last are read, too. Repetition counts among the `window` symbols before, from
        history[begin] on. Returns how many are written: fewer if what is predicted is no number.
        """
        cdef ptrdiff_t done = 0, steps = uniforms.shape[0], many = left_out.shape[0], first, token
        cdef int threads = stream.threads_of(False)
        cdef const ptrdiff_t* out = NULL
        if not 0 < known <= history.shape[0] - steps or not 0 <= begin <= known or window < 0:
            raise ValueError("known, begin, window: expected room for what is written, got "
                             f"{known}, {begin}, {window} of {history.shape[0]}")
        if stream.output_size != self.symbols or stream.vocabulary != self.symbols:
            raise ValueError(f"stream: expected one of {self.symbols} symbols, got {stream.vocabulary}")
        if many > 0:
            out = &left_out[0]
        self.are_symbols("left_out", out, many)
        self.are_symbols("history", &history[0], known)
        with nogil:
            while done < steps:
                stream.run(NULL, &history[known - 1], self.logits, 1, threads)
                first = max(begin, known - window)
                token = self.chosen(self.logits, uniforms[done], &history[first], known - first, out, many)
                if token < 0:
                    break
                history[known] = token
                known, done = known + 1, done + 1
        return done
