/* The tiles of one kind of word. Whoever includes this says what it is:
 *
 *     KIND        its name, the end of those of its functions
 *     NUMBER      what a turn takes of a row of a, and SPREAD what that is over a vector
 *     PACKED      a vector of words as they are multiplied
 *     TURNS       in how many turns a word is multiplied; undefined: in one
 *     SUM         a vector of sums; undefined: of reals
 *     TARGET      attributes of functions, or nothing
 *     TAKEN       numbers of a that are taken at a time, to whole words; undefined: a is read as it is
 *     TOGETHER    how many of these stand in a word
 *     FURTHER     words of a column behind these, of scaled sums; undefined: they are not scaled
 *     OFFSET      whether such sums have an offset
 *
 * and defines before: PACKED read_KIND(const weight *words, int turn), SPREAD spread_KIND(NUMBER number),
 * SUM add_KIND(SUM sum, SPREAD number, PACKED weights), and take_KIND, if a is taken.
 */
#define JOIN_NAMES(a, b) a##_##b
#define JOINED(a, b) JOIN_NAMES(a, b)
#define NAMED(name) JOINED(name, KIND)
#ifndef TARGET
#define TARGET
#endif
#ifndef TURNS
#define TURNS 1
#endif
#ifndef SUM
#define SUM vec
#endif

/* `rows` by `wide` panels at once, of panel_vectors each, but the last one of last_vectors, after so many
 * steps of them as are skipped. These and
 * `ahead`, whether there is a `next`, are constants where it is used. */
