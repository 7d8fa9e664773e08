/* NumPy's default generator, PCG64 (O'Neill, PCG: a family of better random number generators, 2014), in
 * several places of its sequence at once: the numbers that NumPy draws one after another.
 *
 *     s = s * MULTIPLIER + increment, in 128 bits; output: the halves of s xored, rotated by its top bits
 *
 * Of each 64 bits the low half is the first number of 32, the high half the second one.
 */
#ifndef RNNCORE_PCG64_H
#define RNNCORE_PCG64_H

#include "simd.h"

#ifdef __SIZEOF_INT128__
#define HAS_PCG64 1
typedef unsigned __int128 uint128;
#else
#define HAS_PCG64 0                /* a processor of 32 bits: NumPy draws */
typedef uint64_t uint128;
#endif

#define SEVERAL 4                  /* sequences side by side: a multiplication waits for the one before */

typedef struct {
    uint128 multiplier, increment;    /* of some steps at once */
} Jump;

INLINE uint128 join_halves(uint64_t high, uint64_t low) { return ((uint128)high << 32 << 32) | low; }
INLINE uint64_t high_half(uint128 s) { return (uint64_t)(s >> 32 >> 32); }

/* The jump over `steps` steps, by squaring (Brown, Random number generation with arbitrary strides, 1994). */
static Jump jump_over(uint64_t steps, uint128 increment)
{
    Jump all = {1, 0};
    Jump now = {join_halves(0x2360ed051fc65da4, 0x4385df649fccf645), increment};
    for (; steps > 0; steps >>= 1) {
        if (steps & 1) {
            all.multiplier *= now.multiplier;
            all.increment = all.increment * now.multiplier + now.increment;
        }
        now.increment *= now.multiplier + 1;
        now.multiplier *= now.multiplier;
    }
    return all;
}

INLINE uint128 jump(uint128 s, const Jump by) { return s * by.multiplier + by.increment; }

INLINE uint64_t output_of(uint128 s)
{
    uint64_t x = high_half(s) ^ (uint64_t)s;
    unsigned turn = (unsigned)(high_half(s) >> 58);
    return x >> turn | x << (-turn & 63);
}

/* out[k] = 0 where the k-th number of 32 bits is `highest` or lower, else `scale`; the numbers come from s
 * on, whose own output is the one before. Of an odd n the last number's other half is not used. */
static void draw_mask(real *out, ptrdiff_t n, uint128 s, uint128 increment, uint32_t highest, real scale)
{
    enum { AT_ONCE = 64 };         /* drawn first, then compared, without a branch that nobody guesses */
    uint128 at[SEVERAL];
    uint32_t drawn[AT_ONCE];
    const Jump one = jump_over(1, increment), several = jump_over(SEVERAL, increment);
    at[0] = jump(s, one);
    for (int i = 1; i < SEVERAL; i++)
        at[i] = jump(at[i - 1], one);
    for (ptrdiff_t k = 0; k < n; k += AT_ONCE) {
        const ptrdiff_t many = n - k < AT_ONCE ? n - k : AT_ONCE;
        for (int j = 0; j < AT_ONCE; j += 2 * SEVERAL) {
#pragma GCC unroll 4
            for (int i = 0; i < SEVERAL; i++) {
                uint64_t x = output_of(at[i]);
                drawn[j + 2 * i] = (uint32_t)x;
                drawn[j + 2 * i + 1] = (uint32_t)(x >> 32);
                at[i] = jump(at[i], several);
            }
        }
        for (ptrdiff_t j = 0; j < many; j++)
            out[k + j] = drawn[j] > highest ? scale : 0;
    }
}

#endif
