/* Weights of bfloat16: the upper half of a float32, rounded to the nearest, ties to even. Two of them in
 * a word, that of the even row in the lower half.
 *
 * Where the processor multiplies such pairs (vdpbf16ps), `a` is rounded as well and a word is one
 * instruction. Else words are widened as they are read, and `a` is taken as it is.
 */
#ifndef RNNCORE_BFLOAT16_H
#define RNNCORE_BFLOAT16_H

#include "simd.h"

typedef uint32_t words __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t words_memory __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));

#define UPPER_HALF 0xffff0000u

INLINE words load_words(const real *p) { return *(const words_memory *)p; }
INLINE void store_words(real *p, words w) { *(words_memory *)p = w; }

/* In the upper halves; NaN stays one. */
INLINE words round_words(words bits)
{
    words rounded = bits + 0x7fff + (bits >> 16 & 1), nan = bits | 0x400000;
    words is_nan = (words)((bits & 0x7fffffff) > 0x7f800000);
    return ((rounded & ~is_nan) | (nan & is_nan)) & UPPER_HALF;
}

INLINE uint32_t round_word(real number)
{
    union {
        real number;
        uint32_t bits;
    } one = {number};
    if ((one.bits & 0x7fffffff) > 0x7f800000) return (one.bits | 0x400000) & UPPER_HALF;
    return (one.bits + 0x7fff + (one.bits >> 16 & 1)) & UPPER_HALF;
}

/* Numbers into the lower halves of words, with zeros above them, or into the upper ones. */
static void put_halves(real *at, int upper, const real *numbers, ptrdiff_t count)
{
    ptrdiff_t j = 0;
    uint32_t *one = (uint32_t *)at;
    for (; j + LANES <= count; j += LANES) {
        words half = round_words(load_words(numbers + j));
        store_words(at + j, upper ? (load_words(at + j) & 0xffff) | half : half >> 16);
    }
    for (; j < count; j++) {
        uint32_t half = round_word(numbers[j]);
        one[j] = upper ? (one[j] & 0xffff) | half : half >> 16;
    }
}

/* A word of an even row and the odd one below it. */
INLINE words pair_of(vec even, vec odd)
{
    return round_words((words)even) >> 16 | round_words((words)odd);
}

/* Even rows in the first turn, odd ones in the second: so registers are enough. */
INLINE vec read_widened(const weight *at, int turn)
{
    return (vec)(turn ? load_words(at) & UPPER_HALF : load_words(at) << 16);
}

INLINE vec spread_widened(real number) { return splat(number); }

INLINE vec add_widened(vec sum, vec number, vec weights)
{
#if defined(__FMA__) && VECTOR_BYTES == 32
    /* The form that keeps the sum in its register: GCC mixes all three, and moves sums to memory. */
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(number), "x"(weights));
    return sum;
#else
    return sum + number * weights;
#endif
}

/* Numbers first to first + many of a row in parts of `depth`, one after another, and zeros to the end of
 * a word. */
static void take_widened(real *out, const real *a, ptrdiff_t depth, ptrdiff_t part_stride,
                         ptrdiff_t first, ptrdiff_t many)
{
    for (ptrdiff_t k = 0, run; k < many; k += run) {
        const ptrdiff_t begin = (first + k) % depth, left = depth - begin;
        run = left < many - k ? left : many - k;
        memcpy(out + k, a + (first + k) / depth * part_stride + begin, (size_t)run * sizeof(real));
    }
    if (many % 2) out[many] = 0;
}

#define TAKEN 512
#define TOGETHER 2
#define TURNS 2
#define KIND widened
#define NUMBER real
#define SPREAD vec
#define PACKED vec
#include "tile.h"

#if defined(__AVX512F__) && VECTOR_BYTES == 64
#define HAS_DOT_PRODUCTS
#define WITH_DOT_PRODUCTS __attribute__((target("avx512bf16")))

INLINE WITH_DOT_PRODUCTS __m512bh read_dot(const weight *at, int turn)
{
    (void)turn;
    return (__m512bh)load_words(at);
}

INLINE WITH_DOT_PRODUCTS __m512bh spread_dot(uint32_t pair)
{
    return (__m512bh)_mm512_set1_epi32((int)pair);
}

INLINE WITH_DOT_PRODUCTS vec add_dot(vec sum, __m512bh numbers, __m512bh weights)
{
    return (vec)_mm512_dpbf16_ps((__m512)sum, numbers, weights);
}

static WITH_DOT_PRODUCTS void take_dot(uint32_t *pairs, const real *a, ptrdiff_t depth,
                                       ptrdiff_t part_stride, ptrdiff_t first, ptrdiff_t many)
{
    uint16_t *out = (uint16_t *)pairs;
    for (ptrdiff_t k = 0, run; k < many; k += run) {
        const ptrdiff_t begin = (first + k) % depth, left = depth - begin;
        const real *from = a + (first + k) / depth * part_stride + begin;
        ptrdiff_t j = 0;
        run = left < many - k ? left : many - k;
        for (; j + 2 * LANES <= run; j += 2 * LANES)
            _mm512_storeu_si512(out + k + j, (__m512i)_mm512_cvtne2ps_pbh(
                (__m512)load(from + j + LANES), (__m512)load(from + j)));
        for (; j + LANES <= run; j += LANES)
            _mm256_storeu_si256((__m256i *)(out + k + j),
                                (__m256i)_mm512_cvtneps_pbh((__m512)load(from + j)));
        for (; j < run; j++) out[k + j] = (uint16_t)(round_word(from[j]) >> 16);
    }
    if (many % 2) out[many] = 0;
}

#define TAKEN 512
#define TOGETHER 2
#define KIND dot
#define NUMBER uint32_t
#define SPREAD __m512bh
#define PACKED __m512bh
#define TARGET WITH_DOT_PRODUCTS
#include "tile.h"
#endif

#endif
