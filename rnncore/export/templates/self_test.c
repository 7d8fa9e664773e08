#ifdef ${upper}_SELF_TEST
#include <stdio.h>

$test_arrays

static float largest_difference(const float *y, float largest)
{
    for (int k = 0; k < $steps * ${upper}_OUTPUTS; k++) {
        const float difference = y[k] > test_y[k] ? y[k] - test_y[k] : test_y[k] - y[k];
        if (!(difference <= largest) && largest == largest) /* NaN counts most, and stays */
            largest = difference;
    }
    return largest;
}

/* Two streams take turns, one step by step and one in blocks; the first begins again. */
int main(void)
{
    static ${name}_state one, other;
    static float y[$steps * ${upper}_OUTPUTS], y_other[$steps * ${upper}_OUTPUTS];
    float largest = 0.0f;
    ${name}_reset(&other);
    for (int turn = 0; turn < 2; turn++) {
        ${name}_reset(&one);
        for (int t = 0; t < $steps; t++) {
            ${name}_step(&one, $test_step, y + t * ${upper}_OUTPUTS);
            if (turn == 0 && t % 8 == 0)
                ${name}_process(&other, $test_block, y_other + t * ${upper}_OUTPUTS, 8);
        }
        largest = largest_difference(y, largest);
    }
    largest = largest_difference(y_other, largest);
    printf("largest difference %.3g over %d steps, allowed %.3g\n", (double)largest, $steps,
           (double)test_allowed);
    return largest <= test_allowed ? 0 : 1;
}
#endif
