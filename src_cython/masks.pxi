# Numbers dropped: by a key, or as NumPy's generator would draw.

cdef struct Drop:
    real* out
    const real* x
    ptrdiff_t n
    Noise noise
    real scale


cdef void drop_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Drop* work = <Drop*>argument
    cdef ptrdiff_t first = share(work.n, thread, threads), end = share(work.n, thread + 1, threads)
    drop_numbers(work.out + first, work.x + first, end - first, work.noise, first, work.scale)


cdef Noise noise_of(double p, uint64_t key):
    cdef Noise noise
    noise.key = key
    noise.below = <uint64_t>min(p * 4294967296.0 + 0.5, 4294967295.0)
    return noise


def drop(out, x, double p, uint64_t key, int threads):
    """out = x m / (1 - p) for two flat arrays, m being 0 with probability p, as `key` draws it, else 1."""
    cdef Drop work
    work.n = len(x)
    work.out, work.x = numbers(out, work.n), numbers(x, work.n)
    work.noise = noise_of(p, key)
    work.scale = <real>(1 / (1 - p))
    with nogil:
        run_region(drop_region, &work, worthwhile(threads, work.n * COST_OF_A_MOVE))


cdef struct Masking:
    real* out
    ptrdiff_t n                 # numbers, from an even place of the sequence on
    uint128 s
    uint128 increment
    uint32_t highest
    real scale


cdef void mask_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Masking* work = <Masking*>argument
    cdef ptrdiff_t pairs = (work.n + 1) // 2
    cdef ptrdiff_t first = share(pairs, thread, threads), end = share(pairs, thread + 1, threads)
    cdef uint128 s = jump(work.s, jump_over(first, work.increment))
    draw_mask(work.out + 2 * first, min(2 * end, work.n) - 2 * first, s, work.increment, work.highest,
              work.scale)


def mask_as_numpy(out, dict state, uint32_t highest, double scale, int threads):
    """Fill a flat array with 0 or `scale`: 0 where a number of 32 bits, the next of a PCG64 whose
    `state` this is, is `highest` or lower. `state` becomes what NumPy would leave."""
    cdef Masking work
    cdef ptrdiff_t n = len(out), begun = state["has_uint32"], pairs
    cdef uint64_t left = state["uinteger"], last
    cdef uint64_t low = (1 << 64) - 1
    numbers_of = state["state"]
    work.out, work.scale, work.highest = numbers(out, n), <real>scale, highest
    work.s = join_halves(numbers_of["state"] >> 64, numbers_of["state"] & low)
    work.increment = join_halves(numbers_of["inc"] >> 64, numbers_of["inc"] & low)
    if n and begun:             # the second half of a number that was drawn before
        work.out[0] = 0 if left <= highest else work.scale
    else:
        begun = 0
    if n == 0:
        return
    work.out, work.n = work.out + begun, n - begun
    pairs = (work.n + 1) // 2
    with nogil:
        run_region(mask_region, &work, worthwhile(threads, work.n * COST_OF_A_MOVE))
    work.s = jump(work.s, jump_over(pairs, work.increment))
    last = output_of(work.s) >> 32 if pairs else left
    state["has_uint32"], state["uinteger"] = work.n % 2, last
    numbers_of["state"] = (int(high_half(work.s)) << 64) | int(<uint64_t>(work.s))
