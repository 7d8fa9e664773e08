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

/* Each of the sums, with the row of squares that it is of, and the vector of a panel: four vectors by one
 * row of squares, or two by two. `wide` of these vectors are there. */
#define EACH(WHAT, ...)                                                                            \
    do {                                                                                           \
        WHAT(0, 0, 0, __VA_ARGS__);                                                                \
        if (wide > 1) WHAT(1, 0, 1, __VA_ARGS__);                                                  \
        if (form == TWO) {                                                                         \
            WHAT(2, 1, 0, __VA_ARGS__);                                                            \
            if (wide > 1) WHAT(3, 1, 1, __VA_ARGS__);                                              \
        } else {                                                                                   \
            if (wide > 2) WHAT(2, 0, 2, __VA_ARGS__);                                              \
            if (wide > 3) WHAT(3, 0, 3, __VA_ARGS__);                                              \
        }                                                                                          \
    } while (0)
#define ZERO_SUMS(N, ROW, V, UNUSED) { ZERO(N); }
#define LOAD_SUMS(N, ROW, V, FROM, STRIDE) { LOAD(N, (FROM) + ROW * SQUARE * (STRIDE) + V * LANES, STRIDE); }
#define STORE_SUMS(N, ROW, V, TO, STRIDE) { STORE(N, (TO) + ROW * SQUARE * (STRIDE) + V * LANES, STRIDE); }

#define ADD(N, V, W, FROM, WIDTH)                                                                  \
    {                                                                                              \
        LOAD_WORDS(W, (FROM) + V * LANES, WIDTH);                                                  \
        MULTIPLY(N, 4, W);                                                                         \
    }
#define ADD_ONE(FROM, WIDTH)                                                                       \
    {                                                                                              \
        ADD(0, 0, 6, FROM, WIDTH);                                                                 \
        if (wide > 1) ADD(1, 1, 7, FROM, WIDTH);                                                   \
        if (wide > 2) ADD(2, 2, 6, FROM, WIDTH);                                                   \
        if (wide > 3) ADD(3, 3, 7, FROM, WIDTH);                                                   \
    }
#define ADD_TWO(FROM, WIDTH)                                                                       \
    {                                                                                              \
        ADD(0, 0, 6, FROM, WIDTH);                                                                 \
        MULTIPLY(2, 5, 6);                                                                         \
        if (wide > 1) {                                                                            \
            ADD(1, 1, 7, FROM, WIDTH);                                                             \
            MULTIPLY(3, 5, 7);                                                                     \
        }                                                                                          \
    }
#define ADD_THREE(N, ROW, V, FROM, WIDTH)                                                          \
    {                                                                                              \
        ADD(N, V, 6, FROM, 2 * (WIDTH));                                                           \
        MULTIPLY(N, 5, 6);                                                                         \
        ADD(N, V, 7, (FROM) + (WIDTH), 2 * (WIDTH));                                               \
    }

/* Panels of `vectors`. Squares are as tall as `rows`, or taller: then rows go by way of `through`. */
INLINE TARGET void NAMED(multiply)(const Form form, const int rows, const int vectors, TILE_ARGUMENTS)
{
    enum { WORDS = TAKEN_BY_SQUARES / 2 };
    const int each = form == THREE ? 2 : 1;                     /* words for two numbers */
    const int across = form == TWO ? 2 : 4;                     /* vectors at a time */
    _Alignas(64) uint32_t taken[2 * SQUARE][WORDS];             /* two rows of squares, or a' and a'' */
    _Alignas(64) real through[2 * SQUARE * PANEL];
    _Alignas(64) weight last[2 * SQUARE * PANEL];               /* words that are no whole square */
    const ptrdiff_t all = parts * depth, size = (all + 1) / 2, width = vectors * LANES;
    ptrdiff_t first = 0;
    (void)next;
    BEGIN_SQUARES(form == TWO ? SQUARE : rows);
    const int direct = rows == (form == TWO ? 2 * SQUARE : tall);
    do {
        const ptrdiff_t many = all - first < TAKEN_BY_SQUARES ? all - first : TAKEN_BY_SQUARES;
        const ptrdiff_t steps = (many + 1) / 2;
        const ptrdiff_t padded = (steps + SQUARE - 1) / SQUARE * SQUARE;
        for (int r = 0; r < rows; r++) {
            if (form == THREE)
                take_three(taken[r], taken[SQUARE + r], a + r * a_stride, depth, part_stride, first, many);
            else
                TAKE_ROW(taken[r], a + r * a_stride, depth, part_stride, first, many);
            for (int k = r; k < 2 * SQUARE; k += form == THREE ? SQUARE : 2 * SQUARE)
                memset(taken[k] + steps, 0, (size_t)(padded - steps) * sizeof(uint32_t));
        }
        for (ptrdiff_t column = 0; column < columns; column += width) {
            const ptrdiff_t here = columns - column < width ? columns - column : width;
            const ptrdiff_t whole = each * SQUARE * here;
            const real *from = first ? out + column : init ? init + column : NULL;
            const ptrdiff_t from_stride = first ? out_stride : init_stride;
            for (int r = 0; r < rows && from && !direct; r++)
                memcpy(through + r * PANEL, from + r * from_stride, (size_t)here * sizeof(real));
            for (ptrdiff_t left = 0; left < here; left += across * LANES) {
                const int wide = (int)((here - left) / LANES);
                const weight *at = panel + each * (column * size + first / 2 * here);
                if (!from) {
                    EACH(ZERO_SUMS, 0);
                } else if (direct) {
                    EACH(LOAD_SUMS, from + left, from_stride);
                } else {
                    EACH(LOAD_SUMS, through + left, PANEL);
                }
                for (ptrdiff_t k = 0; k < steps; k += SQUARE, at += whole) {
                    const weight *some = at + left;
                    if (steps - k < SQUARE) {
                        const ptrdiff_t filled = each * (steps - k) * here;
                        memcpy(last, at, (size_t)filled * sizeof(weight));
                        memset(last + filled, 0, (size_t)(whole - filled) * sizeof(weight));
                        some = last + left;
                    }
                    LOAD_ROWS(4, taken[0] + k, WORDS);
                    if (form != ONE) LOAD_ROWS(5, taken[SQUARE] + k, WORDS);
                    if (form == ONE) ADD_ONE(some, here)
                    if (form == TWO) ADD_TWO(some, here)
                    if (form == THREE) EACH(ADD_THREE, some, here);
                }
                if (direct) {
                    EACH(STORE_SUMS, out + column + left, out_stride);
                } else {
                    EACH(STORE_SUMS, through + left, PANEL);
                }
            }
            for (int r = 0; r < rows && !direct; r++)
                memcpy(out + column + r * out_stride, through + r * PANEL, (size_t)here * sizeof(real));
        }
        first += TAKEN_BY_SQUARES;
    } while (first < all);
}

