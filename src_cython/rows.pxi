# Rows between the caller's arrays and the engine's buffers: gathered, scattered, padded.

# A step's places are passed one after another, which the caller's arrays reward; rows are in the
# cache.

cdef void take_rows(const Work* work, real* out, ptrdiff_t out_stride, const real* given,
                    ptrdiff_t stride, ptrdiff_t depth, ptrdiff_t low, ptrdiff_t high, int thread,
                    int threads) noexcept nogil:
    # The caller's rows of the steps low to high, zeros behind them; this thread's share.
    cdef ptrdiff_t t, i, place, count, places
    cdef real* to
    for t in range(low, high):
        count = rows_of(work, t)
        places = count if work.row_of_place == NULL else work.sequences
        for place in range(share(places, thread, threads), share(places, thread + 1, threads)):
            i = place if work.row_of_place == NULL else work.row_of_place[place]
            if i >= count:
                continue
            to = out + i * out_stride
            memcpy(to, given + (t * places + place) * stride, depth * sizeof(real))
            if depth < out_stride:
                memset(to + depth, 0, (out_stride - depth) * sizeof(real))
        out = out + count * out_stride


cdef void put_rows(const Work* work, const Target* target, const real* rows, ptrdiff_t stride,
                   ptrdiff_t t, int thread, int threads) noexcept nogil:
    # The rows of step t, and zeros in its padding, to where they go; this thread's share.
    cdef ptrdiff_t i, place, count = rows_of(work, t), places = count
    cdef real* to = target.data + work.offset[t] * target.stride
    if target.placed:
        places = work.sequences
        to = target.data + t * places * target.stride
    to = to + share(places, thread, threads) * target.stride
    for place in range(share(places, thread, threads), share(places, thread + 1, threads)):
        i = work.row_of_place[place] if target.placed else place
        if i < count:
            memcpy(to, rows + i * stride, target.depth * sizeof(real))
        else:
            memset(to, 0, target.depth * sizeof(real))
        to = to + target.stride


# The same for whole arrays at once, of any rows.

cdef struct Place:
    # Row r begins at data + (place[r], or r) * stride; its parts of `depth` are `part` apart. A
    # negative place holds zeros.
    real* data
    ptrdiff_t stride
    ptrdiff_t part
    const ptrdiff_t* place

cdef struct Move:
    Place to
    Place source
    ptrdiff_t rows
    ptrdiff_t parts
    ptrdiff_t depth
    bint in_one_piece


cdef inline real* row_at(const Place* place, ptrdiff_t row) noexcept nogil:
    cdef ptrdiff_t where = row if place.place == NULL else place.place[row]
    return NULL if where < 0 else place.data + where * place.stride


cdef void move_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Move* move = <Move*>argument
    cdef ptrdiff_t begin = share(move.rows, thread, threads)
    cdef ptrdiff_t end = share(move.rows, thread + 1, threads)
    cdef ptrdiff_t row, part
    cdef real* to
    cdef const real* source
    if move.in_one_piece:
        memcpy(move.to.data + begin * move.depth, move.source.data + begin * move.depth,
               (end - begin) * move.depth * sizeof(real))
        return
    for row in range(begin, end):
        to = row_at(&move.to, row)
        source = row_at(&move.source, row)
        for part in range(move.parts):
            if source == NULL:
                memset(to + part * move.to.part, 0, move.depth * sizeof(real))
            else:
                memcpy(to + part * move.to.part, source + part * move.source.part,
                       move.depth * sizeof(real))


cdef Place place_of(tuple where):
    array, first, stride, part, place = where
    return Place(reals(array) + <ptrdiff_t>first, stride, part,
                 <const ptrdiff_t*>data(place, sizeof(ptrdiff_t)))


def move_rows(tuple to, tuple source, ptrdiff_t rows, ptrdiff_t parts, ptrdiff_t depth,
              int threads):
    """Copy rows of `parts` pieces of `depth` numbers.

    `to` and `source` are (array, first, stride, part_stride, places): row r begins at
    `first + places[r] * stride` of the array, or `first + r * stride` where places is None. A row
    of `source` at a negative place is zeros.
    """
    cdef Move move
    move.to = place_of(to)
    move.source = place_of(source)
    move.rows, move.parts, move.depth = rows, parts, depth
    move.in_one_piece = (
        parts == 1 and move.to.place == NULL
        and move.source.place == NULL and move.to.stride == depth and move.source.stride == depth)
    with nogil:
        run_region(move_region, &move, worthwhile(threads, rows * parts * depth * 16))
