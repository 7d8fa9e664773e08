/* y = b + s (W x) for $rows rows of W. Its columns stand one after another: x[k] times column k is added
 * to all rows at once. */
static void rows_$rows(float *RESTRICT y, const $type *RESTRICT w, const float *RESTRICT s,
                       const float *RESTRICT b, const float *RESTRICT x, int columns)
{
    float sum[$rows];
    for (int j = 0; j < $rows; j++)
        sum[j] = 0.0f;
    for (const float *end = x + columns; x != end; x++, w += $rows) {
        const float a = *x;
        for (int j = 0; j < $rows; j++)
            sum[j] = MULTIPLY_ADD($decoded, a, sum[j]);
    }
    for (int j = 0; j < $rows; j++)
        y[j] = MULTIPLY_ADD(s[j], sum[j], b[j]);
}

/* y = b + s (w x) for one row, in eight sums that are added at the end. */
static void dot(float *y, const $type *RESTRICT w, const float *s, const float *b,
                const float *RESTRICT x, int columns)
{
    float sum[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    const float *const end = x + columns;
    for (; end - x >= 8; x += 8, w += 8)
        for (int j = 0; j < 8; j++)
            sum[j] = MULTIPLY_ADD($decoded, x[j], sum[j]);
    for (int j = 0; x + j != end; j++)
        sum[j] = MULTIPLY_ADD($decoded, x[j], sum[j]);
    const float all = ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
    *y = MULTIPLY_ADD(*s, all, *b);
}
