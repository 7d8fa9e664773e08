# Sizes: how numbers stand in memory, and from which size on something is worth while. The latter was
# measured, and changes no bit of any result.

cdef enum:
    CHUNK_ROWS = 256            # rows that the projection takes at a time at most, and the sums of the
                                # weight gradients: these are summed in the order of such chunks
    SHORT_CHUNK_ROWS = 96       # of a product by itself
    GROUP_BLOCKS = 8            # blocks whose pre-activations few rows compute at once
    FEW_ROWS = 3                # so few are bound by reading weights, not by arithmetic
    ROUNDED_PANELS = 16         # at once, where a tile rounds what it multiplies: it does it once for them
    FEWER_PANELS = 4            # where these leave the second cache, or sums stand on the stack
    MOST_LAYERS = 64            # of a wavefront, and of a stream
    MOST_HEADS = 8              # linear layers behind a stream
    # Multiply-adds that take some tens of microseconds: less stays on the caller's thread. What else
    # kernels do is counted in these: a number moved, added or converted costs a few, as it comes
    # from memory; one that goes through exp some more.
    WORTH_A_THREAD = 500000
    COST_OF_A_MOVE = 16
    COST_OF_A_SQUARE = 8
    BARRIER_VECTORS = 1024      # multiply-adds of a vector in a share of a step that pays for a barrier
    LEAST_CHUNK_ROWS = 48       # of a chunk whose z does not stay in the second cache anyway
    SUMS_IN_CACHE = 65536       # numbers of dz that stay in the second cache beside panels of x

# Bytes that stay in a core's own caches beside what else is there.
cdef ptrdiff_t FIRST_CACHE = cache_bytes(1) // 4 * 3
cdef ptrdiff_t SECOND_CACHE = cache_bytes(2) // 2


cdef const Storage* storage_of(str name, ptrdiff_t columns, ptrdiff_t weights) except NULL:
    # For matrices of so many columns at most, and so many weights.
    cdef int k
    if name in ("bfloat16", "bfloat16x3"):
        settle_bfloat16()
    for k in range(STORAGES):
        if storages[k].name != name.encode() or storages[k].tiles == NULL or weights < storages[k].least:
            continue
        if storages[k].together == 4 and columns > MOST_INT8:
            raise ValueError(f"precision: expected another for {columns} columns, got int8, which "
                             f"takes at most {MOST_INT8}")
        return &storages[k]
    raise ValueError(f"storage: expected one of {', '.join(products())}, got {name!r}")


def products():
    """How weights can be stored, and what multiplies them."""
    cdef dict found = {}
    cdef ptrdiff_t least = 0
    cdef int k
    settle_bfloat16()
    for k in range(STORAGES):
        if storages[k].tiles == NULL:
            continue
        name, product = storages[k].name.decode(), storages[k].product.decode()
        if name not in found:
            found[name] = product
        elif least > 0:
            found[name] += f" (small layers {product})"
        least = storages[k].least
    return found


def use_products(str form not None):
    """Have layers that are made from now on use the "best" instructions that this processor has, the
    "plain" ones that each has, "squares" as AMX has them, in C, or "amx", whether it is here or not."""
    if not choose_products(form.encode()):
        raise ValueError(f"form: expected best, plain, squares or amx, got {form!r}")


choose_products(b"best")


cdef struct Layout:
    # How the gates of one row stand in memory: (blocks, places, block). The first `gates` of the
    # `places` belong to W_hx x.
    ptrdiff_t units             # hidden units
    ptrdiff_t block             # hidden units a block
    ptrdiff_t blocks
    ptrdiff_t gates
    ptrdiff_t places
    ptrdiff_t stride            # blocks * places * block
    ptrdiff_t width             # blocks * gates * block: columns of the weights
    ptrdiff_t panel             # columns of the panels of the weights
    ptrdiff_t block_panels      # that the gates of a block fill; the last one may be narrower
    const Storage* storage      # how weights are stored
    const tile_kernel* tile     # the loop for such panels
    const tile_kernel* wide     # and for those of PANEL columns


cdef struct Rows:
    # A matrix by rows, each row in `parts` of `depth` numbers, `part_stride` apart.
    real* data
    ptrdiff_t stride
    ptrdiff_t parts
    ptrdiff_t depth
    ptrdiff_t part_stride


