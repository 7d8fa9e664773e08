/* Weights of 8 bits, for inference: each column of a panel, a row of W, has one scale, and so has each row
 * of a at its time,
 *
 *     w[k] = scale_w q_w[k],  a[k] = scale_a q_a[k],  q in -127..127,  scale = max |.| / 127,
 *     out = init + (scale_a scale_w) sum_k q_a[k] q_w[k]
 *
 * with a sum of whole numbers, so that all forms of the product give the same bits. Bytes stand in a word
 * in the order 0, 2, 1, 3. Behind the words of a column are 128 times the sum of its q_w, and scale_w.
 */
#ifndef RNNCORE_INT8_H
#define RNNCORE_INT8_H

#include "simd.h"

#define OF_INT8 2                  /* words behind those of a column */
#define MOST_INT8 65536            /* rows at most: sums have 32 bits */
#define LEAST_INT8 1e-36f          /* numbers of which the largest is below count as zeros: 127 / it is infinite */

typedef int16_t shorts __attribute__((vector_size(VECTOR_BYTES)));

/* A column of `depth` numbers into words `width` apart; NULL: zeros. */
static void put_int8_column(real *words_at, ptrdiff_t width, const real *column, ptrdiff_t depth)
{
    static const int place[4] = {0, 16, 8, 24};
    int32_t *at = (int32_t *)words_at, sum = 0;
    real most = 0;
    for (ptrdiff_t k = 0; column && k < depth; k++) {
        real size = column[k] < 0 ? -column[k] : column[k];
        most = size > most || size != size ? size : most;      /* NaN stays */
    }
    real nan = most - most;                        /* of NaN and infinity */
    real scale = most / 127 + nan, per = most >= LEAST_INT8 && nan == 0 ? 127 / most : 0;
    for (ptrdiff_t k = 0; k < depth; k += 4) {
        uint32_t word = 0;
        for (ptrdiff_t j = 0; j < 4 && k + j < depth && per > 0; j++) {
            real x = column[k + j] * per;
            int q = (int)(x < 0 ? x - 0.5f : x + 0.5f);
            sum += q;
            word |= (uint32_t)(uint8_t)q << place[j];
        }
        *at = (int32_t)word;
        at += width;
    }
    at[0] = 128 * sum;
    *(real *)(at + width) = scale;
}

/* The scale of a row in parts of `depth`, and what its numbers are multiplied with. */
static real scale_of_row(const real *a, ptrdiff_t parts, ptrdiff_t depth, ptrdiff_t part_stride, real *per)
{
    const vec_whole sign = (vec_whole)splat((real)-0.0);
    vec most = {0}, wrong = {0};
    real largest = 0, nan = 0, lanes[MOST_LANES];
    for (ptrdiff_t part = 0; part < parts; part++, a += part_stride) {
        ptrdiff_t k = 0;
        for (; k + LANES <= depth; k += LANES) {
            vec x = load(a + k);
            most = maximum(most, (vec)((vec_whole)x & ~sign));
            wrong += x * splat(0);                 /* NaN from NaN and infinity */
        }
        for (; k < depth; k++) {
            real size = a[k] < 0 ? -a[k] : a[k];
            largest = size > largest ? size : largest;
            nan += a[k] * 0;
        }
    }
    store(lanes, most);
    for (int j = 0; j < LANES; j++) largest = lanes[j] > largest ? lanes[j] : largest;
    store(lanes, wrong);
    for (int j = 0; j < LANES; j++) nan += lanes[j];
    *per = largest >= LEAST_INT8 && nan == 0 ? 127 / largest : 0;
    return largest / 127 + nan;
}

/* Whole numbers of LANES numbers. */
INLINE vec_whole to_whole(vec x)
{
    return (vec_whole)(x + splat(ROUNDER)) - (vec_whole)splat(ROUNDER);
}

INLINE int32_t to_whole_one(real x)
{
    union {
        real number;
        int32_t bits;
    } moved = {x + ROUNDER}, rounder = {ROUNDER};
    return moved.bits - rounder.bits;
}

/* out[r][j] = init[r][j] + scale_a[r] scale_w[j] (sums[r][j] - `offset` of a column), where sums stand in
 * out; the panels are those of the tile. */
static void scale_sums(real *out, ptrdiff_t out_stride, const real *init, ptrdiff_t init_stride, int rows,
                       const real *scale_a, const real *panel, ptrdiff_t panel_width, ptrdiff_t words_below,
                       ptrdiff_t columns, int offset)
{
    for (ptrdiff_t begin = 0; begin < columns; begin += panel_width) {
        ptrdiff_t width = columns - begin < panel_width ? columns - begin : panel_width;
        const real *sums = panel + words_below * width, *scales = sums + width;
        for (int r = 0; r < rows; r++) {
            real *to = out + r * out_stride + begin;
            const real *from = init ? init + r * init_stride + begin : NULL;
            for (ptrdiff_t j = 0; j < width; j += LANES) {
                vec_whole sum = (vec_whole)load(to + j);
                vec scaled = {0};
                if (offset && words_below) sum -= (vec_whole)load(sums + j);
                if (words_below)
                    scaled = __builtin_convertvector(sum, vec) * (load(scales + j) * splat(scale_a[r]));
                store(to + j, from ? load(from + j) + scaled : scaled);
            }
        }
        panel += (words_below + OF_INT8) * panel_width;
    }
}

