# y = x W^T + b by itself: a layout with one gate, so that its rows stand in their natural order; or the
# projection of an embedding table into the layout of a cell.

cdef int NATURAL[1]
NATURAL[:] = [0]

cdef struct Product:
    Layout layout
    const int* gate_of
    Rows x
    ptrdiff_t rows
    Panels W
    const real* b
    real* y
    # backward
    Panels W_back
    real* dx                    # OUT; NULL: nobody wants it
    ptrdiff_t dx_stride
    real* dW                    # INOUT
    real* db                    # INOUT; NULL: nobody wants it
    bint adds                   # to dW and db; False: they are only written to
    real* dy_columns            # SCRATCH
    real* x_panels              # SCRATCH
    Barrier barrier


cdef void product_region(void* argument, int thread, int threads) noexcept nogil:
    # A chunk of rows at a time, so that they stay in the second cache for all blocks.
    cdef Product* product = <Product*>argument
    cdef ptrdiff_t first = share(product.rows, thread, threads)
    cdef ptrdiff_t end = share(product.rows, thread + 1, threads), rows
    cdef Rows x = product.x
    x.data = x.data + first * x.stride
    while first < end:
        rows = min(<ptrdiff_t>SHORT_CHUNK_ROWS, end - first)
        project(product.y + first * product.layout.stride, 1, &product.layout, &x, 1, rows,
                &product.W, product.b, 0, product.layout.blocks)
        x.data = x.data + rows * x.stride
        first += rows


cdef void product_backward_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Product* product = <Product*>argument
    cdef Layout* layout = &product.layout
    cdef ptrdiff_t first = share(product.rows, thread, threads)
    cdef ptrdiff_t end = share(product.rows, thread + 1, threads), rows
    cdef ptrdiff_t columns = product.x.parts * product.x.depth
    cdef bint adds = product.adds
    while product.dx != NULL and first < end:
        rows = min(<ptrdiff_t>SHORT_CHUNK_ROWS, end - first)
        project_back(product.dx + first * product.dx_stride, product.dx_stride, product.dx_stride,
                     &product.x, rows, layout, product.y + first * layout.stride, layout.stride,
                     &product.W_back)
        first += rows
    first = 0
    while first < product.rows:
        rows = min(<ptrdiff_t>CHUNK_ROWS, product.rows - first)
        to_columns(product.dy_columns, product.y + first * layout.stride, layout.stride, rows,
                   thread, threads)
        copy_to_panels(layout, product.x_panels, &product.x, first, rows, 0, rows, thread, threads)
        barrier_wait(&product.barrier, thread, threads)
        accumulate(product.dW, columns, layout, 0, product.gate_of, product.dy_columns,
                   product.x_panels, rows, 0, rows, adds, thread, threads)
        if product.db != NULL:
            accumulate_bias(product.db, layout, 0, product.gate_of, product.dy_columns, rows, adds,
                            thread, threads)
        adds = True
        barrier_wait(&product.barrier, thread, threads)
        first += rows


cdef inline int threads_for(const Product* product, int threads) noexcept nogil:
    return worthwhile(threads, product.rows * product.x.parts * product.x.depth * product.layout.stride)


cdef void run_product(region kernel, Product* product, int threads):
    with nogil:
        run_region(kernel, product, threads_for(product, threads))


cdef class Linear:
    """A linear layer: its sizes.

    Attributes
    ----------
    in_features, out_features
    row_size
        Numbers a row of y in memory: out_features and the padding of the last panel.
    packed_bytes
        Of the weights for the forward pass.
    """

    cdef Layout layout
    cdef readonly ptrdiff_t in_features
    cdef readonly ptrdiff_t out_features
    cdef readonly ptrdiff_t row_size
    cdef readonly size_t packed_bytes

    def __init__(self, ptrdiff_t in_features, ptrdiff_t out_features, str storage):
        self.layout = layout_of(out_features, 1, 1, 1, storage_of(
            storage, in_features, in_features * out_features))
        self.in_features, self.out_features = in_features, out_features
        self.row_size = self.layout.stride
        self.packed_bytes = aligned(panels_bytes(
            in_features, self.layout.width, self.layout.storage)) + aligned(
            self.layout.width * sizeof(real))

    def packed_back_bytes(self, ptrdiff_t parts, ptrdiff_t part_stride):
        """Bytes of the weights for the backward pass, if x stands in parts."""
        return aligned(panels_bytes(
            self.layout.width, columns_of(parts, depth_of(self.in_features, parts), part_stride),
            self.layout.storage))

    def backward_sizes(self, ptrdiff_t rows):
        """Numbers of the scratch buffers of the backward pass of so many rows."""
        return {"dy_columns": self.layout.stride * column_size(rows),
                "x_panels": round_up(self.in_features, LANES) * column_size(rows)}


