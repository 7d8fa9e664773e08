# Rows between the caller's arrays and the engine's buffers: gathered, scattered, padded.

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
    ptrdiff_t padding           # zeros that follow each part
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
            if move.padding:
                memset(to + part * move.to.part + move.depth, 0, move.padding * sizeof(real))


cdef Place place_of(tuple where):
    array, first, stride, part, place = where
    return Place(reals(array) + <ptrdiff_t>first, stride, part,
                 <const ptrdiff_t*>data(place, sizeof(ptrdiff_t)))


def move_rows(tuple to, tuple source, ptrdiff_t rows, ptrdiff_t parts, ptrdiff_t depth,
              ptrdiff_t padding, int threads):
    """Copy rows of `parts` pieces of `depth` numbers, and put `padding` zeros behind each piece.

    `to` and `source` are (array, first, stride, part_stride, places): row r begins at
    `first + places[r] * stride` of the array, or `first + r * stride` where places is None. A row
    of `source` at a negative place is zeros.
    """
    cdef Move move
    move.to = place_of(to)
    move.source = place_of(source)
    move.rows, move.parts, move.depth, move.padding = rows, parts, depth, padding
    move.in_one_piece = (
        parts == 1 and padding == 0 and move.to.place == NULL
        and move.source.place == NULL and move.to.stride == depth and move.source.stride == depth)
    with nogil:
        run_region(move_region, &move, worthwhile(threads, rows * parts * depth * 16))
