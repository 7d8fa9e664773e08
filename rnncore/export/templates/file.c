/* $name: $title
 *
$about
 *
 * It reads $reads and gives
 * $gives a step. Beside <stdint.h> it includes nothing, it allocates
 * nothing, and calls nothing but itself. Each stream has a state of its own:
 *
 *     ${name}_state state;
 *     ${name}_reset(&state);
 *     ${name}_step(&state, $example_x, y);                 one step
 *     ${name}_process(&state, $example_xs, ys, steps);     a block of steps
 *
 * Flash  $flash bytes of constants, weights as $weights
 * RAM    $ram bytes a state; at most $stack bytes of numbers on the stack
 * Work   $work multiply-adds a step, and $nonlinear functions of a gate or unit
 *
 * Another file of the program defines ${upper}_DECLARATIONS before it includes this one: then this is a
 * header. Compiled with -D${upper}_SELF_TEST it is a program that holds itself against $steps steps of
 * the model it was made from. Not for -ffast-math, which takes rounding for granted. */
#ifndef ${upper}_H
#define ${upper}_H

#include <stdint.h>

#define ${upper}_INPUTS $inputs
#define ${upper}_OUTPUTS $outputs$vocabulary

typedef struct {
$fields
} ${name}_state;

#ifdef __cplusplus
extern "C" {
#endif
void ${name}_reset(${name}_state *state);
void ${name}_step(${name}_state *state, $parameter, float *y);
void ${name}_process(${name}_state *state, $parameters, float *y, int steps);
#ifdef __cplusplus
}
#endif

#endif

#ifndef ${upper}_DECLARATIONS

#if defined(__FAST_MATH__) || (defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0)
#error "compile without -ffast-math, and on 32-bit x86 with -msse2 -mfpmath=sse: sums are rounded to float"
#endif

#ifdef __cplusplus
#define RESTRICT __restrict
#else
#define RESTRICT restrict
#endif

/* Weights begin where a line of the cache does, so that no vector of them lies in two lines. */
#ifdef __GNUC__
#define ALIGNED __attribute__((aligned(64)))
#else
#define ALIGNED
#endif

$functions

$weight_arrays

$parts

void ${name}_reset(${name}_state *state)
{
$resets
}

void ${name}_step(${name}_state *state, $parameter, float *y)
{
$chain
}

void ${name}_process(${name}_state *state, $parameters, float *y, int steps)
{
    for (int t = 0; t < steps; t++)
        ${name}_step(state, $step_x, y + t * ${upper}_OUTPUTS);
}

$self_test

#endif
