/* y = W x + b */
static void $name(const float *RESTRICT x, float *RESTRICT y)
{
    float sum[$rows];
$products
    for (int j = 0; j < $outputs; j++)
        y[j] = flushed(sum[j]);
}
