/* y = the vector of the token */
static void $name(int token, float *RESTRICT y)
{
$row
}
