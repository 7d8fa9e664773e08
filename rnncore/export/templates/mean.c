/* y = the mean of all x so far; what rounding leaves of a sum is kept beside it (Kahan, 1965) */
static void $name($state *RESTRICT state, const float *RESTRICT x, float *RESTRICT y)
{
    float *RESTRICT sum = state->${name}_sum, *RESTRICT rest = state->${name}_rest;
    const float steps = (float)++*state->${name}_steps;
    for (int j = 0; j < $size; j++) {
        const float added = x[j] - rest[j], total = sum[j] + added;
        rest[j] = (total - sum[j]) - added;
        sum[j] = total;
        y[j] = flushed(total / steps);
    }
}
