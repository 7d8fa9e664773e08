/* The tiles of squares. Whoever includes this says what they are made of:
 *
 *     KIND                        the end of the names of functions
 *     TARGET                      attributes of functions, or nothing
 *     TAKE_ROW                    rounds a piece of a row of a
 *     BEGIN_SQUARES(ROWS)         for so many rows; `tall` is how many the squares have
 *     ZERO(N)                     sums N = 0
 *     LOAD, STORE(N, AT, STRIDE)  the rows of sums N, so many numbers apart
 *     LOAD_ROWS(FROM, STRIDE)     16 words of each row of a
 *     MULTIPLY(N, M, FROM, WIDTH) sums N += those times 16 words of each column, by way of M
 */
#ifndef TARGET
#define TARGET
#endif

/* Of the squares of a panel, of which there are `wide`. */
#define EACH(WHAT, ...)                                                                            \
    do {                                                                                           \
        WHAT(0, __VA_ARGS__);                                                                      \
        if (wide > 1) WHAT(1, __VA_ARGS__);                                                        \
        if (wide > 2) WHAT(2, __VA_ARGS__);                                                        \
        if (wide > 3) WHAT(3, __VA_ARGS__);                                                        \
    } while (0)
#define ZERO_SUMS(N, UNUSED) { ZERO(N); }
#define LOAD_SUMS(N, FROM, STRIDE) { LOAD(N, FROM + N * LANES, STRIDE); }
#define STORE_SUMS(N, TO, STRIDE) { STORE(N, TO + N * LANES, STRIDE); }
#define ADD_0(FROM, WIDTH) MULTIPLY(0, 5, FROM, WIDTH)
#define ADD_1(FROM, WIDTH) MULTIPLY(1, 6, FROM + LANES, WIDTH)
#define ADD_2(FROM, WIDTH) MULTIPLY(2, 7, FROM + 2 * LANES, WIDTH)
#define ADD_3(FROM, WIDTH) MULTIPLY(3, 5, FROM + 3 * LANES, WIDTH)
#define ADD_TO(N, FROM, WIDTH) { ADD_##N(FROM, WIDTH); }

/* Panels of `vectors`; squares are as tall as `rows`, or taller: then rows go by way of `rest`. */
static TARGET void NAMED(multiply)(const int rows, const int vectors, TILE_ARGUMENTS)
{
    enum { MOST = 512, WORDS = MOST / 2 };                     /* of a, at a time */
    _Alignas(64) uint32_t taken[SQUARE][WORDS];
    _Alignas(64) real through[SQUARE * PANEL];
    _Alignas(64) weight last[SQUARE * PANEL];                   /* words that are no whole square */
    const ptrdiff_t all = parts * depth, size = (all + 1) / 2, width = vectors * LANES;
    ptrdiff_t first = 0;
    (void)next;
    BEGIN_SQUARES(rows);
    do {
        const ptrdiff_t many = all - first < MOST ? all - first : MOST, steps = (many + 1) / 2;
        const ptrdiff_t padded = (steps + SQUARE - 1) / SQUARE * SQUARE;
        for (int r = 0; r < rows; r++) {
            TAKE_ROW(taken[r], a + r * a_stride, depth, part_stride, first, many);
            memset(taken[r] + steps, 0, (size_t)(padded - steps) * sizeof(uint32_t));
        }
        for (ptrdiff_t column = 0; column < columns; column += width) {
            const ptrdiff_t here = columns - column < width ? columns - column : width;
            const int wide = (int)(here / LANES);
            const weight *at = panel + column * size + first / 2 * here;
            const real *from = first ? out + column : init ? init + column : NULL;
            const ptrdiff_t from_stride = first ? out_stride : init_stride;
            if (!from) {
                EACH(ZERO_SUMS, 0);
            } else if (rows == tall) {
                EACH(LOAD_SUMS, from, from_stride);
            } else {
                for (int r = 0; r < rows; r++)
                    memcpy(through + r * PANEL, from + r * from_stride, (size_t)here * sizeof(real));
                EACH(LOAD_SUMS, through, PANEL);
            }
            for (ptrdiff_t k = 0; k < steps; k += SQUARE, at += SQUARE * here) {
                const weight *some = at;
                if (steps - k < SQUARE) {
                    const ptrdiff_t filled = (steps - k) * here;
                    memcpy(last, at, (size_t)filled * sizeof(weight));
                    memset(last + filled, 0, (size_t)(SQUARE * here - filled) * sizeof(weight));
                    some = last;
                }
                LOAD_ROWS(taken[0] + k, WORDS);
                EACH(ADD_TO, some, here);
            }
            if (rows == tall) {
                EACH(STORE_SUMS, out + column, out_stride);
            } else {
                EACH(STORE_SUMS, through, PANEL);
                for (int r = 0; r < rows; r++)
                    memcpy(out + column + r * out_stride, through + r * PANEL, (size_t)here * sizeof(real));
            }
        }
        first += MOST;
    } while (first < all);
}

