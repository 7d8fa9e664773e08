/* y = the largest of all x so far */
static void $name($state *RESTRICT state, const float *RESTRICT x, float *RESTRICT y)
{
    float *RESTRICT largest = state->${name}_largest;
    for (int j = 0; j < $size; j++) {
        largest[j] = x[j] > largest[j] ? x[j] : largest[j];
        y[j] = largest[j];
    }
}