NOINLINE TARGET void NAMED(tile)(const int rows, const int vectors, TILE_ARGUMENTS)
{
    if (rows > SQUARE)
        NAMED(multiply)(TWO, rows, vectors, TILE_VALUES);
    else
        NAMED(multiply)(ONE, rows, vectors, TILE_VALUES);
}

NOINLINE TARGET void NAMED(three)(const int rows, const int vectors, TILE_ARGUMENTS)
{
    for (int r = 0; r < rows; r += SQUARE) {
        NAMED(multiply)(THREE, rows - r < SQUARE ? rows - r : SQUARE, vectors, TILE_VALUES);
        out += SQUARE * out_stride, a += SQUARE * a_stride;
        if (init) init += SQUARE * init_stride;
    }
}

#define DEFINE_SQUARE(ROWS, VECTORS)                                                               \
    static TARGET void NAMED(tile_##ROWS##_##VECTORS)(TILE_ARGUMENTS)                              \
    {                                                                                              \
        NAMED(tile)(ROWS, VECTORS, TILE_VALUES);                                                   \
    }                                                                                              \
    static TARGET void NAMED(three_##ROWS##_##VECTORS)(TILE_ARGUMENTS)                             \
    {                                                                                              \
        NAMED(three)(ROWS, VECTORS, TILE_VALUES);                                                  \
    }
#define DEFINE_SQUARES(V)                                                                          \
    DEFINE_SQUARE(1, V) DEFINE_SQUARE(2, V) DEFINE_SQUARE(3, V) DEFINE_SQUARE(4, V)                \
    DEFINE_SQUARE(5, V) DEFINE_SQUARE(6, V) DEFINE_SQUARE(7, V) DEFINE_SQUARE(8, V)                \
    DEFINE_SQUARE(9, V) DEFINE_SQUARE(10, V) DEFINE_SQUARE(11, V) DEFINE_SQUARE(12, V)             \
    DEFINE_SQUARE(13, V) DEFINE_SQUARE(14, V) DEFINE_SQUARE(15, V) DEFINE_SQUARE(16, V)            \
    DEFINE_SQUARE(17, V) DEFINE_SQUARE(18, V) DEFINE_SQUARE(19, V) DEFINE_SQUARE(20, V)            \
    DEFINE_SQUARE(21, V) DEFINE_SQUARE(22, V) DEFINE_SQUARE(23, V) DEFINE_SQUARE(24, V)            \
    DEFINE_SQUARE(25, V) DEFINE_SQUARE(26, V) DEFINE_SQUARE(27, V) DEFINE_SQUARE(28, V)            \
    DEFINE_SQUARE(29, V) DEFINE_SQUARE(30, V) DEFINE_SQUARE(31, V) DEFINE_SQUARE(32, V)
#define NAMES_FROM(OF, V, A, B, C, D)                                                              \
    NAMED(OF##_##A##_##V), NAMED(OF##_##B##_##V), NAMED(OF##_##C##_##V), NAMED(OF##_##D##_##V)
#define NAMES(OF, V)                                                                               \
    {NULL, NAMES_FROM(OF, V, 1, 2, 3, 4), NAMES_FROM(OF, V, 5, 6, 7, 8),                           \
     NAMES_FROM(OF, V, 9, 10, 11, 12), NAMES_FROM(OF, V, 13, 14, 15, 16),                          \
     NAMES_FROM(OF, V, 17, 18, 19, 20), NAMES_FROM(OF, V, 21, 22, 23, 24),                         \
     NAMES_FROM(OF, V, 25, 26, 27, 28), NAMES_FROM(OF, V, 29, 30, 31, 32)}
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
#undef ADD
#undef ADD_ONE
#undef ADD_TWO
#undef ADD_THREE
#undef DEFINE_SQUARE
#undef DEFINE_SQUARES
#undef DEFINE_TABLE
#undef NAMES
#undef NAMES_FROM
