# Work: one direction of one layer over one batch, as the kernels see it.
#
# Rows are packed: step t has offset[t + 1] - offset[t] sequences, the longest first, so the
# sequences still running at step t are the first ones. A dense batch is the case where every step
# has the same number.
#
# States stand in slots, one more than there are steps. Slot t begins at row slot(t); a
# forward direction reads its previous state from slot t and writes slot t + 1, a reverse direction
# the other way round. Slot 0 has room for the whole batch, slot t + 1 for the sequences of step t:
# where a sequence ends, a reverse direction finds its initial state in place. The states beside h,
# c and others, stand one after another in one array.

cdef struct Phase:
    # The gates of h of one product: all of them, unless the cell takes a step in two (cells/cell.h).
    Layout z                    # the layer's, with these gates alone
    const int* gate_of          # which public gates they are
    ptrdiff_t place             # the first of their places in z after backward
    cell_function forward
    cell_function backward


cdef struct Description:
    # What a layer is.
    const CellDescription* cell
    Layout z
    Phase phase[2]
    int phases
    ptrdiff_t input_size
    ptrdiff_t state_stride      # hidden units in whole blocks
    ptrdiff_t handed            # own vectors that the cell's functions get
    ptrdiff_t depth             # of W_hh: the hidden units, or 0 for a cell that has none
    ptrdiff_t carried           # states beside h
    bint reverse


cdef struct Sequences:
    # What a batch is.
    ptrdiff_t steps
    ptrdiff_t running           # sequences of step 0
    ptrdiff_t chunk             # steps a chunk of the backward pass
    const ptrdiff_t* offset     # IN (steps + 1): the first row of each step
    bint training               # z, h and c of every step are kept
    # The caller's arrays have `sequences` places a step. Which row of a step each of them is, or
    # would be: beyond the last row is padding. NULL: row i is in place i.
    ptrdiff_t sequences
    const ptrdiff_t* rank       # IN (sequences)


cdef struct Input:
    # Features, or rows of the projected table chosen by tokens.
    Rows x
    bint placed                 # x stands at the caller's places, not in rows
    real* x_rows                # SCRATCH (threads, rows of a chunk, x.stride) for such x, and for rows
                                # that threads share unevenly; NULL: for neither
    const ptrdiff_t* tokens     # IN (rows)
    const real* table           # IN (vocabulary, blocks, gates, block)


cdef struct ForwardWeights:
    Panels W_hx                 # IN (input_size, width)
    Panels W_hh[2]              # IN (hidden_size, width of the phase)
    const real* b_x             # IN (blocks, gates, block): added to W_hx x
    const real* start           # IN the same: what W_hh h starts from; NULL is zero
    const real* own             # IN (blocks, handed, block)


cdef struct BackwardWeights:
    Panels W_hx                 # IN (width, columns of x)
    Panels W_hh[2]              # IN (width of the phase, hidden_size)
    const real* own             # IN (blocks, handed, block)


cdef struct States:
    real* z                     # (rows, blocks, places, block); inference keeps a chunk, in which
                                # threads that share rows have a place each
    real* h                     # (slots, state_stride)
    real* c                     # (carried, slots, state_stride); inference keeps (carried, batch, ...)
    real* between               # (rows, state_stride): what W_hh of a second phase multiplies;
                                # inference keeps (batch, state_stride)
    real* scratch               # (threads, scratch_size)
    bint from_zero              # the initial h is zero: W_hh h of the first step is not computed
    Target y                    # OUT h_t; data NULL: nobody wants it elsewhere


cdef struct Gradients:
    const real* dy              # IN dy_stride apart; NULL is zero
    ptrdiff_t dy_stride
    bint dy_placed              # dy stands at the caller's places, not in rows
    real* dy_rows               # SCRATCH (rows of a chunk, state_stride); NULL: dy stands in rows,
                                # zeros beyond the hidden size
    real* dh                    # INOUT (batch, state_stride): dL/dh_last, then dL/dh_0
    real* dc                    # the same for c: (carried, batch, state_stride)
    real* dbetween              # SCRATCH (batch, state_stride)
    real* dh_steps              # OUT (rows, state_stride): dL/dh_t of every step; NULL: nobody wants it
    real* dc_steps              # OUT the same: what dL/dc_t has from step t + 1
    Target dx                   # OUT; data NULL: nobody wants it
    real* dx_rows               # SCRATCH (rows of a chunk, depth), where dx goes to places
    real* dtable                # INOUT (vocabulary, blocks, gates, block)
    real* dW_hx                 # INOUT (gates * hidden_size, input_size)
    real* dW_hh                 # INOUT (gates * hidden_size, hidden_size)
    real* db                    # INOUT (gates * hidden_size)
    real* down                  # INOUT (own, hidden_size), added to; NULL: nobody wants it
    bint adds                   # to dW_hx, dW_hh, db; False: they are only written to
    bint no_dh_0                # nobody wants dL/dh_0: then it is not computed
    real* dz_columns            # SCRATCH (blocks * places * block, column_size)
    real* x_panels              # SCRATCH (column_size, columns of x)
    real* h_panels              # SCRATCH (phases, column_size, hidden_size)


