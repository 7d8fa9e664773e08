/* y = e^x / sum(e^x) */
static void $name(const float *RESTRICT x, float *RESTRICT y)
{
    float largest = x[0], sum = 0.0f;
    for (int j = 1; j < $size; j++)
        largest = x[j] > largest ? x[j] : largest;
    for (int j = 0; j < $size; j++)
        y[j] = exp_of(x[j] - largest);
    for (int j = 0; j < $size; j++)
        sum += y[j];
    for (int j = 0; j < $size; j++)
        y[j] = flushed(y[j] / sum);
}
