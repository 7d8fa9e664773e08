/* The inner loops on packed weights.
 *
 * A panel is a few columns of a matrix, stored row by row: panel[k][j], zeros beyond the edge. It is
 * PANEL columns wide, the last one of a matrix only as many vectors as it needs; narrower ones serve
 * sizes that would leave much of PANEL empty. A tile multiplies up to TILE_ROWS rows of a by one panel
 * after another, with every sum held in a register:
 *
 *     out[r][j] = init[r][j] + sum_k a[r][k] * panel[k][j]        k ascending, one chain a sum
 *
 * The order of a sum never depends on how many rows, panels or threads share the work, nor on the
 * width of the panels, so every split gives the same bits.
 */
#ifndef RNNCORE_PANELS_H
#define RNNCORE_PANELS_H

#include "simd.h"

/* Registers: TILE_ROWS * PANEL_VECTORS sums, PANEL_VECTORS weights and one broadcast. */
#define TILE_ROWS 6
#define MANY_ROWS 4                /* so many are bound by arithmetic: there is time to look ahead */
#if (defined(__AVX512F__) || defined(__aarch64__)) && !defined(NARROW_PANELS)
#define PANEL_VECTORS 4            /* 32 registers */
#else
#define PANEL_VECTORS 2            /* 16 registers */
#endif
#define PANEL (PANEL_VECTORS * LANES)
#define TILE_SUMS (TILE_ROWS * PANEL_VECTORS * (int)(VECTOR_BYTES / sizeof(real)))
#define CACHE_LINE (64 / (ptrdiff_t)sizeof(real))      /* numbers in one */
_Static_assert(PANEL_VECTORS == 2 || PANEL_VECTORS == 4, "tiles are defined for these panels");

/* What packed weights are made of. Another type needs a load that widens it to `vec` in tile_body, and
 * packing that converts (pack.pxi); sums, states and gradients stay `real`. */
typedef real weight;

/* A matrix (depth, columns) in panels of `width` columns each, one after another, `depth` rows of each;
 * columns are whole vectors. The last panel may be narrower, if width is PANEL. All addresses in packed
 * weights are computed here. */
typedef struct {
    weight *data;
    ptrdiff_t depth;
    ptrdiff_t columns;
    ptrdiff_t width;
} Panels;

INLINE size_t panels_bytes(ptrdiff_t depth, ptrdiff_t columns)
{
    return (size_t)(depth * columns) * sizeof(weight);
}

/* The panel that begins at a column, a multiple of the width. */
INLINE weight *panel_at(const Panels *panels, ptrdiff_t column)
{
    return panels->data + column * panels->depth;
}

/* The columns of the panel that begins there. */
INLINE ptrdiff_t panel_width(const Panels *panels, ptrdiff_t column)
{
    ptrdiff_t rest = panels->columns - column;
    return rest < panels->width ? rest : panels->width;
}

/* Row k of any column. */
INLINE weight *weight_at(const Panels *panels, ptrdiff_t k, ptrdiff_t column)
{
    ptrdiff_t inside = column % panels->width, begin = column - inside;
    return panel_at(panels, begin) + k * panel_width(panels, begin) + inside;
}

/* The loop for panels of `width` columns:
 * out[r * out_stride + j]      OUT (rows, columns), a multiple of LANES
 * init[r * init_stride + j]    IN the same shape; NULL starts at zero, stride 0 repeats one row
 * a[r * a_stride + k]          IN (rows, parts * depth): parts of `depth` numbers, part_stride apart
 * panel                        IN (panels, parts * depth, width); the last one may be narrower, if
 *                              width is PANEL
 * next                         what is needed soon: parts * depth cache lines from here for each panel
 *                              are brought to the core, if rows are many; NULL: nothing
 */
typedef void (*tile_kernel)(real *out, ptrdiff_t out_stride, const real *init, ptrdiff_t init_stride,
                            const real *a, ptrdiff_t a_stride, ptrdiff_t parts, ptrdiff_t depth,
                            ptrdiff_t part_stride, const weight *panel, ptrdiff_t columns,
                            const weight *next);

/* `rows` by `wide` panels at once, of panel_vectors each, but the last one of last_vectors. These and
 * `ahead`, whether there is a `next`, are constants where it is used. */
