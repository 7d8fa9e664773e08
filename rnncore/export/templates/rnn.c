/* $equation */
static void $name($state *RESTRICT state, $argument, float *RESTRICT y)
{
    float *RESTRICT in = state->${name}_in, *RESTRICT h = in + $inputs;
    float z[$rows];
$products
    for (int u = 0; u < $units; u++) {
        const float h_new = $gate(z[u]);
        y[u] = flushed($h);
    }
    for (int u = 0; u < $units; u++)
        h[u] = y[u];
}
