/* y = (x - mean) / scale; a mean is the sum of two numbers */
static void $name(const float *RESTRICT x, float *RESTRICT y)
{
    for (int j = 0; j < $size; j++)
        y[j] = ((x[j] - ${name}_mean[j]) - ${name}_rest[j]) / ${name}_scale[j];
}