cdef struct Zone:
    # Zoneout of h, or of all other states: these a unit keeps together.
    double rate                 # how probable it is that a unit keeps its state; 0: no zoneout
    Noise noise                 # which units do, in training
    real* now                   # what the cell computed: (rows, state_stride); inference (batch, ...);
                                # of c (carried, ...)
    real* aside                 # SCRATCH (batch, state_stride) of the backward pass; of c likewise


cdef struct StateNoise:
    # What comes between the state that a cell computes and the one that the next step reads.
    bint active                 # anything of this
    Zone h
    Zone c
    bint draws                  # False: inference, where zoneout is its expectation
    ptrdiff_t first_row         # the rows before this batch, in what it is a part of
    const real* mask            # IN (batch, state_stride): W_hh multiplies h_prev times this; NULL: h_prev
    real* masked                # (slots, state_stride) h times the mask


cdef struct Work:
    Description layer
    Sequences batch
    Input input
    ForwardWeights weights
    BackwardWeights back
    States states
    StateNoise noise
    Gradients grads
    Barrier barrier


cdef struct Step:
    # The states of one phase of a step, and its part of z, from this thread's first row on.
    int phase
    real* h
    real* c
    real* z
    const real* h_prev
    const real* c_prev
    const real* multiplied      # what W_hh multiplies: h_prev, unless noise has it otherwise
    ptrdiff_t c_apart           # from c to the next state beside h, and so on
    ptrdiff_t c_prev_apart
    ptrdiff_t apart             # from one of this thread's rows to the next, in the states
    ptrdiff_t z_apart           # and in z
    ptrdiff_t depth             # of W_hh h_prev, or 0 where h_prev is zero


cdef inline ptrdiff_t rows_of(const Work* work, ptrdiff_t t) noexcept nogil:
    return work.batch.offset[t + 1] - work.batch.offset[t]


cdef inline ptrdiff_t slot(const Work* work, ptrdiff_t t) noexcept nogil:
    return 0 if t == 0 else work.batch.running + work.batch.offset[t - 1]


cdef inline ptrdiff_t slot_before(const Work* work, ptrdiff_t t) noexcept nogil:
    return slot(work, t + 1) if work.layer.reverse else slot(work, t)


cdef inline bint begins_at_zero(const Work* work, ptrdiff_t t) noexcept nogil:
    # Whether all sequences of step t begin there, with h = 0.
    return work.states.from_zero and t == (work.batch.steps - 1 if work.layer.reverse else 0)


cdef inline ptrdiff_t slot_after(const Work* work, ptrdiff_t t) noexcept nogil:
    return slot(work, t) if work.layer.reverse else slot(work, t + 1)


cdef inline ptrdiff_t state_apart(const Work* work) noexcept nogil:
    # From c to the next state beside h, in States.
    cdef ptrdiff_t rows = work.batch.offset[work.batch.steps] if work.batch.training else 0
    return (rows + work.batch.running) * work.layer.state_stride


cdef inline ptrdiff_t now_apart(const Work* work) noexcept nogil:
    # The same in Zone.now.
    return (work.batch.offset[work.batch.steps] if work.batch.training else work.batch.running
            ) * work.layer.state_stride


cdef inline ptrdiff_t gradient_apart(const Work* work) noexcept nogil:
    # The same in Gradients.dc and Zone.aside.
    return work.batch.running * work.layer.state_stride


cdef Description describe(const CellDescription* cell, ptrdiff_t input_size, ptrdiff_t units,
                          bint reverse, const Storage* storage) noexcept:
    cdef Description layer
    cdef ptrdiff_t gates = strlen(cell.gates), places = strlen(cell.places), k
    layer.cell = cell
    layer.input_size = input_size
    layer.reverse = reverse
    layer.carried = strlen(cell.states) - 1
    layer.phases = 2 if cell.second else 1
    layer.phase[0].gate_of, layer.phase[0].place = &cell.h_gates[0], places - gates
    layer.phase[0].forward = cell.first_forward if cell.second else cell.forward
    layer.phase[0].backward = cell.first_backward if cell.second else cell.backward
    layer.phase[1] = layer.phase[0]
    layer.phase[1].gate_of += gates - cell.second
    layer.phase[1].place += gates - cell.second
    layer.phase[1].forward, layer.phase[1].backward = cell.forward, cell.backward
    layer.depth = 0 if cell.elementwise else units
    places += cell.further
    layer.handed = 0
    for k in range(own_vectors(cell)):
        layer.handed += cell.own[k].starts == 0
        places = max(places, <ptrdiff_t>cell.own[k].gradient + 1)
    layer.z = layout_of(units, gates, places, 1 if cell.second else gates, storage)
    layer.phase[0].z = with_gates(&layer.z, gates - cell.second, places)
    layer.phase[1].z = with_gates(&layer.z, cell.second, places)
    layer.state_stride = layer.z.blocks * layer.z.block
    return layer


cdef inline ptrdiff_t own_vectors(const CellDescription* cell) noexcept nogil:
    cdef ptrdiff_t k = 0
    while k < MOST_OWN and cell.own[k].name != NULL:
        k += 1
    return k
