/* $equation */
static void $name($state *RESTRICT state, $argument, float *RESTRICT y)
{
    float *RESTRICT h = state->${name}_h;
    float a[$rows], b[$rows];
$products
    for (int u = 0; u < $units; u++) {
        const float r = sigmoid_of(a[u] + b[u]);
        const float z = sigmoid_of(a[$units + u] + b[$units + u]);
        const float n = tanh_of(MULTIPLY_ADD(r, b[2 * $units + u], a[2 * $units + u]));
        const float h_new = MULTIPLY_ADD(z, h[u], (1.0f - z) * n);
        y[u] = flushed($h);
    }
    for (int u = 0; u < $units; u++)
        h[u] = y[u];
}
