/* The tiles of squares, of one product of bfloat16 and of three. Whoever includes this says what they are
 * made of:
 *
 *     KIND                        the end of the names of functions
 *     TARGET                      attributes of functions, or nothing
 *     TAKE_ROW                    rounds a piece of a row of a, for one product
 *     BEGIN_SQUARES(ROWS)         for so many rows; `tall` is how many the squares have
 *     ZERO(N)                     sums N = 0
 *     LOAD, STORE(N, AT, STRIDE)  the rows of sums N, so many numbers apart
 *     LOAD_ROWS(M, FROM, STRIDE)  rows M = 16 words of each row of a
 *     LOAD_WORDS(W, FROM, STRIDE) words W = 16 words of each column
 *     MULTIPLY(N, M, W)           sums N += rows M times words W
 *
 * There are sums 0 to 3, rows 4 and 5, words 6 and 7.
 */
#ifndef TARGET
#define TARGET
#endif
#define TILE_VALUES                                                                                \
    out, out_stride, init, init_stride, a, a_stride, parts, depth, part_stride, panel, columns, next

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
#define ADD_ONE(N, W, FROM, WIDTH)                                                                 \
    {                                                                                              \
        LOAD_WORDS(W, (FROM) + N * LANES, WIDTH);                                                  \
        MULTIPLY(N, 4, W);                                                                         \
    }
#define ADD_ONE_0(FROM, WIDTH) ADD_ONE(0, 6, FROM, WIDTH)
#define ADD_ONE_1(FROM, WIDTH) ADD_ONE(1, 7, FROM, WIDTH)
#define ADD_ONE_2(FROM, WIDTH) ADD_ONE(2, 6, FROM, WIDTH)
#define ADD_ONE_3(FROM, WIDTH) ADD_ONE(3, 7, FROM, WIDTH)
#define ADD_TO(N, FROM, WIDTH) ADD_ONE_##N(FROM, WIDTH)
#define ADD_THREE_TO(N, FROM, WIDTH)                                                               \
    {                                                                                              \
        LOAD_WORDS(6, (FROM) + N * LANES, 2 * (WIDTH));                                            \
        MULTIPLY(N, 4, 6);                                                                         \
        MULTIPLY(N, 5, 6);                                                                         \
        LOAD_WORDS(7, (FROM) + N * LANES + (WIDTH), 2 * (WIDTH));                                  \
        MULTIPLY(N, 4, 7);                                                                         \
    }