cdef struct Target:
    # Where rows of `depth` numbers go, `stride` apart: one after another, or to the caller's places,
    # whose padding becomes zeros. By non-temporal stores, if they would leave the caches anyway.
    real* data
    ptrdiff_t stride
    ptrdiff_t depth
    bint placed
    bint nontemporal


cdef inline bint are_large(ptrdiff_t bytes) noexcept nogil:
    # Larger than the second cache, so that what was used long ago comes from afar.
    return bytes > 2 * SECOND_CACHE


cdef inline ptrdiff_t bytes_of_weights(const Layout* z, ptrdiff_t numbers) noexcept nogil:
    return numbers // z.storage.together * z.storage.words * <ptrdiff_t>sizeof(weight)


cdef inline bint are_large_weights(const Layout* z, ptrdiff_t numbers) noexcept nogil:
    return are_large(bytes_of_weights(z, numbers))


cdef inline ptrdiff_t panels_at_once(const Layout* z, ptrdiff_t steps) noexcept nogil:
    # Of many rows, which find these panels in the second cache again and again.
    if z.storage.together == 1:
        return 1
    return max(<ptrdiff_t>FEWER_PANELS, min(<ptrdiff_t>ROUNDED_PANELS,
                                            SECOND_CACHE // (steps * PANEL * <ptrdiff_t>sizeof(weight))))


cdef inline ptrdiff_t round_up(ptrdiff_t number, ptrdiff_t multiple) noexcept nogil:
    return (number + multiple - 1) // multiple * multiple


cdef inline ptrdiff_t share(ptrdiff_t number, int thread, int threads) noexcept nogil:
    # Where the part of this thread begins; share(n, i + 1, threads) is where it ends.
    return number * thread // threads


cdef int worthwhile(int threads, ptrdiff_t multiply_adds) noexcept nogil:
    cdef ptrdiff_t most = multiply_adds // WORTH_A_THREAD
    return <int>max(<ptrdiff_t>1, min(<ptrdiff_t>threads, most))


cdef Layout layout_of(ptrdiff_t units, ptrdiff_t gates, ptrdiff_t places, ptrdiff_t together,
                      const Storage* storage) noexcept nogil:
    # Blocks are the smallest of which so many gates together fill whole panels, and panels the widest
    # of those that pad the units least. A whole number of blocks makes PANEL units, so that these can be
    # shared out. Of gates that fill panels apart, units of one panel are a single block, since the last
    # panel of a matrix may be narrower.
    cdef Layout layout
    cdef ptrdiff_t vectors, width
    memset(&layout, 0, sizeof(Layout))
    if together < gates and units <= PANEL:
        layout.block, layout.panel = round_up(units, LANES), PANEL
        layout.tile = tiles_for(storage, PANEL_VECTORS)
    for width in range(PANEL_VECTORS if layout.block == 0 else 1, 1, -1):
        vectors = 1
        while vectors * together % width:
            vectors += 1
        if layout.block == 0 or (PANEL_VECTORS % vectors == 0 and
                                 round_up(units, vectors * LANES) < round_up(units, layout.block)):
            layout.block = vectors * LANES
            layout.panel = width * LANES
            layout.tile = tiles_for(storage, width)
    layout.storage, layout.wide = storage, tiles_for(storage, PANEL_VECTORS)
    layout.units = units
    layout.blocks = round_up(units, layout.block) // layout.block
    return with_gates(&layout, gates, places)


cdef Layout with_gates(const Layout* like, ptrdiff_t gates, ptrdiff_t places) noexcept nogil:
    # The same blocks with other gates.
    cdef Layout layout = like[0]
    layout.block_panels = round_up(gates * layout.block, layout.panel) // layout.panel
    layout.gates = gates
    layout.places = places
    layout.width = layout.blocks * gates * layout.block
    layout.stride = layout.blocks * places * layout.block
    return layout


cdef inline Panels panels_of(const Layout* z, real* data, ptrdiff_t depth) noexcept nogil:
    # The weights of a layout, (width, depth), for the forward pass.
    return Panels(data, depth, z.width, z.panel, steps_of(depth, z.storage), z.storage)


cdef int check_storage(const Panels* panels, const Layout* z) except -1:
    if panels.storage != z.storage:
        raise RuntimeError("precision: expected that with which the weights were packed; another "
                           "thread has changed it during the call")
    return 0


cdef inline ptrdiff_t columns_of(ptrdiff_t parts, ptrdiff_t depth, ptrdiff_t part_stride) noexcept nogil:
    # Whole vectors that a row in parts takes.
    return round_up((parts - 1) * part_stride + depth, LANES)


cdef inline Panels panels_back(const Layout* z, real* data, ptrdiff_t parts, ptrdiff_t depth,
                               ptrdiff_t part_stride) noexcept nogil:
    # The same weights for the backward pass: their rows are the panels' depth.
    return Panels(data, z.width, columns_of(parts, depth, part_stride), PANEL,
                  steps_of(z.width, z.storage), z.storage)


cdef inline ptrdiff_t column_size(ptrdiff_t rows) noexcept nogil:
    # Numbers from one column of a chunk of rows to the next, and rows of its panels.
    return round_up(min(rows, <ptrdiff_t>CHUNK_ROWS), LANES)


cdef inline Panels row_panels(const Layout* z, real* data, ptrdiff_t columns, ptrdiff_t rows) noexcept nogil:
    # A chunk of rows as panels, for the sums of the weight gradients.
    cdef ptrdiff_t size = column_size(rows)
    return Panels(data, size, round_up(columns, LANES), PANEL, steps_of(size, z.storage), z.storage)


def backward_chunk(ptrdiff_t steps, ptrdiff_t rows):
    """Steps a chunk of the backward pass: as many as have CHUNK_ROWS rows on average."""
    return max(<ptrdiff_t>1, CHUNK_ROWS * steps // max(<ptrdiff_t>1, rows))


# Arrays that Python owns

cdef void* data(object array, size_t itemsize, bint whole) except? NULL:
    if array is None:
        return NULL
    cdef cnp.ndarray a = array
    if (<size_t>cnp.PyArray_ITEMSIZE(a) != itemsize or not cnp.PyArray_IS_C_CONTIGUOUS(a)
            or not cnp.PyArray_ISALIGNED(a) or not cnp.PyArray_ISNOTSWAPPED(a)
            or not (cnp.PyArray_ISSIGNED(a) if whole else cnp.PyArray_ISFLOAT(a))):
        raise TypeError("the engine takes contiguous, aligned arrays of its own dtype")
    return cnp.PyArray_DATA(a)


cdef inline real* reals(object array) except? NULL:
    return <real*>data(array, sizeof(real), False)


cdef real* numbers(object array, ptrdiff_t size) except? NULL:
    # An array with at least so many numbers.
    if array is None or cnp.PyArray_SIZE(array) < size:
        came = None if array is None else array.size
        raise ValueError(f"expected an array of {size} numbers, got {came}")
    return reals(array)


cdef Rows rows_in_array(object array, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t stride,
                        ptrdiff_t parts, ptrdiff_t depth, ptrdiff_t part_stride) except *:
    # So many rows of a flat array, which begin at `first`.
    cdef ptrdiff_t size = first
    if rows > 0:
        size += (rows - 1) * stride + (parts - 1) * part_stride + depth
    return Rows(numbers(array, size) + first, stride, parts, depth, part_stride)


cdef inline const ptrdiff_t* indices(object array) except? NULL:
    return <const ptrdiff_t*>data(array, sizeof(ptrdiff_t), True)


cdef Target target_of(object array, ptrdiff_t first, ptrdiff_t stride, ptrdiff_t depth, bint placed,
                      bint leaves) except *:
    # Rows of a flat array. If it leaves the engine and is larger than the second cache, it is written
    # by non-temporal stores, given that its rows are whole cache lines.
    cdef Target target = Target(reals(array) + first, stride, depth, placed, False)
    target.nontemporal = (leaves and are_large(cnp.PyArray_NBYTES(array))
                          and <size_t>target.data % <size_t>(CACHE_LINE * sizeof(real)) == 0
                          and stride % CACHE_LINE == 0)
    return target
