# Tables of what each token contributes to a step, out of weights, and gradients back into them.

cdef struct OneHot:
    const Description* layer
    real* table                 # OUT (tokens, blocks, gates, block); of the gradient: IN
    real* W                     # IN (gates * units, input_size); of the gradient: INOUT
    const real* b               # IN (blocks, gates, block)
    const ptrdiff_t* tokens     # IN, each once
    ptrdiff_t count


cdef void one_hot_region(void* argument, int thread, int threads) noexcept nogil:
    cdef OneHot* t = <OneHot*>argument
    cdef const Layout* z = &t.layer.z
    cdef ptrdiff_t n
    for n in range(share(t.count, thread, threads), share(t.count, thread + 1, threads)):
        spread_gates(t.table + n * z.width, t.W + t.tokens[n], t.layer.input_size, t.b, z,
                     t.layer.cell.x_gates)


cdef void one_hot_gradient_region(void* argument, int thread, int threads) noexcept nogil:
    cdef OneHot* t = <OneHot*>argument
    cdef const Layout* z = &t.layer.z
    cdef ptrdiff_t n
    for n in range(share(t.count, thread, threads), share(t.count, thread + 1, threads)):
        gather_gates(t.W + t.tokens[n], t.layer.input_size, t.table + n * z.width, z,
                     t.layer.cell.x_gates)


cdef void run_one_hot(region kernel, OneHot* t, int threads):
    with nogil:
        run_region(kernel, t, worthwhile(threads, t.count * t.layer.z.width * COST_OF_A_MOVE))


cdef OneHot one_hot(Layer layer, table, W_hx, tokens) except *:
    cdef const Layout* z = &layer.layer.z
    return OneHot(&layer.layer, numbers(table, len(tokens) * z.width),
                  numbers(W_hx, z.gates * z.units * layer.input_size), NULL, indices(tokens),
                  len(tokens))


def one_hot_table(Layer layer not None, table, W_hx, Weights weights not None, tokens, int threads):
    """table[n] = W_hx e_v + b_h for the n-th token v, in the engine's layout."""
    cdef OneHot t = one_hot(layer, table, W_hx, tokens)
    t.b = weights.weights.b_x
    run_one_hot(one_hot_region, &t, threads)


def one_hot_gradient(Layer layer not None, dtable, dW_hx, tokens, int threads):
    """dW_hx e_v += dtable[n] for the n-th token v."""
    cdef OneHot t = one_hot(layer, dtable, dW_hx, tokens)
    run_one_hot(one_hot_gradient_region, &t, threads)


cdef Product table_of(Layer layer, embedding, ptrdiff_t vocabulary, table) except *:
    cdef Product product
    cdef Layout* z = &layer.layer.z
    memset(&product, 0, sizeof(Product))
    product.layout = with_gates(z, z.gates, z.gates)
    product.gate_of = &layer.layer.cell.x_gates[0]
    product.x = rows_in_array(embedding, 0, vocabulary, layer.input_size, 1, layer.input_size, 0)
    product.rows = vocabulary
    product.y = numbers(table, vocabulary * z.width)
    return product


def table_forward(Layer layer not None, table, embedding, ptrdiff_t vocabulary, Weights weights not None, int threads):
    """table[v] = W_hx embedding[v] + b_h, in the engine's layout."""
    cdef Product product = table_of(layer, embedding, vocabulary, table)
    check_storage(&weights.weights.W_hx, &product.layout)
    product.W = weights.weights.W_hx
    product.b = weights.weights.b_x
    run_product(product_region, &product, threads)


def table_backward(Layer layer not None, dtable, embedding, ptrdiff_t vocabulary, WeightsBack weights not None,
                   dembedding, dW_hx, columns, x_panels, int threads):
    """dembedding = dtable W_hx; dW_hx += dtable^T embedding."""
    cdef Product product = table_of(layer, embedding, vocabulary, dtable)
    check_storage(&weights.weights.W_hx, &product.layout)
    product.W_back = weights.weights.W_hx
    product.dx = numbers(dembedding, vocabulary * layer.input_size)
    product.dx_stride = layer.input_size
    product.dW = numbers(dW_hx, product.layout.gates * product.layout.units * layer.input_size)
    product.adds = True
    product.dy_columns = numbers(columns, product.layout.stride * column_size(vocabulary))
    product.x_panels = numbers(x_panels, round_up(layer.input_size, LANES) * column_size(vocabulary))
    run_product(product_backward_region, &product, threads)
