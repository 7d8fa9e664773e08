/* $equation */
static void $name($state *RESTRICT state, $argument, float *RESTRICT y)
{
    float *RESTRICT h = state->${name}_h;
    float a[$rows], b[$rows];
$products
    for (int u = 0; u < $units; u++) {
        const float r = $gate(a[u] + b[u]);
        const float z = $gate(a[$units + u] + b[$units + u]);
        const float n = $candidate(MULTIPLY_ADD(r, b[2 * $units + u], a[2 * $units + u]));
        const float h_new = MULTIPLY_ADD(z, h[u], (1.0f - z) * n);
        y[u] = flushed($h);
    }
    for (int u = 0; u < $units; u++)
        h[u] = y[u];
}