INLINE void tile_body(const int rows, const int wide, const int panel_vectors,
                      const int last_vectors, const int ahead, real *out, ptrdiff_t out_stride,
                      const real *init, ptrdiff_t init_stride, const real *a, ptrdiff_t a_stride,
                      ptrdiff_t parts, ptrdiff_t depth, ptrdiff_t part_stride, const weight *panel,
                      const weight *next)
{
    vec sum[TILE_ROWS][4 * PANEL_VECTORS];
    const int others = (wide - 1) * panel_vectors, vectors = others + last_vectors;
    const ptrdiff_t width = panel_vectors * LANES, panel_size = parts * depth * width;
    const weight *last = panel + (wide - 1) * panel_size;
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
        for (ptrdiff_t k = 0; k < depth; k++, panel += width, last += last_vectors * LANES) {
            vec w_k[4 * PANEL_VECTORS];
            if (ahead) {
                prefetch(next);
                next += CACHE_LINE;
            }
#pragma GCC unroll 4
            for (int w = 0; w < wide - 1; w++)
#pragma GCC unroll 4
                for (int v = 0; v < panel_vectors; v++)
                    w_k[w * panel_vectors + v] = load(panel + w * panel_size + v * LANES);
#pragma GCC unroll 4
            for (int v = 0; v < last_vectors; v++)
                w_k[others + v] = load(last + v * LANES);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                vec number = splat(a[r * a_stride + k]);
#pragma GCC unroll 16
                for (int v = 0; v < vectors; v++)
                    sum[r][v] += number * w_k[v];
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
#define DEFINE_TILE(ROWS, WIDEST, VECTORS)                                                         \
    NOINLINE void tile_##ROWS##_##VECTORS(                                                         \
        real *out, ptrdiff_t out_stride, const real *init, ptrdiff_t init_stride, const real *a,   \
        ptrdiff_t a_stride, ptrdiff_t parts, ptrdiff_t depth, ptrdiff_t part_stride,               \
        const weight *panel, ptrdiff_t columns, const weight *next)                                \
    {                                                                                              \
        const ptrdiff_t width = VECTORS * LANES, panel_size = parts * depth * width;               \
        while (columns > 0) {                                                                      \
            const int whole = columns >= WIDEST * width ? WIDEST : (int)(columns / width);         \
            const int rest = whole == WIDEST ? 0 : (int)(columns / LANES) - whole * VECTORS;       \
            const int wide = whole + (rest > 0);                                                   \
            TAKE(ROWS, 4, WIDEST, VECTORS)                                                         \
            TAKE(ROWS, 3, WIDEST, VECTORS)                                                         \
            TAKE(ROWS, 2, WIDEST, VECTORS)                                                         \
            TAKE(ROWS, 1, WIDEST, VECTORS)                                                         \
            out += wide * width, panel += wide * panel_size, columns -= wide * width;              \
            if (init) init += wide * width;                                                        \
            if (next) next += wide * parts * depth * CACHE_LINE;                                   \
        }                                                                                          \
    }

#define TAKE(ROWS, WIDE, WIDEST, VECTORS)                                                          \
    if (WIDE <= WIDEST && wide == WIDE) {                                                          \
        if (rest == 0) TAKE_PANELS(ROWS, WIDE, VECTORS, VECTORS)                                   \
        if (VECTORS == PANEL_VECTORS && VECTORS > 1 && rest == 1)                                  \
            TAKE_PANELS(ROWS, WIDE, VECTORS, 1)                                                    \
        if (VECTORS == PANEL_VECTORS && VECTORS > 2 && rest == 2)                                  \
            TAKE_PANELS(ROWS, WIDE, VECTORS, 2)                                                    \
        if (VECTORS == PANEL_VECTORS && VECTORS > 3 && rest == 3)                                  \
            TAKE_PANELS(ROWS, WIDE, VECTORS, 3)                                                    \
    }

#define TAKE_PANELS(ROWS, WIDE, VECTORS, LAST)                                                     \
    {                                                                                              \
        if (ROWS >= MANY_ROWS && next)                                                             \
            tile_body(ROWS, WIDE, VECTORS, LAST, 1, out, out_stride, init, init_stride, a,         \
                      a_stride, parts, depth, part_stride, panel, next);                           \
        else                                                                                       \
            tile_body(ROWS, WIDE, VECTORS, LAST, 0, out, out_stride, init, init_stride, a,         \
                      a_stride, parts, depth, part_stride, panel, NULL);                           \
    }

#define DEFINE_TILES(VECTORS, WIDEST_OF_3)                                                         \
    DEFINE_TILE(1, 4, VECTORS)                                                                     \
    DEFINE_TILE(2, 2, VECTORS)                                                                     \
    DEFINE_TILE(3, WIDEST_OF_3, VECTORS)                                                           \
    DEFINE_TILE(4, 1, VECTORS)                                                                     \
    DEFINE_TILE(5, 1, VECTORS)                                                                     \
    DEFINE_TILE(6, 1, VECTORS)

#define TILES(VECTORS)                                                                             \
    {NULL, tile_1_##VECTORS, tile_2_##VECTORS, tile_3_##VECTORS, tile_4_##VECTORS,                 \
     tile_5_##VECTORS, tile_6_##VECTORS}

/* tiles[vectors a panel][rows]; PANEL_VECTORS is the widest, 2 the narrowest. */
DEFINE_TILES(2, 2)
#if PANEL_VECTORS == 4
DEFINE_TILES(3, 1)
DEFINE_TILES(4, 1)
static const tile_kernel tiles[PANEL_VECTORS + 1][TILE_ROWS + 1] = {
    [2] = TILES(2), [3] = TILES(3), [4] = TILES(4)};
#else
static const tile_kernel tiles[PANEL_VECTORS + 1][TILE_ROWS + 1] = {[2] = TILES(2)};
#endif

/* On panels of PANEL columns. */
static const tile_kernel *const tile = tiles[PANEL_VECTORS];

#endif
