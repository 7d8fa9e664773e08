/* The inner loops on packed weights.
 *
 * A panel is PANEL columns of a matrix, stored row by row: panel[k][j], zeros beyond the edge.
 * A tile multiplies up to TILE_ROWS rows of a by one panel after another, with every sum held in
 * a register:
 *
 *     out[r][j] = init[r][j] + sum_k a[r][k] * panel[k][j]        k ascending, one chain a sum
 *
 * The order of a sum never depends on how many rows, panels or threads share the work, so every
 * split gives the same bits.
 */
#ifndef RNNCORE_PANELS_H
#define RNNCORE_PANELS_H

#include "simd.h"

/* Registers: TILE_ROWS * PANEL_VECTORS sums, PANEL_VECTORS weights and one broadcast. */
#define TILE_ROWS 6
#if (defined(__AVX512F__) || defined(__aarch64__)) && !defined(NARROW_PANELS)
#define PANEL_VECTORS 4            /* 32 registers */
#else
#define PANEL_VECTORS 2            /* 16 registers */
#endif
#define PANEL (PANEL_VECTORS * LANES)

/* out[r * out_stride + j]      OUT (rows, panels * PANEL)
 * init[r * init_stride + j]    IN the same shape; NULL starts at zero, stride 0 repeats one row
 * a[r * a_stride + k]          IN (rows, parts * depth): parts of `depth` numbers, part_stride apart
 * panel                        IN (panels, parts * depth, PANEL)
 */
typedef void (*tile_kernel)(real *out, ptrdiff_t out_stride, const real *init, ptrdiff_t init_stride,
                            const real *a, ptrdiff_t a_stride, ptrdiff_t parts, ptrdiff_t depth,
                            ptrdiff_t part_stride, const real *panel, ptrdiff_t panels);

/* `rows` by `wide` panels at once; both are constants where it is used. */
INLINE void tile_body(const int rows, const int wide, real *out, ptrdiff_t out_stride,
                      const real *init, ptrdiff_t init_stride, const real *a, ptrdiff_t a_stride,
                      ptrdiff_t parts, ptrdiff_t depth, ptrdiff_t part_stride, const real *panel)
{
    vec sum[TILE_ROWS][4 * PANEL_VECTORS];
    const int vectors = wide * PANEL_VECTORS;
    const ptrdiff_t panel_size = parts * depth * PANEL;
    if (init) {
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
            for (int v = 0; v < vectors; v++)
                sum[r][v] = load(init + r * init_stride + v * LANES);
    } else {
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
            for (int v = 0; v < vectors; v++)
                sum[r][v] = (vec){0};
    }
    for (ptrdiff_t part = 0; part < parts; part++, a += part_stride) {
        for (ptrdiff_t k = 0; k < depth; k++, panel += PANEL) {
            vec weight[4 * PANEL_VECTORS];
#pragma GCC unroll 4
            for (int w = 0; w < wide; w++)
#pragma GCC unroll 4
                for (int v = 0; v < PANEL_VECTORS; v++)
                    weight[w * PANEL_VECTORS + v] = load(panel + w * panel_size + v * LANES);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                vec number = splat(a[r * a_stride + k]);
#pragma GCC unroll 16
                for (int v = 0; v < vectors; v++)
                    sum[r][v] += number * weight[v];
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++)
            store(out + r * out_stride + v * LANES, sum[r][v]);
}

/* Few rows take several panels at once, so that there are the eight or more independent chains that
 * keep a processor's multiply-adds busy. */
#define DEFINE_TILE(ROWS, WIDEST)                                                                  \
    NOINLINE void tile_##ROWS(real *out, ptrdiff_t out_stride, const real *init,                   \
                              ptrdiff_t init_stride, const real *a, ptrdiff_t a_stride,            \
                              ptrdiff_t parts, ptrdiff_t depth, ptrdiff_t part_stride,             \
                              const real *panel, ptrdiff_t panels)                                 \
    {                                                                                              \
        const ptrdiff_t panel_size = parts * depth * PANEL;                                        \
        while (panels > 0) {                                                                       \
            const int wide = panels < WIDEST ? (int)panels : WIDEST;                               \
            TAKE(ROWS, 4, WIDEST)                                                                  \
            TAKE(ROWS, 3, WIDEST)                                                                  \
            TAKE(ROWS, 2, WIDEST)                                                                  \
            TAKE(ROWS, 1, WIDEST)                                                                  \
            out += wide * PANEL, panel += wide * panel_size, panels -= wide;                       \
            if (init) init += wide * PANEL;                                                        \
        }                                                                                          \
    }

#define TAKE(ROWS, WIDE, WIDEST)                                                                   \
    if (WIDE <= WIDEST && wide == WIDE)                                                            \
        tile_body(ROWS, WIDE, out, out_stride, init, init_stride, a, a_stride, parts, depth,       \
                  part_stride, panel);

DEFINE_TILE(1, 4)
DEFINE_TILE(2, 2)
#if PANEL_VECTORS == 4
DEFINE_TILE(3, 1)
#else
DEFINE_TILE(3, 2)
#endif
DEFINE_TILE(4, 1)
DEFINE_TILE(5, 1)
DEFINE_TILE(6, 1)

static const tile_kernel tile[TILE_ROWS + 1] = {NULL,   tile_1, tile_2, tile_3,
                                                tile_4, tile_5, tile_6};

#endif
