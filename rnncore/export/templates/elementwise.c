/* y = $f(x) */
static void $name(const float *RESTRICT x, float *RESTRICT y)
{
    for (int j = 0; j < $size; j++)
        y[j] = ${f}_of(x[j]);
}
