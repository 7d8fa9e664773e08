/* $equation */
static void $name($state *RESTRICT state, $argument, float *RESTRICT y)
{
    float *RESTRICT h = state->${name}_h;
    float a[$rows], b[$first_rows], s[$units], c[$second_rows];
$products
    for (int u = 0; u < $units; u++) {
        s[u] = $gate(a[u] + b[u]) * h[u];
        b[$units + u] = $gate(a[$units + u] + b[$units + u]);
    }
$second
    for (int u = 0; u < $units; u++) {
        const float z = b[$units + u];
        const float n = $candidate(a[2 * $units + u] + c[u]);
        const float h_new = MULTIPLY_ADD(z, h[u], (1.0f - z) * n);
        y[u] = flushed($h);
    }
    for (int u = 0; u < $units; u++)
        h[u] = y[u];
}
