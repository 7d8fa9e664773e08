# Who does what: the rows and hidden units of each thread, and the steps of a chunk.

cdef struct Split:
    # Who does what. Either threads share the rows: thread k has the rows k, k + threads, ... of every
    # step, from its input to its output, and waits for nobody. Or they share the hidden units, in
    # runs of blocks, and wait for each other once a step.
    int row_thread
    int row_threads
    int unit_thread
    int unit_threads
    # this thread's rows of a step, in tiles of tile_rows; the first `taller` have one more
    ptrdiff_t rows              # of the step that the tiles are for
    ptrdiff_t own
    ptrdiff_t tiles
    ptrdiff_t most_rows         # of a tile
    ptrdiff_t tile_rows
    ptrdiff_t taller
    # this thread's units; whole panels, so that the thread that computes dh of some units is the
    # one that turns it into their dz
    ptrdiff_t panel
    ptrdiff_t last_panel
    ptrdiff_t block
    ptrdiff_t last_block
    # of each phase: blocks forward, and panels backward, that few rows take at once; how many times
    ptrdiff_t group[2]
    ptrdiff_t groups[2]
    ptrdiff_t group_back[2]
    ptrdiff_t groups_back[2]
    bint looks_ahead            # this thread's part of W_hh is larger than its second cache


cdef inline ptrdiff_t own_rows(const Split* split, ptrdiff_t rows) noexcept nogil:
    if split.row_threads == 1:
        return rows
    return (rows - split.row_thread + split.row_threads - 1) // split.row_threads


cdef inline ptrdiff_t first_unit(const Work* work, const Split* split) noexcept nogil:
    return split.block * work.layer.z.block


cdef inline ptrdiff_t last_unit(const Work* work, const Split* split) noexcept nogil:
    return min(split.last_block * work.layer.z.block, work.layer.z.units)


cdef inline ptrdiff_t rows_in(const Split* split, ptrdiff_t rows, ptrdiff_t apart) noexcept nogil:
    # How many rows a step has in a matrix: those of all threads, or, if a thread's rows stand close
    # together, its own.
    return own_rows(split, rows) if apart == 1 else rows


cdef inline void deal_rows(Split* split, ptrdiff_t rows) noexcept nogil:
    if rows == split.rows:
        return
    split.rows = rows
    split.own = own_rows(split, rows)
    split.tiles = (split.own + split.most_rows - 1) // split.most_rows
    if split.tiles > 0:
        split.tile_rows = split.own // split.tiles
        split.taller = split.own % split.tiles


cdef inline ptrdiff_t tile_begin(const Split* split, ptrdiff_t i) noexcept nogil:
    return i * split.tile_rows + min(i, split.taller)


cdef bint has_long_steps(const Work* work, ptrdiff_t rows, int threads) noexcept nogil:
    # A barrier costs some hundred multiply-adds of a vector; a share of a step has to be longer.
    return count_weights(work) * rows >= threads * BARRIER_VECTORS * LANES


cdef inline ptrdiff_t count_weights(const Work* work) noexcept nogil:
    # Of W_hh.
    return work.layer.z.gates * work.layer.z.units * work.layer.depth


cdef inline ptrdiff_t count_panels(const Work* work) noexcept nogil:
    # Of hidden units, the last one perhaps not full: threads share units in these.
    return round_up(work.layer.z.units, PANEL) // PANEL


cdef bint splits_weights(const Work* work, int threads) noexcept nogil:
    # W_hh stays in the second caches only if each holds a part of it, and that is fair.
    return (threads > 1 and count_panels(work) % threads == 0
            and bytes_of_weights(&work.layer.z, count_weights(work)) > SECOND_CACHE)


cdef bint shares_units(const Work* work, ptrdiff_t rows, int threads) noexcept nogil:
    # Whether threads had better share the hidden units of steps of so many rows than the rows: these
    # are too few to keep the multiply-adds of all of them busy, or the weights are better split.
    if threads == 1 or not has_long_steps(work, rows, threads):
        return False
    if rows < 4 * threads and count_panels(work) >= threads:
        return True
    return splits_weights(work, threads)


cdef ptrdiff_t group_panels(const Layout* z, ptrdiff_t depth, ptrdiff_t width,
                            ptrdiff_t panels) noexcept nogil:
    # Panels of depth x width numbers that few rows take at once. Beyond the first cache the fewest
    # that keep the multiply-adds busy: then the gates of some units run while the weights of the
    # next arrive, and going there and back finds the most in the cache.
    cdef ptrdiff_t weights = bytes_of_weights(z, depth * width * panels)
    cdef ptrdiff_t few = (PANEL + width - 1) // width       # of narrower ones
    if weights <= FIRST_CACHE // 3 * 4:     # to the brim: what else there is is little, of one row
        return panels
    if z.storage.together > 2:
        return GROUP_BLOCKS * z.block_panels    # what they multiply takes long to round
    if PANEL_VECTORS < 4:
        return 4
    # One panel is as fast as the second cache; two are, where half is found in the first one.
    return 2 * few if weights <= 3 * FIRST_CACHE and panels >= 4 else few


