/* bfloat16 by squares of 16 rows by a vector of sums, to which go 16 words of each column at once,
 *
 *     sum[r][j] += (chain of a[r][k] w[k][j] over even k) + (the same over odd k),  32 of k in all,
 *
 * with `a` rounded to bfloat16, zeros beyond the last k, and the words of panels as they are packed. The
 * product of two numbers of bfloat16 is exact, so it is one rounding a sum and a step, fused or not.
 * AMX has an instruction for it (TDPBF16PS). The same in C, to the bit, is for tests: it is slow.
 */
#ifndef RNNCORE_AMX_H
#define RNNCORE_AMX_H

#include "bfloat16x3.h"
#include "mode.h"

#define SQUARE 16                  /* rows of a square, and words of a column that it takes at once */
#define FEW_SQUARE_ROWS 4          /* so few are a square of their own, which takes less time */
#define LEAST_FOR_AMX 32768        /* weights of a layer: less takes no longer than to set up AMX does */

/* Numbers first to first + many of a row, rounded, in pairs; zeros to the end of a pair. */
static void take_squares(uint32_t *pairs, const real *a, ptrdiff_t depth, ptrdiff_t part_stride,
                         ptrdiff_t first, ptrdiff_t many)
{
    uint16_t *out = (uint16_t *)pairs;
    for (ptrdiff_t k = 0; k < many; k++)
        out[k] = (uint16_t)(round_word(a[(first + k) / depth * part_stride + (first + k) % depth]) >> 16);
    if (many % 2) out[many] = 0;
}

INLINE vec half_of(uint32_t bits)
{
    union { uint32_t bits; real number; } one = {bits};
    return splat(one.number);
}

static void multiply_square(vec *sum, int rows, const uint32_t *a, ptrdiff_t a_stride, const weight *b,
                            ptrdiff_t width)
{
    for (int r = 0; r < rows; r++) {
        vec even = {0}, odd = {0};
        for (int k = 0; k < SQUARE; k++) {
            const words w = load_words(b + k * width);
            const uint32_t pair = a[r * a_stride + k];
            even += half_of(pair << 16) * (vec)(w << 16);
            odd += half_of(pair & UPPER_HALF) * (vec)(w & UPPER_HALF);
        }
        sum[r] += even + odd;
    }
}

/* How rows share the squares: up to 16 by four vectors; up to 32 by two, which loads half as much for each
 * product; or up to 16, three products each. */
typedef enum { ONE, TWO, THREE } Form;

#define KIND squares
#define TAKE_ROW take_squares
#define BEGIN_SQUARES(ROWS)                                                                        \
    const int tall = ROWS;                                                                         \
    vec square[4][SQUARE];                                                                         \
    const uint32_t *rows_at[2];                                                                    \
    const weight *words_at[2];                                                                     \
    ptrdiff_t words_apart
#define ZERO(N) memset(square[N], 0, sizeof square[N])
#define LOAD(N, FROM, STRIDE) for (int r = 0; r < tall; r++) square[N][r] = load((FROM) + r * (STRIDE))
#define STORE(N, TO, STRIDE) for (int r = 0; r < tall; r++) store((TO) + r * (STRIDE), square[N][r])
#define LOAD_ROWS(M, FROM, STRIDE) rows_at[M - 4] = FROM
#define LOAD_WORDS(W, FROM, STRIDE) words_at[W - 6] = FROM, words_apart = STRIDE
#define MULTIPLY(N, M, W)                                                                          \
    multiply_square(square[N], tall, rows_at[M - 4], WORDS, words_at[W - 6], words_apart)
#include "square.h"

#ifdef HAS_AMX
#define KIND amx
#define TARGET WITH_AMX
#define TAKE_ROW take_dot
#define BEGIN_SQUARES(ROWS)                                                                        \
    const int tall = (ROWS) <= FEW_SQUARE_ROWS ? FEW_SQUARE_ROWS : SQUARE;                         \
    if (squares_rows != tall) configure_squares(tall)
#define ZERO(N) __asm__ volatile("tilezero %%tmm" #N : :)
#define LOAD(N, FROM, STRIDE)                                                                      \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #N : : "r"(FROM), "r"((ptrdiff_t)4 * (STRIDE)) : "memory")
#define STORE(N, TO, STRIDE)                                                                       \
    __asm__ volatile("tilestored %%tmm" #N ", (%0,%1,1)" : : "r"(TO), "r"((ptrdiff_t)4 * (STRIDE)) : "memory")
#define LOAD_ROWS(M, FROM, STRIDE) LOAD(M, FROM, STRIDE)
#define LOAD_WORDS(W, FROM, STRIDE) LOAD(W, FROM, STRIDE)
#define MULTIPLY(N, M, W) __asm__ volatile("tdpbf16ps %%tmm" #W ", %%tmm" #M ", %%tmm" #N : :)
#include "square.h"

/* Whether AMX gives the bits that it should, whatever runs it. */
static int amx_is_exact(void)
{
    enum { DEPTH = 75, WIDTH = PANEL, PAIRS_OF_ROWS = (DEPTH + 1) / 2 };
    static const int rows[] = {1, SQUARE, 2 * SQUARE};
    const tile_kernel *forms[2][2] = {{tiles_squares[PANEL_VECTORS], tiles_amx[PANEL_VECTORS]},
                                      {tiles_three_squares[PANEL_VECTORS], tiles_three_amx[PANEL_VECTORS]}};
    real a[2 * SQUARE * DEPTH], found[2][2 * SQUARE * WIDTH];
    _Alignas(64) weight panel[2 * PAIRS_OF_ROWS * WIDTH];
    uint32_t *bits = (uint32_t *)panel;
    for (int k = 0; k < 2 * SQUARE * DEPTH; k++) a[k] = (real)(k * 37 % 101 - 50) / 7;
    for (int k = 0; k < 2 * PAIRS_OF_ROWS * WIDTH; k++)
        bits[k] = (0x3f80u + k % 61) << 16 | (0xbe00u + k % 53);
    for (int k = 0; k < 6; k++) {
        const float_mode mode = enter_kernels();
        const int many = rows[k / 2];
        for (int form = 0; form < 2; form++)
            forms[k % 2][form][many](found[form], WIDTH, NULL, 0, a, DEPTH, 1, DEPTH, 0, panel, WIDTH, NULL);
        leave_kernels(mode);
        if (memcmp(found[0], found[1], (size_t)many * WIDTH * sizeof(real))) return 0;
    }
    return 1;
}
#endif

#endif
