/* Packed weights, and the tiles that multiply by them.
 *
 * A panel is a few columns of a matrix, stored row by row: panel[k][j], zeros beyond the edge. It is
 * PANEL columns wide, the last one of a matrix only as many vectors as it needs; narrower ones serve
 * sizes that would leave much of PANEL empty. A tile multiplies up to TILE_ROWS rows of a by one panel
 * after another, with every sum held in a register:
 *
 *     out[r][j] = init[r][j] + sum_k a[r][k] * panel[k][j]        k ascending, one chain a sum
 *                                                                 (squares: see amx.h)
 *
 * The order of a sum never depends on how many rows, panels or threads share the work, nor on the
 * width of the panels, so every split gives the same bits.
 *
 * A word of a panel holds one number of its column or several, one below another: how it does is a
 * Storage. Sums, states and gradients are `real` in all of them.
 */
#ifndef RNNCORE_PANELS_H
#define RNNCORE_PANELS_H

#include <pthread.h>
#include <string.h>

#include "simd.h"

/* Registers: TILE_ROWS * PANEL_VECTORS sums, PANEL_VECTORS weights and one broadcast. */
#define TILE_ROWS 6
#define MOST_TILE_ROWS 32          /* of those that hold sums elsewhere */
#define MANY_ROWS 4                /* so many are bound by arithmetic: there is time to look ahead */
#if (defined(__AVX512F__) || defined(__aarch64__)) && !defined(NARROW_PANELS)
#define PANEL_VECTORS 4            /* 32 registers */
#else
#define PANEL_VECTORS 2            /* 16 registers */
#endif
#define PANEL (PANEL_VECTORS * LANES)
#define MOST_TILE_SUMS (MOST_TILE_ROWS * PANEL_VECTORS * (int)(VECTOR_BYTES / sizeof(real)))
#define CACHE_LINE (64 / (ptrdiff_t)sizeof(real))      /* numbers, or words, in one */
_Static_assert(PANEL_VECTORS == 2 || PANEL_VECTORS == 4, "tiles are defined for these panels");

typedef real weight;               /* a word, whatever it holds */

/* The loop for panels of `width` columns:
 * out[r * out_stride + j]      OUT (rows, columns), a multiple of LANES
 * init[r * init_stride + j]    IN the same shape; NULL starts at zero, stride 0 repeats one row
 * a[r * a_stride + k]          IN (rows, parts * depth): parts of `depth` numbers, part_stride apart
 * panel                        IN (panels, steps, width) words; the last one may be narrower, if width
 *                              is PANEL
 * next                         what is needed soon: a cache line a step from here for each panel is
 *                              brought to the core, if rows are many; NULL: nothing
 */
typedef void (*tile_kernel)(real *out, ptrdiff_t out_stride, const real *init, ptrdiff_t init_stride,
                            const real *a, ptrdiff_t a_stride, ptrdiff_t parts, ptrdiff_t depth,
                            ptrdiff_t part_stride, const weight *panel, ptrdiff_t columns,
                            const weight *next);

typedef struct {
    const char *name;
    int together;                  /* numbers of a column that stand together */
    int words;                     /* in so many words, one below another */
    int further;                   /* words of a column behind all */
    const char *product;           /* what multiplies them */
    ptrdiff_t rows;                /* of a tile at most */
    ptrdiff_t at_once;             /* so many k are added together before they are added to the sum */
    ptrdiff_t least;               /* weights of a layer that is stored so */
    const tile_kernel (*tiles)[MOST_TILE_ROWS + 1];    /* [vectors a panel][rows] */
} Storage;

/* A matrix (depth, columns) in panels of `width` columns each, one after another, `steps` words of each
 * column; columns are whole vectors. The last panel may be narrower, if width is PANEL. All addresses
 * in packed weights are computed here. */
typedef struct {
    weight *data;
    ptrdiff_t depth;
    ptrdiff_t columns;
    ptrdiff_t width;
    ptrdiff_t steps;
    const Storage *storage;
} Panels;

/* By rows, for panels of so many vectors. */
INLINE const tile_kernel *tiles_for(const Storage *storage, ptrdiff_t vectors)
{
    return storage->tiles[vectors];
}

/* The first word of row k, of those of a column. */
INLINE ptrdiff_t word_of(ptrdiff_t k, const Storage *storage)
{
    return k / storage->together * storage->words;
}