/* Panels of `vectors`; squares are as tall as `rows`, or taller: then rows go by way of `through`. */
INLINE TARGET void NAMED(multiply)(const int three, const int rows, const int vectors, TILE_ARGUMENTS)
{
    enum { MOST = MOST_OF_SQUARES, WORDS = MOST / 2 };          /* of a, at a time */
    const int each = three ? 2 : 1;                             /* words for two numbers */
    _Alignas(64) uint32_t taken[2 * SQUARE][WORDS];
    _Alignas(64) real through[SQUARE * PANEL];
    _Alignas(64) weight last[2 * SQUARE * PANEL];               /* words that are no whole square */
    const ptrdiff_t all = parts * depth, size = (all + 1) / 2, width = vectors * LANES;
    ptrdiff_t first = 0;
    (void)next;
    BEGIN_SQUARES(rows);
    do {
        const ptrdiff_t many = all - first < MOST ? all - first : MOST, steps = (many + 1) / 2;
        const ptrdiff_t padded = (steps + SQUARE - 1) / SQUARE * SQUARE;
        for (int r = 0; r < rows; r++) {
            if (three)
                take_three(taken[r], taken[SQUARE + r], a + r * a_stride, depth, part_stride, first, many);
            else
                TAKE_ROW(taken[r], a + r * a_stride, depth, part_stride, first, many);
            for (int k = r; k < each * SQUARE; k += SQUARE)
                memset(taken[k] + steps, 0, (size_t)(padded - steps) * sizeof(uint32_t));
        }
        for (ptrdiff_t column = 0; column < columns; column += width) {
            const ptrdiff_t here = columns - column < width ? columns - column : width;
            const int wide = (int)(here / LANES);
            const ptrdiff_t whole = each * SQUARE * here;
            const weight *at = panel + each * (column * size + first / 2 * here);
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
            for (ptrdiff_t k = 0; k < steps; k += SQUARE, at += whole) {
                const weight *some = at;
                if (steps - k < SQUARE) {
                    const ptrdiff_t filled = each * (steps - k) * here;
                    memcpy(last, at, (size_t)filled * sizeof(weight));
                    memset(last + filled, 0, (size_t)(whole - filled) * sizeof(weight));
                    some = last;
                }
                LOAD_ROWS(4, taken[0] + k, WORDS);
                if (three) {
                    LOAD_ROWS(5, taken[SQUARE] + k, WORDS);
                    EACH(ADD_THREE_TO, some, here);
                } else {
                    EACH(ADD_TO, some, here);
                }
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

NOINLINE TARGET void NAMED(multiply_one)(const int rows, const int vectors, TILE_ARGUMENTS)
{
    NAMED(multiply)(0, rows, vectors, TILE_VALUES);
}

NOINLINE TARGET void NAMED(multiply_three)(const int rows, const int vectors, TILE_ARGUMENTS)
{
    NAMED(multiply)(1, rows, vectors, TILE_VALUES);
}

#define DEFINE_SQUARE(ROWS, VECTORS)                                                               \
    static TARGET void NAMED(tile_##ROWS##_##VECTORS)(TILE_ARGUMENTS)                              \
    {                                                                                              \
        NAMED(multiply_one)(ROWS, VECTORS, TILE_VALUES);                                           \
    }                                                                                              \
    static TARGET void NAMED(three_##ROWS##_##VECTORS)(TILE_ARGUMENTS)                             \
    {                                                                                              \
        NAMED(multiply_three)(ROWS, VECTORS, TILE_VALUES);                                         \
    }
#define DEFINE_SQUARES(V)                                                                          \
    DEFINE_SQUARE(1, V) DEFINE_SQUARE(2, V) DEFINE_SQUARE(3, V) DEFINE_SQUARE(4, V)                \
    DEFINE_SQUARE(5, V) DEFINE_SQUARE(6, V) DEFINE_SQUARE(7, V) DEFINE_SQUARE(8, V)                \
    DEFINE_SQUARE(9, V) DEFINE_SQUARE(10, V) DEFINE_SQUARE(11, V) DEFINE_SQUARE(12, V)             \
    DEFINE_SQUARE(13, V) DEFINE_SQUARE(14, V) DEFINE_SQUARE(15, V) DEFINE_SQUARE(16, V)
#define NAMES(OF, V)                                                                               \
    {NULL, NAMED(OF##_1_##V), NAMED(OF##_2_##V), NAMED(OF##_3_##V), NAMED(OF##_4_##V),             \
     NAMED(OF##_5_##V), NAMED(OF##_6_##V), NAMED(OF##_7_##V), NAMED(OF##_8_##V), NAMED(OF##_9_##V),\
     NAMED(OF##_10_##V), NAMED(OF##_11_##V), NAMED(OF##_12_##V), NAMED(OF##_13_##V),               \
     NAMED(OF##_14_##V), NAMED(OF##_15_##V), NAMED(OF##_16_##V)}
#if PANEL_VECTORS == 4
#define DEFINE_TABLE(TABLE, OF)                                                                    \
    static const tile_kernel NAMED(TABLE)[PANEL_VECTORS + 1][MOST_TILE_ROWS + 1] = {               \
        [2] = NAMES(OF, 2), [3] = NAMES(OF, 3), [4] = NAMES(OF, 4)};
DEFINE_SQUARES(3)
DEFINE_SQUARES(4)
#else
#define DEFINE_TABLE(TABLE, OF)                                                                    \
    static const tile_kernel NAMED(TABLE)[PANEL_VECTORS + 1][MOST_TILE_ROWS + 1] = {[2] = NAMES(OF, 2)};
#endif
DEFINE_SQUARES(2)
DEFINE_TABLE(tiles, tile)
DEFINE_TABLE(tiles_three, three)

#undef KIND
#undef TARGET
#undef TAKE_ROW
#undef BEGIN_SQUARES
#undef ZERO
#undef LOAD
#undef STORE
#undef LOAD_ROWS
#undef LOAD_WORDS
#undef MULTIPLY
#undef TILE_VALUES
#undef EACH
#undef ZERO_SUMS
#undef LOAD_SUMS
#undef STORE_SUMS
#undef ADD_ONE
#undef ADD_ONE_0
#undef ADD_ONE_1
#undef ADD_ONE_2
#undef ADD_ONE_3
#undef ADD_TO
#undef ADD_THREE_TO
#undef DEFINE_SQUARE
#undef DEFINE_SQUARES
#undef DEFINE_TABLE
#undef NAMES