INLINE TARGET void NAMED(body)(const int rows, const int wide, const int panel_vectors,
                               const int last_vectors, const int ahead, real *out,
                               ptrdiff_t out_stride, const real *init, ptrdiff_t init_stride,
                               const NUMBER *a, ptrdiff_t a_stride, ptrdiff_t parts,
                               ptrdiff_t steps, ptrdiff_t part_stride, const weight *panel,
                               ptrdiff_t panel_size, ptrdiff_t skipped, const weight *next)
{
    SUM sum[TILE_ROWS][4 * PANEL_VECTORS];
    const int others = (wide - 1) * panel_vectors, vectors = others + last_vectors;
    const ptrdiff_t width = panel_vectors * LANES;
    const weight *last = panel + (wide - 1) * panel_size + skipped * last_vectors * LANES;
    panel += skipped * width;
    if (init) {
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
            for (int v = 0; v < vectors; v++)
                sum[r][v] = (SUM)load(init + r * init_stride + v * LANES);
    } else {
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
            for (int v = 0; v < vectors; v++)
                sum[r][v] = (SUM){0};
    }
    for (ptrdiff_t part = 0; part < parts; part++, a += part_stride) {
        for (ptrdiff_t k = 0; k < steps; k++, panel += width, last += last_vectors * LANES) {
            PACKED w_k[4 * PANEL_VECTORS];
            if (ahead) {
                prefetch(next);
                next += CACHE_LINE;
            }
#pragma GCC unroll 2
            for (int turn = 0; turn < TURNS; turn++) {
#pragma GCC unroll 4
                for (int w = 0; w < wide - 1; w++)
#pragma GCC unroll 4
                    for (int v = 0; v < panel_vectors; v++)
                        w_k[w * panel_vectors + v] =
                            NAMED(read)(panel + w * panel_size + v * LANES, turn);
#pragma GCC unroll 4
                for (int v = 0; v < last_vectors; v++)
                    w_k[others + v] = NAMED(read)(last + v * LANES, turn);
#pragma GCC unroll 6
                for (int r = 0; r < rows; r++) {
                    SPREAD number = NAMED(spread)(a[r * a_stride + k * TURNS + turn]);
#pragma GCC unroll 16
                    for (int v = 0; v < vectors; v++)
                        sum[r][v] = NAMED(add)(sum[r][v], number, w_k[v]);
                }
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++)
            store(out + r * out_stride + v * LANES, (vec)sum[r][v]);
}

/* All panels for steps of some parts. Few rows take several panels at once, so that there are the eight
 * or more independent chains that keep a processor's multiply-adds busy. */
#ifndef RUN_PANELS
#define RUN_PANELS(ROWS, WIDEST, VECTORS)                                                          \
    while (columns > 0) {                                                                          \
        const int whole = columns >= WIDEST * width ? WIDEST : (int)(columns / width);             \
        const int rest = whole == WIDEST ? 0 : (int)(columns / LANES) - whole * VECTORS;           \
        const int wide = whole + (rest > 0);                                                       \
        TAKE(ROWS, 4, WIDEST, VECTORS)                                                             \
        TAKE(ROWS, 3, WIDEST, VECTORS)                                                             \
        TAKE(ROWS, 2, WIDEST, VECTORS)                                                             \
        TAKE(ROWS, 1, WIDEST, VECTORS)                                                             \
        out += wide * width, panel += wide * panel_size, columns -= wide * width;                  \
        if (init) init += wide * width;                                                            \
        if (next) next += wide * (panel_size / width) * CACHE_LINE;                                \
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
            NAMED(body)(ROWS, WIDE, VECTORS, LAST, 1, out, out_stride, init, init_stride, a,       \
                        a_stride, parts, steps, part_stride, panel, panel_size,       \
                        skipped, next);             \
        else                                                                                       \
            NAMED(body)(ROWS, WIDE, VECTORS, LAST, 0, out, out_stride, init, init_stride, a,       \
                        a_stride, parts, steps, part_stride, panel, panel_size,       \
                        skipped, NULL);             \
    }

#define TILE_ARGUMENTS                                                                             \
    real *out, ptrdiff_t out_stride, const real *init, ptrdiff_t init_stride, const real *a,       \
        ptrdiff_t a_stride, ptrdiff_t parts, ptrdiff_t depth, ptrdiff_t part_stride,               \
        const weight *panel, ptrdiff_t columns, const weight *next

#define DEFINE_TILES(VECTORS, WIDEST_OF_3)                                                         \
    DEFINE_TILE(1, 4, VECTORS)                                                                     \
    DEFINE_TILE(2, 2, VECTORS)                                                                     \
    DEFINE_TILE(3, WIDEST_OF_3, VECTORS)                                                           \
    DEFINE_TILE(4, 1, VECTORS)                                                                     \
    DEFINE_TILE(5, 1, VECTORS)                                                                     \
    DEFINE_TILE(6, 1, VECTORS)

#define TILES(VECTORS)                                                                             \
    {NULL, NAMED(tile_1_##VECTORS), NAMED(tile_2_##VECTORS), NAMED(tile_3_##VECTORS),              \
     NAMED(tile_4_##VECTORS), NAMED(tile_5_##VECTORS), NAMED(tile_6_##VECTORS)}
#endif

#ifndef TAKEN
#define DEFINE_TILE(ROWS, WIDEST, VECTORS)                                                         \
    NOINLINE TARGET void NAMED(tile_##ROWS##_##VECTORS)(TILE_ARGUMENTS)                            \
    {                                                                                              \
        const ptrdiff_t width = VECTORS * LANES, steps = depth, panel_size = parts * depth * width;\
        const ptrdiff_t skipped = 0;                                                               \
        RUN_PANELS(ROWS, WIDEST, VECTORS)                                                          \
    }
#else
#define DEFINE_RUN(ROWS, WIDEST, VECTORS)                                                          \
    NOINLINE TARGET void NAMED(run_##ROWS##_##VECTORS)(                                            \
        real *out, ptrdiff_t out_stride, const real *init, ptrdiff_t init_stride, const NUMBER *a, \
        ptrdiff_t a_stride, ptrdiff_t parts, ptrdiff_t steps, ptrdiff_t part_stride,               \
        const weight *panel, ptrdiff_t panel_size, ptrdiff_t skipped, ptrdiff_t columns,           \
        const weight *next)                                                                        \
    {                                                                                              \
        const ptrdiff_t width = VECTORS * LANES;                                                   \
        RUN_PANELS(ROWS, WIDEST, VECTORS)                                                          \
    }

#ifndef FURTHER
/* A piece of a at a time, the sums resting in `out` meanwhile; or a as it is, where it may be. */
#define DEFINE_TILE(ROWS, WIDEST, VECTORS)                                                         \
    DEFINE_RUN(ROWS, WIDEST, VECTORS)                                                              \
    NOINLINE TARGET void NAMED(tile_##ROWS##_##VECTORS)(TILE_ARGUMENTS)                            \
    {                                                                                              \
        enum { NUMBERS = TAKEN / TOGETHER * TURNS };                                               \
        _Alignas(64) NUMBER taken[ROWS][NUMBERS];                                                  \
        const ptrdiff_t all = parts * depth, size = (all + TOGETHER - 1) / TOGETHER;               \
        const ptrdiff_t panel_size = size * VECTORS * LANES;                                       \
        if (TURNS == TOGETHER && depth % TOGETHER == 0) {                                          \
            NAMED(run_##ROWS##_##VECTORS)(out, out_stride, init, init_stride, (const NUMBER *)a,   \
                                          a_stride, parts, depth / TOGETHER, part_stride, panel,   \
                                          panel_size, 0, columns, next);                           \
            return;                                                                                \
        }                                                                                          \
        ptrdiff_t first = 0;                                                                       \
        do {                                                                                       \
            const ptrdiff_t many = all - first < TAKEN ? all - first : TAKEN;                      \
            for (int r = 0; r < ROWS; r++)                                                         \
                NAMED(take)(taken[r], a + r * a_stride, depth, part_stride, first, many);          \
            NAMED(run_##ROWS##_##VECTORS)(                                                         \
                out, out_stride, init, init_stride, taken[0], NUMBERS, 1,                          \
                (many + TOGETHER - 1) / TOGETHER, 0, panel, panel_size, first / TOGETHER, columns, \
                next);                                                                             \
            init = out, init_stride = out_stride;                                                  \
            first += TAKEN;                                                                        \
            if (next) next += TAKEN / TOGETHER * CACHE_LINE;                                       \
        } while (first < all);                                                                     \
    }
#else
/* The same with sums of whole numbers, which are scaled at the end. */
#define DEFINE_TILE(ROWS, WIDEST, VECTORS)                                                         \
    DEFINE_RUN(ROWS, WIDEST, VECTORS)                                                              \
    NOINLINE TARGET void NAMED(tile_##ROWS##_##VECTORS)(TILE_ARGUMENTS)                            \
    {                                                                                              \
        enum { NUMBERS = TAKEN / TOGETHER * TURNS };                                               \
        _Alignas(64) NUMBER taken[ROWS][NUMBERS];                                                  \
        real scale[ROWS], per[ROWS];                                                               \
        const ptrdiff_t all = parts * depth, size = (all + TOGETHER - 1) / TOGETHER;               \
        ptrdiff_t first = 0;                                                                       \
        for (int r = 0; r < ROWS; r++)                                                             \
            scale[r] = scale_of_row(a + r * a_stride, parts, depth, part_stride, &per[r]);         \
        do {                                                                                       \
            const ptrdiff_t many = all - first < TAKEN ? all - first : TAKEN;                      \
            for (int r = 0; r < ROWS; r++)                                                         \
                NAMED(take)(taken[r], a + r * a_stride, depth, part_stride, first, many, per[r]);  \
            NAMED(run_##ROWS##_##VECTORS)(                                                         \
                out, out_stride, first ? out : NULL, out_stride, taken[0], NUMBERS, 1,             \
                (many + TOGETHER - 1) / TOGETHER, 0, panel, (size + FURTHER) * VECTORS * LANES,    \
                first / TOGETHER, columns, next);                                                  \
            first += TAKEN;                                                                        \
            if (next) next += TAKEN / TOGETHER * CACHE_LINE;                                       \
        } while (first < all);                                                                     \
        scale_sums(out, out_stride, init, init_stride, ROWS, scale, panel, VECTORS * LANES, size,  \
                   columns, OFFSET);                                                               \
    }
#endif
#endif

/* tiles[vectors a panel][rows]; PANEL_VECTORS is the widest, 2 the narrowest. */
DEFINE_TILES(2, 2)
#if PANEL_VECTORS == 4
DEFINE_TILES(3, 1)
DEFINE_TILES(4, 1)
static const tile_kernel NAMED(tiles)[PANEL_VECTORS + 1][MOST_TILE_ROWS + 1] = {
    [2] = TILES(2), [3] = TILES(3), [4] = TILES(4)};
#else
static const tile_kernel NAMED(tiles)[PANEL_VECTORS + 1][MOST_TILE_ROWS + 1] = {[2] = TILES(2)};
#endif

#undef DEFINE_TILE
#undef DEFINE_RUN
#undef KIND
#undef NUMBER
#undef SPREAD
#undef PACKED
#undef TURNS
#undef TARGET
#undef SUM
#undef FURTHER
#undef OFFSET
#undef TAKEN
#undef TOGETHER