INLINE ptrdiff_t steps_of(ptrdiff_t depth, const Storage *storage)
{
    return word_of(depth + storage->together - 1, storage) + storage->further;
}

INLINE size_t panels_bytes(ptrdiff_t depth, ptrdiff_t columns, const Storage *storage)
{
    return (size_t)(steps_of(depth, storage) * columns) * sizeof(weight);
}

/* The panel that begins at a column, a multiple of the width. */
INLINE weight *panel_at(const Panels *panels, ptrdiff_t column)
{
    return panels->data + column * panels->steps;
}

/* The columns of the panel that begins there. */
INLINE ptrdiff_t panel_width(const Panels *panels, ptrdiff_t column)
{
    ptrdiff_t rest = panels->columns - column;
    return rest < panels->width ? rest : panels->width;
}

/* The first word of row k of any column. */
INLINE weight *weight_at(const Panels *panels, ptrdiff_t k, ptrdiff_t column)
{
    ptrdiff_t inside = column % panels->width, begin = column - inside;
    return panel_at(panels, begin) + word_of(k, panels->storage) * panel_width(panels, begin) + inside;
}

/* Zeros in the words of row k of the panel that begins at a column, but for so many on the left. */
INLINE void clear_words(const Panels *panels, ptrdiff_t k, ptrdiff_t column, ptrdiff_t left)
{
    const ptrdiff_t width = panel_width(panels, column);
    weight *at = weight_at(panels, k, column);
    for (int word = 0; word < panels->storage->words; word++)
        memset(at + word * width + left, 0, (size_t)(width - left) * sizeof(weight));
}

#define KIND whole
#define NUMBER real
#define SPREAD vec
#define PACKED vec
INLINE vec read_whole(const weight *words, int turn) { return (void)turn, load(words); }
INLINE vec spread_whole(real number) { return splat(number); }
INLINE vec add_whole(vec sum, vec number, vec weights) { return sum + number * weights; }
#include "tile.h"

#if REAL_BITS == 32
#include "bfloat16.h"
#include "int8.h"
#include "amx.h"
#else                              /* the other storages are of float32 */
INLINE void put_int8_column(real *at, ptrdiff_t width, const real *column, ptrdiff_t depth)
{
    (void)at, (void)width, (void)column, (void)depth;
}
#define MOST_INT8 0
#endif
#define WIDENED "multiply-adds of weights widened as they are read"
#define PAIRS "multiply-adds of pairs widened to 16 bits"
#define AS_FLOAT32 "float32's multiply-add as three products take longer"

/* A layer takes the first of its name that has tiles, and of which it has weights enough. */
enum { WHOLE, SQUARES, REGISTERS, THREE_SQUARES, INSTEAD_OF_THREE, INT8 };
static Storage storages[] = {
    [WHOLE] = {REAL_BITS == 32 ? "float32" : "float64", 1, 1, 0, "multiply-add", TILE_ROWS, 1, 0, tiles_whole},
#if REAL_BITS == 32
    [SQUARES] = {"bfloat16", 2, 1, 0, "", 2 * SQUARE, 2 * SQUARE, 0, NULL},
    [REGISTERS] = {"bfloat16", 2, 1, 0, WIDENED, TILE_ROWS, 2, 0, tiles_widened},
    [THREE_SQUARES] = {"bfloat16x3", 2, 2, 0, "", 2 * SQUARE, 2 * SQUARE, 0, NULL},
    [INSTEAD_OF_THREE] = {"bfloat16x3", 1, 1, 0, AS_FLOAT32, TILE_ROWS, 1, 0, tiles_whole},
    [INT8] = {"int8", 4, 1, OF_INT8, PAIRS, TILE_ROWS, 4, 0, tiles_pairs},
#endif
};
#define STORAGES ((int)(sizeof(storages) / sizeof(*storages)))

/* Numbers into row k of words side by side, of a panel of that width. The rows of a word come in order:
 * the first one leaves zeros for the others. */
INLINE void put_numbers(const Storage *storage, weight *words, ptrdiff_t width, ptrdiff_t k,
                        const real *numbers, ptrdiff_t count)
{
    (void)storage, (void)width, (void)k;
#if REAL_BITS == 32
    if (storage->together == 2) {
        put_halves(words, k % 2 == 1, numbers, count);
        if (storage->words == 2) put_rests(words + width, k % 2 == 1, numbers, count);
        return;
    }
#endif
    memcpy(words, numbers, (size_t)count * sizeof(real));
}