#define TAKE_RUNS(WIDE, NARROW)                                                                    \
    for (ptrdiff_t k = 0, run; k < many; k += run) {                                               \
        const ptrdiff_t begin = (first + k) % depth, left = depth - begin;                         \
        const real *from = a + (first + k) / depth * part_stride + begin;                          \
        ptrdiff_t j = 0;                                                                           \
        run = left < many - k ? left : many - k;                                                   \
        for (; j + LANES <= run; j += LANES) WIDE;                                                 \
        for (; j < run; j++) NARROW;                                                               \
    }

/* Products of pairs of 16 bits: the even bytes of a word in the first turn, the odd ones in the second. */
INLINE shorts read_pairs(const real *at, int turn)
{
    shorts bytes = (shorts)load(at);
    return turn ? bytes >> 8 : (shorts)((shorts)(bytes << 8) >> 8);
}

INLINE shorts spread_pairs(int32_t pair) { return (shorts)(pair - (vec_whole){0}); }

INLINE vec_whole add_pairs(vec_whole sum, shorts numbers, shorts weights)
{
#if defined(__AVX512BW__) && VECTOR_BYTES == 64
    return sum + (vec_whole)_mm512_madd_epi16((__m512i)numbers, (__m512i)weights);
#elif defined(__AVX2__) && VECTOR_BYTES == 32
    return sum + (vec_whole)_mm256_madd_epi16((__m256i)numbers, (__m256i)weights);
#elif defined(__SSE2__) && VECTOR_BYTES == 16
    return sum + (vec_whole)_mm_madd_epi16((__m128i)numbers, (__m128i)weights);
#else
    vec_whole a = (vec_whole)numbers, w = (vec_whole)weights;
    return sum + (a >> 16) * (w >> 16) + ((a << 16) >> 16) * ((w << 16) >> 16);
#endif
}

static void take_pairs(int32_t *pairs, const real *a, ptrdiff_t depth, ptrdiff_t part_stride, ptrdiff_t first,
                       ptrdiff_t many, real per)
{
    typedef int16_t halves __attribute__((vector_size(VECTOR_BYTES / 2), aligned(2), may_alias));
    int16_t *out = (int16_t *)pairs;
    TAKE_RUNS(*(halves *)(out + k + j) = __builtin_convertvector(to_whole(load(from + j) * splat(per)), halves),
              out[k + j] = (int16_t)to_whole_one(from[j] * per))
    for (ptrdiff_t k = many; k % 4; k++) out[k] = 0;
}

#define TAKEN 512
#define TOGETHER 4
#define FURTHER OF_INT8
#define OFFSET 0
#define TURNS 2
#define KIND pairs
#define SUM vec_whole
#define NUMBER int32_t
#define SPREAD shorts
#define PACKED shorts
#include "tile.h"

#if defined(__AVX512F__) && VECTOR_BYTES == 64
#define HAS_QUADS
#define WITH_QUADS __attribute__((target("avx512vnni")))

/* Products of quads: those of a are made positive by 128, which is taken from the sums again. */
INLINE WITH_QUADS __m512i read_quads(const real *at, int turn) { return (void)turn, (__m512i)load(at); }
INLINE WITH_QUADS __m512i spread_quads(int32_t quad) { return _mm512_set1_epi32(quad); }

INLINE WITH_QUADS vec_whole add_quads(vec_whole sum, __m512i numbers, __m512i weights)
{
    return (vec_whole)_mm512_dpbusd_epi32((__m512i)sum, numbers, weights);
}

static WITH_QUADS void take_quads(int32_t *quads, const real *a, ptrdiff_t depth, ptrdiff_t part_stride,
                                  ptrdiff_t first, ptrdiff_t many, real per)
{
    uint8_t *out = (uint8_t *)quads;
    TAKE_RUNS(_mm_storeu_si128((__m128i *)(out + k + j),
                               _mm512_cvtepi32_epi8((__m512i)(to_whole(load(from + j) * splat(per)) + 128))),
              out[k + j] = (uint8_t)(to_whole_one(from[j] * per) + 128))
    for (ptrdiff_t k = many; k % 4; k++) out[k] = 128;
    for (ptrdiff_t k = 0; k < (many + 3) / 4; k++) {       /* to the order of a word */
        uint32_t word = (uint32_t)quads[k];
        quads[k] = (int32_t)((word & 0xff0000ffu) | (word >> 8 & 0xff00u) | (word << 8 & 0xff0000u));
    }
}

#define TAKEN 512
#define TOGETHER 4
#define FURTHER OF_INT8
#define OFFSET 1
#define KIND quads
#define SUM vec_whole
#define NUMBER int32_t
#define SPREAD __m512i
#define PACKED __m512i
#define TARGET WITH_QUADS
#include "tile.h"
#endif

#endif
