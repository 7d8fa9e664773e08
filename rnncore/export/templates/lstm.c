/* $equation */
static void $name($state *RESTRICT state, $argument, float *RESTRICT y)
{
    float *RESTRICT in = state->${name}_in, *RESTRICT h = in + $inputs, *RESTRICT c = state->${name}_c;
    float z[$rows];
$products
    for (int u = 0; u < $units; u++) {
        const float i = sigmoid_of(z[u]);
        const float f = sigmoid_of(z[$units + u]);
        const float g = tanh_of(z[2 * $units + u]);
        const float o = sigmoid_of(z[3 * $units + u]);
        const float c_new = MULTIPLY_ADD(f, c[u], i * g);
        const float h_new = o * tanh_of(c_new);
        c[u] = flushed($c);
        y[u] = flushed($h);
    }
    for (int u = 0; u < $units; u++)
        h[u] = y[u];
}