/* Into rows k and k + 1, of words that hold two: each word is written once. */
INLINE void put_pairs(const Storage *storage, weight *words, ptrdiff_t width, ptrdiff_t k, const real *even,
                      const real *odd, ptrdiff_t count)
{
    ptrdiff_t j = 0;
#if REAL_BITS == 32
    for (; j + LANES <= count; j += LANES) {
        const vec above = load(even + j), below = load(odd + j);
        store_words(words + j, pair_of(above, below));
        if (storage->words == 2) store_words(words + width + j, pair_of(rest_of(above), rest_of(below)));
    }
#endif
    if (j == count) return;
    put_numbers(storage, words + j, width, k, even + j, count - j);
    put_numbers(storage, words + j, width, k + 1, odd + j, count - j);
}

/* Numbers into row k from a column on, within its panel; those `apart` from them into row k + 1, unless
 * that is 0. */
INLINE void pack_rows(const Panels *panels, ptrdiff_t k, ptrdiff_t column, const real *numbers,
                      ptrdiff_t apart, ptrdiff_t count)
{
    const ptrdiff_t width = panel_width(panels, column - column % panels->width);
    weight *words = weight_at(panels, k, column);
    if (apart)
        put_pairs(panels->storage, words, width, k, numbers, numbers + apart, count);
    else
        put_numbers(panels->storage, words, width, k, numbers, count);
}

#if REAL_BITS == 32
static void set_product(int which, const char *product, const tile_kernel (*tiles)[MOST_TILE_ROWS + 1])
{
    storages[which].product = product, storages[which].tiles = tiles;
}

#ifdef HAS_AMX
static int amx_may_come;               /* nobody has asked for it yet */
static pthread_mutex_t amx_asked = PTHREAD_MUTEX_INITIALIZER;

static void set_amx(void)
{
    set_product(SQUARES, "tdpbf16ps", tiles_amx);
    set_product(THREE_SQUARES, "three of tdpbf16ps", tiles_three_amx);
}

static void settle_amx(Amx answer)
{
    if (answer == REFUSED)
        set_product(REGISTERS, "vdpbf16ps, as the system refuses AMX", tiles_dot);
    else if (answer == ALLOWED && amx_is_exact())
        set_amx();
    else if (answer == ALLOWED)
        set_product(REGISTERS, "vdpbf16ps, as AMX gave wrong bits in a trial", tiles_dot);
}

/* Asked for with the first weights that it may multiply, as it is allowed to the whole process, for good. */
static void settle_bfloat16(void)
{
    pthread_mutex_lock(&amx_asked);
    if (amx_may_come) settle_amx(ask_for_amx());
    amx_may_come = 0;
    pthread_mutex_unlock(&amx_asked);
}
#endif
#endif
#ifndef HAS_AMX
static void settle_bfloat16(void) {}
#endif

/* In which form products run: the "best" that this processor has, the "plain" one that each has, "squares"
 * as AMX has them, in C, or "amx", whether it is here or not. Returns whether it is one of these. */
static int choose_products(const char *form)
{
    const int best = !strcmp(form, "best"), squares = !strcmp(form, "squares"), amx = !strcmp(form, "amx");
    if (!best && !squares && !amx && strcmp(form, "plain")) return 0;
#if REAL_BITS == 32
    set_product(SQUARES, "squares in C", squares ? tiles_squares : NULL);
    set_product(THREE_SQUARES, "three squares in C", squares ? tiles_three_squares : NULL);
    set_product(REGISTERS, WIDENED, tiles_widened);
    set_product(INT8, PAIRS, tiles_pairs);
    storages[SQUARES].least = storages[THREE_SQUARES].least = best ? LEAST_FOR_AMX : 0;
#ifdef HAS_AMX
    amx_may_come = 0;
    if (amx) set_amx();
#endif
#ifdef HAS_DOT_PRODUCTS
    if (best && __builtin_cpu_supports("avx512vnni")) set_product(INT8, "vpdpbusd", tiles_quads);
    if (best && __builtin_cpu_supports("avx512bf16")) {
        set_product(REGISTERS, "vdpbf16ps", tiles_dot);
#ifdef HAS_AMX
        amx_may_come = 1;              /* all that have it have vdpbf16ps */
#endif
    }
#endif
#endif
    return 1;
}

#endif
