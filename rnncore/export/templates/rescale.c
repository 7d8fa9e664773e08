/* y = mean + scale x */
static void $name(const float *RESTRICT x, float *RESTRICT y)
{
    for (int j = 0; j < $size; j++)
        y[j] = MULTIPLY_ADD(${name}_scale[j], x[j], ${name}_mean[j]);
}