cdef class LinearWeights:
    """The weights of a linear layer packed for the forward pass; never changed once made.

    W is (out_features, in_features), b (out_features,) or None; see `Weights`.
    """

    cdef Product product
    cdef ptrdiff_t in_features
    cdef readonly ptrdiff_t row_size
    cdef object buffer

    def __init__(self, Linear linear not None, buffer, W, b, int threads):
        cdef char* at = buffer_of(buffer, linear.packed_bytes)
        cdef Product* p = &self.product
        memset(p, 0, sizeof(Product))
        self.buffer, self.in_features = buffer, linear.in_features
        self.row_size = linear.row_size
        p.layout = linear.layout
        p.W = panels_of(&p.layout, <real*>at, linear.in_features)
        cdef Packing packing = Packing(
            &p.layout, &NATURAL[0], p.W, numbers(W, linear.in_features * linear.out_features),
            1, linear.in_features, 0, NULL, NULL, NULL)
        run_packing(pack_region, &packing, threads)
        at += aligned(panels_bytes(linear.in_features, p.layout.width, p.layout.storage))
        p.b = <real*>at
        if b is None:
            memset(at, 0, p.layout.width * sizeof(real))
        else:
            spread_gates(<real*>at, numbers(b, linear.out_features), 1, NULL, &p.layout, NATURAL)

    def apply(self, x, int threads):
        """x W^T + b for an array (..., in_features) of the dtype, contiguous; else NotImplemented.

        The rows of the new array (..., out_features) are padded in memory.
        """
        cdef cnp.ndarray given, space, y
        cdef cnp.npy_intp shape[cnp.NPY_MAXDIMS]
        cdef cnp.npy_intp strides[cnp.NPY_MAXDIMS]
        cdef cnp.npy_intp size
        cdef int axes, k
        cdef char* at
        cdef Product product
        if not cnp.PyArray_CheckExact(x):
            return NotImplemented
        given = x
        axes = cnp.PyArray_NDIM(given)
        if (axes == 0 or cnp.PyArray_TYPE(given) != REAL_TYPE or not cnp.PyArray_ISCARRAY_RO(given)
                or cnp.PyArray_DIM(given, axes - 1) != self.in_features):
            return NotImplemented
        product = self.product
        product.rows = cnp.PyArray_SIZE(given) // self.in_features
        # a cache line more, to begin on one
        size = product.rows * product.layout.stride + CACHE_LINE
        space = cnp.PyArray_EMPTY(1, &size, REAL_TYPE, 0)
        at = <char*>aligned(<size_t>cnp.PyArray_DATA(space))
        product.y = <real*>at
        product.x = Rows(<real*>cnp.PyArray_DATA(given), self.in_features, 1, self.in_features, 0)
        threads = threads_for(&product, threads)
        with nogil:
            run_region(product_region, &product, threads)
        strides[axes - 1] = sizeof(real)
        shape[axes - 1] = product.layout.units
        size = product.layout.stride * sizeof(real)
        for k in range(axes - 2, -1, -1):
            shape[k], strides[k] = cnp.PyArray_DIM(given, k), size
            size *= shape[k]
        y = cnp.PyArray_New(cnp.ndarray, axes, shape, REAL_TYPE, strides, at, 0,
                            cnp.NPY_ARRAY_WRITEABLE | cnp.NPY_ARRAY_ALIGNED, None)
        cnp.set_array_base(y, space)
        return y


cdef class LinearWeightsBack:
    """The same weights packed for the backward pass; x stands in parts, `part_stride` apart."""

    cdef Panels W
    cdef object buffer

    def __init__(self, Linear linear not None, buffer, W, ptrdiff_t parts, ptrdiff_t part_stride, int threads):
        cdef ptrdiff_t depth = depth_of(linear.in_features, parts)
        cdef char* at = buffer_of(buffer, linear.packed_back_bytes(parts, part_stride))
        self.buffer = buffer
        self.W = panels_back(&linear.layout, <real*>at, parts, depth, part_stride)
        cdef Packing packing = Packing(
            &linear.layout, &NATURAL[0], self.W, numbers(W, linear.in_features * linear.out_features),
            parts, depth, part_stride, NULL, NULL, NULL)
        run_packing(pack_back_region, &packing, threads)


def linear_forward(LinearWeights weights not None, y, x, ptrdiff_t first, ptrdiff_t stride, ptrdiff_t parts,
                   ptrdiff_t part_stride, ptrdiff_t rows, int threads):
    """y = x W^T + b for rows of x that begin at `first`, `stride` apart, in a flat array."""
    cdef Product product = weights.product
    product.x = rows_in_array(x, first, rows, stride, parts,
                             depth_of(weights.in_features, parts), part_stride)
    product.rows = rows
    product.y = numbers(y, rows * product.layout.stride)
    run_product(product_region, &product, threads)


def linear_backward(Linear linear not None, LinearWeightsBack weights, dy, x, ptrdiff_t first,
                    ptrdiff_t stride, ptrdiff_t parts, ptrdiff_t part_stride, ptrdiff_t rows, dx,
                    ptrdiff_t dx_stride, dW, db, bint adds, dy_columns, x_panels, int threads):
    """dx = dy W; dW += dy^T x; db += sum dy. dx or db None: nobody wants it.

    dx stands in parts as x does, with zeros in the padding. `adds` False: dW and db are replaced,
    for which it takes a row.
    """
    cdef Product product
    memset(&product, 0, sizeof(Product))
    product.layout = linear.layout
    product.gate_of = &NATURAL[0]
    product.x = rows_in_array(x, first, rows, stride, parts,
                             depth_of(linear.in_features, parts), part_stride)
    product.rows = rows
    product.y = numbers(dy, rows * linear.layout.stride)
    if dx is not None:
        if weights is None:
            raise ValueError("weights: expected those of the backward pass for dx, got None")
        check_storage(&weights.W, &linear.layout)
        product.W_back = weights.W
        product.dx = numbers(dx, rows * dx_stride)
        product.dx_stride = dx_stride
    product.dW = numbers(dW, linear.in_features * linear.out_features)
    product.db = NULL if db is None else numbers(db, linear.out_features)
    product.adds = adds
    product.dy_columns = numbers(dy_columns, linear.layout.stride * column_size(rows))
    product.x_panels = numbers(x_panels, round_up(linear.in_features, LANES) * column_size(rows))
    run_product(product_backward_region, &product, threads)
