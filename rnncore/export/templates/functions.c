/* a b + c, rounded once where the processor does it so just as fast. */
#ifdef __FP_FAST_FMAF
#define MULTIPLY_ADD(a, b, c) __builtin_fmaf(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

/* Denormal numbers take a hundred times as long. This returns none: what is below 1e-18 keeps whole
 * multiples of 1e-25, about; what is above 1e-11 stays as it is. */
static inline float flushed(float x) { return (x + 1e-18f) - 1e-18f; }

/* 2^n, where n is the last bits of x: x is n + ROUNDER. Adding ROUNDER rounds to a whole number. */
#define ROUNDER 12582912.0f
static inline float power_of_two(float x)
{
    union { float number; uint32_t bits; } power;
    power.number = x;
    power.bits = (power.bits << 23) + ((uint32_t)127 << 23);
    return power.number;
}

/* e^r, |r| <= ln(2) / 2: a minimax fit, relative error 3e-9. */
static inline float exp_of_rest(float r)
{
    const float square = r * r;
    float sum = MULTIPLY_ADD(0.001381454f, square, MULTIPLY_ADD(0.008368745f, r, 0.04166839f));
    sum = MULTIPLY_ADD(sum, square, MULTIPLY_ADD(0.16666521f, r, 0.49999994f));
    return MULTIPLY_ADD(sum, square, r + 1.0f);
}

/* e^x, x <= 0: e^x = 2^n e^r. */
static inline float exp_of(float x)
{
    x = x < -87.0f ? -87.0f : x;
    const float shifted = MULTIPLY_ADD(x, 1.44269504f, ROUNDER), n = shifted - ROUNDER;
    const float r = MULTIPLY_ADD(n, 2.12194440e-4f, MULTIPLY_ADD(n, -0.693359375f, x));
    return power_of_two(shifted) * exp_of_rest(r);
}

/* 1 / (1 + e^-x), to full relative precision on both sides. */
static inline float sigmoid_of(float x)
{
    x = x < -89.0f ? -89.0f : x;
    x = x > 87.0f ? 87.0f : x;
    const float shifted = MULTIPLY_ADD(x, -1.44269504f, ROUNDER), n = shifted - ROUNDER;
    const float r = MULTIPLY_ADD(n, 2.12194440e-4f, MULTIPLY_ADD(n, -0.693359375f, -x));
    return 1.0f / MULTIPLY_ADD(power_of_two(shifted), exp_of_rest(r), 1.0f);
}

/* tanh(x) = t / (1 + t), t = (e^2x - 1) / 2 = 2^n p + (2^n - 1) / 2; p = (e^2r - 1) / 2 is a minimax
 * fit, |r| <= ln(2) / 4, relative error 1.4e-8. From 9.5 on tanh rounds to 1. */
static inline float tanh_of(float x)
{
    x = x < -9.5f ? -9.5f : x;
    x = x > 9.5f ? 9.5f : x;
    const float shifted = MULTIPLY_ADD(x, 2.88539008f, ROUNDER), n = shifted - ROUNDER;
    const float r = MULTIPLY_ADD(n, -0.34657359f, x), square = r * r;
    float sum = MULTIPLY_ADD(0.044424053f, square, MULTIPLY_ADD(0.13386476f, r, 0.3333376f));
    sum = MULTIPLY_ADD(sum, square, MULTIPLY_ADD(0.66666174f, r, 0.99999994f));
    const float p = MULTIPLY_ADD(sum, square, r), scale = power_of_two(shifted);
    const float t = MULTIPLY_ADD(scale, p, MULTIPLY_ADD(scale, 0.5f, -0.5f));
    return t / (1.0f + t);
}

static inline float relu_of(float x) { return x > 0.0f ? x : 0.0f; }

/* A number of 16 bits, IEEE 754's half precision: its exponent counts from another zero. */
static inline float half_of(uint16_t x)
{
    union { uint32_t bits; float number; } wide;
    wide.bits = ((uint32_t)(x & 0x8000u) << 16) | ((uint32_t)(x & 0x7fffu) << 13);
    return wide.number * 5.192296858534828e33f; /* 2^112 */
}
