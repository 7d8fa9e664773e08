# Rows between the caller's arrays and the engine's buffers: gathered, scattered, padded.

# A step's places are passed one after another, which the caller's arrays reward; rows are in the
# cache. A thread moves the rows k, k + threads, ... of a step, and of each the columns first to last.

cdef void take_rows(const Work* work, real* out, ptrdiff_t out_stride, const real* given,
                    ptrdiff_t stride, ptrdiff_t low, ptrdiff_t high, ptrdiff_t first,
                    ptrdiff_t last, ptrdiff_t end, bint placed, bint close, int thread,
                    int threads) noexcept nogil:
    # out    OUT  the rows of the steps low to high, columns first to last, and zeros from last to end:
    #             of this thread, close together, or where they stand among the others
    # given  IN   all rows from step 0 on, in the caller's places (`placed`) or in order
    cdef ptrdiff_t t, place, count, places
    cdef unsigned i
    cdef const real* given_t
    cdef real* to
    for t in range(low, high):
        count = rows_of(work, t)
        places = work.batch.sequences if placed else count
        given_t = given + (t * places if placed else work.batch.offset[t]) * stride
        for place in range(places):
            i = work.batch.rank[place] if placed else place
            if i >= count or i % <unsigned>threads != <unsigned>thread:
                continue
            to = out + (i // <unsigned>threads if close else i) * out_stride
            memcpy(to + first, given_t + place * stride + first,
                   (last - first) * sizeof(real))
            if last < end:
                memset(to + last, 0, (end - last) * sizeof(real))
        out = out + ((count - thread + threads - 1) // threads if close else count) * out_stride


cdef void put_rows(const Work* work, const Target* target, const real* rows, ptrdiff_t stride,
                   ptrdiff_t low, ptrdiff_t high, ptrdiff_t first, ptrdiff_t last, int thread,
                   int threads) noexcept nogil:
    # target  OUT  where the rows of the steps low to high go, columns first to last; of one step, if
    #              it is to the caller's places, with zeros in the padding
    # rows    IN   those rows, `stride` apart
    cdef ptrdiff_t place, k, count = work.batch.offset[high] - work.batch.offset[low]
    cdef unsigned i
    cdef bint nontemporal = target.nontemporal and (last - first) % CACHE_LINE == 0
    cdef real* to = target.data + first + work.batch.offset[low] * target.stride
    rows = rows + first
    if not target.placed:
        for k in range(count if threads == 1 else (count - thread + threads - 1) // threads):
            place = thread + k * threads
            put_row(to + place * target.stride, rows + place * stride, last - first, nontemporal)
        return
    to = target.data + first + low * work.batch.sequences * target.stride
    for place in range(work.batch.sequences):
        i = work.batch.rank[place]
        if i % <unsigned>threads == <unsigned>thread:
            put_row(to + place * target.stride, rows + i * stride if i < count else NULL,
                    last - first, nontemporal)


cdef inline void put_row(real* to, const real* row, ptrdiff_t count, bint nontemporal) noexcept nogil:
    # A row, or NULL for zeros.
    cdef ptrdiff_t k
    if nontemporal:
        for k in range(count // LANES):
            store_nontemporal(to + k * LANES, splat(0) if row == NULL else load(row + k * LANES))
    elif row == NULL:
        memset(to, 0, count * sizeof(real))
    else:
        memcpy(to, row, count * sizeof(real))


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


cdef Place place_of(tuple where, ptrdiff_t rows, ptrdiff_t parts, ptrdiff_t depth) except *:
    array, first, stride, part, place = where
    cdef const ptrdiff_t* places = indices(place)
    if places != NULL:
        if len(place) < rows:
            raise ValueError(f"places: expected {rows}, got {len(place)}")
        rows = 0                # where they are is the caller's
    cdef Rows given = rows_in_array(array, first, rows, stride, parts, depth, part)
    return Place(given.data, stride, part, places)


def move_rows(tuple to, tuple source, ptrdiff_t rows, ptrdiff_t parts, ptrdiff_t depth,
              int threads):
    """Copy rows of `parts` pieces of `depth` numbers.

    `to` and `source` are (array, first, stride, part_stride, places): row r begins at
    `first + places[r] * stride` of the array, or `first + r * stride` where places is None. A row
    of `source` at a negative place is zeros.
    """
    cdef Move move
    move.to = place_of(to, rows, parts, depth)
    move.source = place_of(source, rows, parts, depth)
    move.rows, move.parts, move.depth = rows, parts, depth
    move.in_one_piece = (
        parts == 1 and move.to.place == NULL
        and move.source.place == NULL and move.to.stride == depth and move.source.stride == depth)
    with nogil:
        run_region(move_region, &move, worthwhile(threads, rows * parts * depth * COST_OF_A_MOVE))


def add_rows(out, places, rows, ptrdiff_t width):
    """out[places[k]] += rows[k] for each row k, one after another; all are flat arrays."""
    cdef ptrdiff_t k, j, count = len(places), most
    cdef const ptrdiff_t* place = indices(places)
    cdef const real* row = numbers(rows, count * width)
    cdef real* table
    cdef real* to
    if width < 1 or len(out) % width:
        raise ValueError(f"width: expected a divisor of {len(out)} numbers, got {width}")
    table, most = numbers(out, len(out)), len(out) // width
    for k in range(count):
        if not 0 <= place[k] < most:
            raise ValueError(f"places: expected 0 to {most - 1}, got {place[k]}")
    with nogil:
        for k in range(count):
            to = table + place[k] * width
            for j in range(width):
                to[j] += row[j]
            row = row + width
