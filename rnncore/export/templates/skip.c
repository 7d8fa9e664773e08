/* y = x + the first numbers of what went before */
static void $name(const float *RESTRICT x, const float *RESTRICT before, float *RESTRICT y)
{
    for (int j = 0; j < $size; j++)
        y[j] = x[j] + before[j];
}
