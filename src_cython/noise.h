/* Noise that is a function of a key and a place: every thread, build and second pass over the same
 * steps finds the same, so no mask has to be kept.
 *
 *     x = low(key) + place
 *     x = (x ^ x >> 16) * 0x21f0aaad ^ high(key)      in 32 bits
 *     x = (x ^ x >> 15) * 0x735a2d97
 *
 * A mixing function of two multiplications (Wellons, Prospecting for hash functions, 2018) with a word
 * of the key before each. An event of probability p happens where x < p 2^32: the upper bits decide,
 * which are mixed best, so the last shift of the original is left out.
 */
#ifndef RNNCORE_NOISE_H
#define RNNCORE_NOISE_H

#include "simd.h"

#if REAL_BITS == 32
typedef uint32_t bits;
#else
typedef uint64_t bits;      /* 32 of them used: the same noise in both precisions */
#endif
typedef bits vec_bits __attribute__((vector_size(VECTOR_BYTES)));

typedef struct {
    uint64_t key;
    uint64_t below;         /* p 2^32, rounded */
} Noise;

static const bits LANE[MOST_LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Where the event happens at the LANES places from `place` on: all bits of a number, or none. */
INLINE vec_whole happens(const Noise noise, ptrdiff_t place)
{
    const bits low = 0xffffffff;
    vec_bits x;
    __builtin_memcpy(&x, LANE, sizeof x);
    x = (x + (bits)(noise.key + (uint64_t)place)) & low;
    x = (((x ^ x >> 16) * (bits)0x21f0aaad) & low) ^ (bits)(noise.key >> 32);
    x = ((x ^ x >> 15) * (bits)0x735a2d97) & low;
    return (vec_whole)(x < (vec_bits){0} + (bits)noise.below);
}

/* out = x times 0 where the event happens, times `scale` elsewhere; place k is x[k]. out may be x. */
static void drop_numbers(real *out, const real *x, ptrdiff_t n, const Noise noise, ptrdiff_t place,
                         real scale)
{
    ptrdiff_t k = 0;
    for (; k + LANES <= n; k += LANES)
        store(out + k, (vec)(~happens(noise, place + k) & (vec_whole)(load(x + k) * splat(scale))));
    if (k < n) {
        real last[MOST_LANES] = {0};
        __builtin_memcpy(last, x + k, (n - k) * sizeof(real));
        store(last, (vec)(~happens(noise, place + k) & (vec_whole)(load(last) * splat(scale))));
        __builtin_memcpy(out + k, last, (n - k) * sizeof(real));
    }
}

/* A state of some rows of one block, or of some blocks of one row: `rows` pieces of `units` numbers,
 * `stride` apart, whose places are `places` apart. */
typedef struct {
    ptrdiff_t rows, units, stride;
    ptrdiff_t place, places;
} Piece;

#define FOR_EACH_VECTOR_OF(p)                                                                      \
    for (ptrdiff_t row = 0; row < (p).rows; row++)                                                 \
        for (ptrdiff_t u = 0, k = row * (p).stride; u < (p).units; u += LANES, k += LANES)

/* Zoneout: out = before where the event happens, now elsewhere. out may be before. */
static void keep_some(const Piece p, real *out, const real *now, const real *before,
                      const Noise noise)
{
    FOR_EACH_VECTOR_OF(p)
        store(out + k, choose(happens(noise, p.place + row * p.places + u), load(before + k),
                              load(now + k)));
}

/* Its expectation: out = p before + (1 - p) now. */
static void keep_share(const Piece p, real *out, const real *now, const real *before, real rate)
{
    FOR_EACH_VECTOR_OF(p) {
        vec from = load(now + k);
        store(out + k, from + splat(rate) * (load(before + k) - from));
    }
}

/* out = before or now: d = dL/d out goes to one of them, d to `now` and aside to `before`. dy, rows
 * dy_stride apart, is added to d first, unless NULL. */
static void part_some(const Piece p, real *d, real *aside, const real *dy, ptrdiff_t dy_stride,
                      const Noise noise)
{
    FOR_EACH_VECTOR_OF(p) {
        vec_whole kept = happens(noise, p.place + row * p.places + u);
        vec all = load(d + k);
        if (dy) all += load(dy + row * dy_stride + u);
        store(aside + k, (vec)(kept & (vec_whole)all));
        store(d + k, (vec)(~kept & (vec_whole)all));
    }
}

static void add_numbers(const Piece p, real *out, const real *a)
{
    FOR_EACH_VECTOR_OF(p)
        store(out + k, load(out + k) + load(a + k));
}

static void multiply(const Piece p, real *out, const real *a, const real *b)
{
    FOR_EACH_VECTOR_OF(p)
        store(out + k, load(a + k) * load(b + k));
}

static void add_product(const Piece p, real *out, const real *a, const real *b)
{
    FOR_EACH_VECTOR_OF(p)
        store(out + k, load(out + k) + load(a + k) * load(b + k));
}

#endif
