// An LSTM of one feature, fed in blocks, as C++ of fixed sizes has it: all gates by one product with
// Eigen, or column after column with xsimd. W_ih, W_hh, b of (4, units, ...), gates i, f, g, o.
#include <chrono>
#include <cstring>

#include <Eigen/Dense>
#include <xsimd/xsimd.hpp>

template <int H> struct WithEigen {
    Eigen::Matrix<float, 4 * H, H + 2> W;
    Eigen::Matrix<float, H + 2, 1> in;
    Eigen::Matrix<float, 4 * H, 1> z;
    Eigen::Matrix<float, H, 1> c;

    WithEigen(const float *W_ih, const float *W_hh, const float *b)
    {
        for (int r = 0; r < 4 * H; r++) {
            for (int k = 0; k < H; k++) W(r, k) = W_hh[r * H + k];
            W(r, H) = W_ih[r], W(r, H + 1) = b[r];
        }
        in.setZero(), c.setZero();
        in(H + 1) = 1;
    }

    void step(float x, float *h)
    {
        in(H) = x;
        z.noalias() = W * in;
        const auto i = 1 / (1 + (-z.template segment<H>(0).array()).exp());
        const auto f = 1 / (1 + (-z.template segment<H>(H).array()).exp());
        const auto o = 1 / (1 + (-z.template segment<H>(3 * H).array()).exp());
        c.array() = f * c.array() + i * z.template segment<H>(2 * H).array().tanh();
        in.template head<H>() = (o * c.array().tanh()).matrix();
        std::memcpy(h, in.data(), H * sizeof(float));
    }
};

template <int H> struct WithXsimd {
    using vec = xsimd::batch<float>;
    static constexpr int L = vec::size, V = (H + L - 1) / L;
    vec W_x[4][V], W_h[4][H][V], bias[4][V], c[V];
    alignas(64) float h_prev[V * L] = {};

    static vec part(const float *column, int stride, int v)
    {
        alignas(64) float some[L] = {};
        for (int k = 0; k < L && v * L + k < H; k++) some[k] = column[(v * L + k) * stride];
        return vec::load_aligned(some);
    }

    WithXsimd(const float *W_ih, const float *W_hh, const float *b)
    {
        for (int v = 0; v < V; v++) {
            c[v] = vec(0.f);
            for (int g = 0; g < 4; g++) {
                W_x[g][v] = part(W_ih + g * H, 1, v), bias[g][v] = part(b + g * H, 1, v);
                for (int k = 0; k < H; k++) W_h[g][k][v] = part(W_hh + g * H * H + k, H, v);
            }
        }
    }

    static vec sigmoid(vec x) { return vec(1.f) / (vec(1.f) + xsimd::exp(-x)); }

    void step(float x, float *h)
    {
        vec z[4][V];
        for (int g = 0; g < 4; g++)
            for (int v = 0; v < V; v++) z[g][v] = xsimd::fma(W_x[g][v], vec(x), bias[g][v]);
        for (int k = 0; k < H; k++)
            for (int g = 0; g < 4; g++)
                for (int v = 0; v < V; v++) z[g][v] = xsimd::fma(W_h[g][k][v], vec(h_prev[k]), z[g][v]);
        for (int v = 0; v < V; v++) {
            c[v] = sigmoid(z[1][v]) * c[v] + sigmoid(z[0][v]) * xsimd::tanh(z[2][v]);
            (sigmoid(z[3][v]) * xsimd::tanh(c[v])).store_aligned(h_prev + v * L);
        }
        std::memcpy(h, h_prev, H * sizeof(float));
    }
};

// Runs a block so many times, the first time from zeros into y; returns seconds a step.
template <class Layer, int H>
static double run(const float *W_ih, const float *W_hh, const float *b, const float *x, long steps,
                  float *y, long times)
{
    static Layer layer(W_ih, W_hh, b);
    layer = Layer(W_ih, W_hh, b);
    for (long t = 0; t < steps; t++) layer.step(x[t], y + t * H);
    alignas(64) static float out[H];
    const auto begin = std::chrono::steady_clock::now();
    for (long n = 0; n < times; n++)
        for (long t = 0; t < steps; t++) layer.step(x[t], out);
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    return passed.count() / (times * steps);
}

#define ARGUMENTS const float *W_ih, const float *W_hh, const float *b, const float *x, long steps, float *y, long times
#define SIZE(H)                                                                                    \
    extern "C" double eigen_##H(ARGUMENTS)                                                         \
    { return run<WithEigen<H>, H>(W_ih, W_hh, b, x, steps, y, times); }                            \
    extern "C" double xsimd_##H(ARGUMENTS)                                                         \
    { return run<WithXsimd<H>, H>(W_ih, W_hh, b, x, steps, y, times); }
SIZE(3) SIZE(8) SIZE(12) SIZE(16) SIZE(20) SIZE(24) SIZE(32) SIZE(40) SIZE(64)
