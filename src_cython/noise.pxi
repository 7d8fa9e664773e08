# Noise on the states, between what the cell computes and what the next step reads: zoneout of h and c,
# a mask on what W_hh multiplies. A pass over this thread's rows and units of a step, before and after
# those of the cell, which knows nothing of it.

cdef inline Piece piece_of(const Work* work, ptrdiff_t t, const Split* split) noexcept nogil:
    # This thread's rows and units of step t.
    cdef const Layout* layout = &work.layer.z
    cdef ptrdiff_t row = work.noise.first_row + work.batch.offset[t] + split.row_thread
    cdef ptrdiff_t unit = split.block * layout.block
    cdef Piece piece
    piece.rows, piece.units = split.own, split.last_block * layout.block - unit
    piece.stride = work.layer.state_stride * split.row_threads
    piece.place, piece.places = row * layout.units + unit, layout.units * split.row_threads
    return piece


cdef inline ptrdiff_t first_now(const Work* work, ptrdiff_t t) noexcept nogil:
    # Where the states of step t begin in Zone.now.
    return work.batch.offset[t] * work.layer.state_stride if work.batch.training else 0


cdef void turn_aside(const Work* work, ptrdiff_t t, Step* step, const Split* split) noexcept nogil:
    # Have the cell leave its states where `settle` finds them, and W_hh multiply what it shall.
    cdef ptrdiff_t stride = work.layer.state_stride, first = split.row_thread * stride
    if work.noise.h.rate > 0:
        step.h = work.noise.h.now + first_now(work, t) + first
    if work.noise.c.rate > 0:
        step.c = work.noise.c.now + first_now(work, t) + first
        step.c_apart = now_apart(work)
    if work.noise.mask != NULL:
        step.multiplied = work.noise.masked + slot_before(work, t) * stride + first


cdef void settle(const Work* work, ptrdiff_t t, const Step* step, real* h, real* c,
                 const Split* split) noexcept nogil:
    # h and c of this thread's rows of step t, and what of h enters the next step.
    cdef const StateNoise* noise = &work.noise
    cdef Piece piece = piece_of(work, t, split)
    cdef ptrdiff_t unit = split.block * work.layer.z.block, k
    cdef ptrdiff_t first = split.row_thread * work.layer.state_stride + unit
    if noise.h.rate > 0:
        settle_zone(&noise.h, noise.draws, piece, h + unit, step.h + unit, step.h_prev + unit)
    if noise.c.rate > 0:
        for k in range(work.layer.carried):
            settle_zone(&noise.c, noise.draws, piece, c + k * step.c_prev_apart + unit,
                        step.c + k * step.c_apart + unit, step.c_prev + k * step.c_prev_apart + unit)
    if noise.mask != NULL:
        multiply(piece, noise.masked + slot_after(work, t) * work.layer.state_stride + first, h + unit,
                 noise.mask + first)


cdef inline void settle_zone(const Zone* zone, bint draws, Piece piece, real* out, const real* now,
                             const real* before) noexcept nogil:
    if draws:
        keep_some(piece, out, now, before, zone.noise)
    else:
        keep_share(piece, out, now, before, <real>zone.rate)


# Going back, the gradient of a state that was kept passes the cell by.

cdef void part_gradients(const Work* work, ptrdiff_t t, const real* dy, ptrdiff_t dy_stride,
                         const Split* split) noexcept nogil:
    # dy is row 0 of the step; after this it is in dh, if there is zoneout of h.
    cdef Piece piece = piece_of(work, t, split)
    cdef ptrdiff_t unit = split.block * work.layer.z.block, k
    cdef ptrdiff_t first = split.row_thread * work.layer.state_stride + unit
    if dy != NULL:
        dy = dy + split.row_thread * dy_stride + unit
    if work.noise.h.rate > 0:
        part_some(piece, work.grads.dh + first, work.noise.h.aside + first, dy,
                  dy_stride * split.row_threads, work.noise.h.noise)
    if work.noise.c.rate > 0:
        for k in range(work.layer.carried):
            part_some(piece, work.grads.dc + k * gradient_apart(work) + first,
                      work.noise.c.aside + k * gradient_apart(work) + first, NULL, 0, work.noise.c.noise)


cdef void join_gradients(const Work* work, ptrdiff_t t, const Split* split) noexcept nogil:
    cdef Piece piece = piece_of(work, t, split)
    cdef ptrdiff_t first = split.row_thread * work.layer.state_stride + split.block * work.layer.z.block
    cdef ptrdiff_t k
    if work.noise.h.rate > 0:
        add_numbers(piece, work.grads.dh + first, work.noise.h.aside + first)
    if work.noise.c.rate > 0:
        for k in range(work.layer.carried):
            add_numbers(piece, work.grads.dc + k * gradient_apart(work) + first,
                        work.noise.c.aside + k * gradient_apart(work) + first)


cdef void clear_aside(const Work* work, ptrdiff_t t, const Split* split) noexcept nogil:
    # Zeros where the gradient of the masked h goes, of this thread's rows and units.
    cdef Piece piece = piece_of(work, t, split)
    cdef ptrdiff_t row
    cdef real* aside = (work.noise.h.aside + split.row_thread * work.layer.state_stride
                        + split.block * work.layer.z.block)
    for row in range(piece.rows):
        memset(aside + row * piece.stride, 0, piece.units * sizeof(real))


cdef void join_masked(const Work* work, const Split* split) noexcept nogil:
    # dh_prev += mask * (dz_h W_hh): the product stands aside.
    cdef ptrdiff_t column = split.panel * PANEL
    cdef ptrdiff_t first = split.row_thread * work.layer.state_stride + column
    cdef Piece piece
    piece.rows, piece.units = split.own, min(split.last_panel * PANEL, work.back.W_hh[0].columns) - column
    piece.stride = work.layer.state_stride * split.row_threads
    add_product(piece, work.grads.dh + first, work.noise.h.aside + first, work.noise.mask + first)