#define DEFINE_SQUARE(ROWS, VECTORS)                                                               \
    static TARGET void NAMED(tile_##ROWS##_##VECTORS)(TILE_ARGUMENTS)                              \
    {                                                                                              \
        NAMED(multiply)(ROWS, VECTORS, out, out_stride, init, init_stride, a, a_stride, parts,     \
                        depth, part_stride, panel, columns, next);                                 \
    }
#define DEFINE_SQUARES(V)                                                                          \
    DEFINE_SQUARE(1, V) DEFINE_SQUARE(2, V) DEFINE_SQUARE(3, V) DEFINE_SQUARE(4, V)                \
    DEFINE_SQUARE(5, V) DEFINE_SQUARE(6, V) DEFINE_SQUARE(7, V) DEFINE_SQUARE(8, V)                \
    DEFINE_SQUARE(9, V) DEFINE_SQUARE(10, V) DEFINE_SQUARE(11, V) DEFINE_SQUARE(12, V)             \
    DEFINE_SQUARE(13, V) DEFINE_SQUARE(14, V) DEFINE_SQUARE(15, V) DEFINE_SQUARE(16, V)
#define NAMES(V)                                                                                   \
    {NULL, NAMED(tile_1_##V), NAMED(tile_2_##V), NAMED(tile_3_##V), NAMED(tile_4_##V),             \
     NAMED(tile_5_##V), NAMED(tile_6_##V), NAMED(tile_7_##V), NAMED(tile_8_##V), NAMED(tile_9_##V),\
     NAMED(tile_10_##V), NAMED(tile_11_##V), NAMED(tile_12_##V), NAMED(tile_13_##V),               \
     NAMED(tile_14_##V), NAMED(tile_15_##V), NAMED(tile_16_##V)}

DEFINE_SQUARES(2)
#if PANEL_VECTORS == 4
DEFINE_SQUARES(3)
DEFINE_SQUARES(4)
static const tile_kernel NAMED(tiles)[PANEL_VECTORS + 1][MOST_TILE_ROWS + 1] = {
    [2] = NAMES(2), [3] = NAMES(3), [4] = NAMES(4)};
#else
static const tile_kernel NAMED(tiles)[PANEL_VECTORS + 1][MOST_TILE_ROWS + 1] = {[2] = NAMES(2)};
#endif

#undef KIND
#undef TARGET
#undef TAKE_ROW
#undef BEGIN_SQUARES
#undef ZERO
#undef LOAD
#undef STORE
#undef LOAD_ROWS
#undef MULTIPLY
#undef EACH
#undef ZERO_SUMS
#undef LOAD_SUMS
#undef STORE_SUMS
#undef ADD_0
#undef ADD_1
#undef ADD_2
#undef ADD_3
#undef ADD_TO
#undef DEFINE_SQUARE
#undef DEFINE_SQUARES
#undef NAMES
