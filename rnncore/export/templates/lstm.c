/* $equation */
static void $name($state *RESTRICT state, $argument, float *RESTRICT y)
{
    float *RESTRICT in = state->${name}_in, *RESTRICT h = in + $inputs, *RESTRICT c = state->${name}_c;
    float z[$rows];
$products
    for (int u = 0; u < $units; u++) {
        const float i = $gate(z[u]$see_i);
        const float f = $gate(z[$units + u]$see_f);
        const float g = $candidate(z[2 * $units + u]);
        const float c_new = MULTIPLY_ADD(f, c[u], i * g);
        const float o = $gate(z[3 * $units + u]$see_o);
        const float h_new = o * $out(c_new);
        c[u] = flushed($c);
        y[u] = flushed($h);
    }
    for (int u = 0; u < $units; u++)
        h[u] = y[u];
}
