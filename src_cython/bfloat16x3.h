/* Near float32 in three products of bfloat16. A number is rounded, and so is what that leaves of it,
 *
 *     a = a' + a'' + e        a' = bfloat16(a), a'' = bfloat16(a - a'), |e| <= 2^-16 |a|
 *     a w = a' w' + a'' w' + a' w'' + e        |e| <= 3 * 2^-16 |a w|, about
 *
 * (Henry, Tang and Heinecke, Leveraging the bfloat16 artificial intelligence datatype for
 * higher-precision computations, 2019, section II). Infinity leaves no number.
 */
#ifndef RNNCORE_BFLOAT16X3_H
#define RNNCORE_BFLOAT16X3_H

#include "bfloat16.h"

#define TAKEN_BY_SQUARES 512       /* numbers of a row, at a time */

typedef uint16_t halves __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef uint16_t halves_memory __attribute__((vector_size(VECTOR_BYTES / 2), aligned(2), may_alias));

INLINE vec rest_of(vec numbers) { return numbers - (vec)round_words((words)numbers); }

/* The rests of numbers into the halves of words, as `put_halves` does with numbers. */
static void put_rests(real *at, int upper, const real *numbers, ptrdiff_t count)
{
    real rest[MOST_LANES];
    for (ptrdiff_t j = 0, many; j < count; j += many) {
        many = count - j < LANES ? count - j : LANES;
        if (many < LANES) memset(rest, 0, sizeof rest);
        memcpy(rest, numbers + j, (size_t)many * sizeof(real));
        store(rest, rest_of(load(rest)));
        put_halves(at + j, upper, rest, many);
    }
}

/* Numbers first to first + many of a row, in pairs of a' and of a''; zeros to the end of a vector. */
static void take_three(uint32_t *pairs, uint32_t *rests, const real *a, ptrdiff_t depth,
                       ptrdiff_t part_stride, ptrdiff_t first, ptrdiff_t many)
{
    _Alignas(64) real row[TAKEN_BY_SQUARES + MOST_LANES];
    uint16_t *out = (uint16_t *)pairs, *rest = (uint16_t *)rests;
    take_widened(row, a, depth, part_stride, first, many);
    memset(row + many, 0, MOST_LANES * sizeof(real));
    for (ptrdiff_t k = 0; k < many; k += LANES) {
        const words rounded = round_words(load_words(row + k));
        const words further = round_words((words)(load(row + k) - (vec)rounded));
        *(halves_memory *)(out + k) = __builtin_convertvector(rounded >> 16, halves);
        *(halves_memory *)(rest + k) = __builtin_convertvector(further >> 16, halves);
    }
}

#endif