cdef void set_groups(Split* split, int phase, const Layout* z, ptrdiff_t panels) noexcept nogil:
    cdef ptrdiff_t depth = z.blocks * z.gates * z.block
    cdef ptrdiff_t group = group_panels(z, z.units, z.panel, z.blocks * z.block_panels) // z.block_panels
    group = max(<ptrdiff_t>1, min(group, <ptrdiff_t>GROUP_BLOCKS))
    split.group[phase] = group
    split.groups[phase] = (split.last_block - split.block + group - 1) // group
    group = group_panels(z, depth, PANEL, panels)
    split.group_back[phase] = group
    split.groups_back[phase] = (split.last_panel - split.panel + group - 1) // group


cdef Split split_team(const Work* work, ptrdiff_t rows, int thread, int threads) noexcept nogil:
    # For steps of so many rows.
    cdef Split split
    cdef ptrdiff_t panels = count_panels(work)
    cdef int phase
    memset(&split, 0, sizeof(Split))
    split.row_thread, split.row_threads, split.unit_threads = thread, threads, 1
    if shares_units(work, rows, threads):
        split.row_thread, split.row_threads = 0, 1
        split.unit_thread, split.unit_threads = thread, threads
    split.most_rows, split.rows = work.layer.z.storage.rows, -1
    deal_rows(&split, rows)
    split.panel = share(panels, split.unit_thread, split.unit_threads)
    split.last_panel = share(panels, split.unit_thread + 1, split.unit_threads)
    split.block = min(work.layer.z.blocks, split.panel * (PANEL // work.layer.z.block))
    split.last_block = min(work.layer.z.blocks, split.last_panel * (PANEL // work.layer.z.block))
    for phase in range(work.layer.phases):
        set_groups(&split, phase, &work.layer.phase[phase].z, panels)
    split.looks_ahead = are_large_weights(&work.layer.z, count_weights(work) // split.unit_threads)
    return split


cdef inline ptrdiff_t scratch_size(const Work* work) noexcept nogil:
    # What recurrent products leave for the cell: GROUP_BLOCKS of few rows at most, and of the many of a
    # tile ROUNDED_PANELS, or a block: a phase of fewer gates has more blocks in as many panels.
    cdef const Layout* z = &work.layer.z
    cdef ptrdiff_t block = z.gates * z.block
    cdef ptrdiff_t panels = block if z.storage.together == 1 else min(
        max(block, <ptrdiff_t>(ROUNDED_PANELS * PANEL)), z.width)
    return max(FEW_ROWS * min(<ptrdiff_t>GROUP_BLOCKS, z.blocks) * block, z.storage.rows * panels)


cdef ptrdiff_t forward_chunk(const Work* work) noexcept nogil:
    # Steps a chunk: z stays in the second cache between the projection and the recurrence. Few rows
    # stay in the first cache, if W_hx is so small that going through it often costs nothing. And
    # weights so large that W_hx and W_hh drive each other out of the third cache pass less often.
    cdef ptrdiff_t row = work.layer.z.stride * <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t rows = max(SECOND_CACHE // 2 // row, <ptrdiff_t>LEAST_CHUNK_ROWS)
    if row * (work.layer.input_size + work.layer.z.units) > 32 * SECOND_CACHE:
        rows = CHUNK_ROWS
    if work.batch.running <= FEW_ROWS and row * work.layer.input_size <= FIRST_CACHE // 4:
        rows = max(FIRST_CACHE // 4 // row, <ptrdiff_t>2 * TILE_ROWS)
    rows = min(rows, <ptrdiff_t>CHUNK_ROWS)
    return max(<ptrdiff_t>1, rows // max(<ptrdiff_t>1, work.batch.running))


cdef inline ptrdiff_t most_own(const Work* work, int threads) noexcept nogil:
    # Rows of a chunk that one thread has at most.
    return min(forward_chunk(work), work.batch.steps) * ((work.batch.running + threads - 1) // threads)


cdef inline ptrdiff_t most_rows(const Work* work, int threads) noexcept nogil:
    # Rows of a chunk that all have at most, at least threads * most_own.
    return min(forward_chunk(work), work.batch.steps) * (work.batch.running + threads - 1)
