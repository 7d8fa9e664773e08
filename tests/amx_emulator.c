/* AMX for processors without it: what they call illegal is done here, from the bytes of the instruction,
 * by Intel's description of it (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2).
 * A wrong shape, or squares that are not set up, end the process with a word.
 */
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { SQUARES = 8, ROWS = 16, BYTES = 64 };
enum { NO_PREFIX, PREFIX_66, PREFIX_F3, PREFIX_F2 };

static _Thread_local uint8_t square[SQUARES][ROWS][BYTES];
static _Thread_local int rows[SQUARES], bytes[SQUARES];
long amx_products;                     /* how many there were */

static void demand(int right, const char *what)
{
    if (right) return;
    fprintf(stderr, "AMX: %s\n", what);
    _exit(3);
}

static void configure(const uint8_t *from)
{
    demand(from[0] == 1, "palette 1");
    for (int k = 1; k < 16; k++) demand(from[k] == 0, "reserved bytes are zero");
    for (int k = 0; k < 16; k++) {
        int wide = from[16 + 2 * k] | from[17 + 2 * k] << 8, tall = from[48 + k];
        demand(k < SQUARES ? wide <= BYTES && tall <= ROWS : wide == 0 && tall == 0, "sizes");
        if (k < SQUARES) bytes[k] = wide, rows[k] = tall;
    }
    memset(square, 0, sizeof square);
}

static float number(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* c[m][n] += a[m][2k] b[k][2n] + a[m][2k + 1] b[k][2n + 1], of the odd and the even ones a chain each. */
static void multiply(int c, int a, int b)
{
    demand(c != a && c != b && a != b, "three squares");
    demand(rows[c] == rows[a] && bytes[c] == bytes[b] && bytes[a] / 4 == rows[b], "shapes that fit");
    for (int m = 0; m < rows[c]; m++)
        for (int n = 0; n < bytes[c] / 4; n++) {
            float even = 0, odd = 0, sum;
            for (int k = 0; k < bytes[a] / 4; k++) {
                uint32_t x, w;
                memcpy(&x, square[a][m] + 4 * k, 4);
                memcpy(&w, square[b][k] + 4 * n, 4);
                even = fmaf(number(x << 16), number(w << 16), even);
                odd = fmaf(number(x & 0xffff0000u), number(w & 0xffff0000u), odd);
            }
            memcpy(&sum, square[c][m] + 4 * n, 4);
            sum += even + odd;
            memcpy(square[c][m] + 4 * n, &sum, 4);
        }
    __atomic_fetch_add(&amx_products, 1, __ATOMIC_RELAXED);
}

/* Three bytes of VEX, an opcode, ModRM and perhaps SIB: all that these instructions have. */
static void emulate(int signal_number, siginfo_t *info, void *context)
{
    static const int place[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *at = (const uint8_t *)registers[REG_RIP], *end = at + 5;
    const unsigned mxcsr = __builtin_ia32_stmxcsr();
    (void)signal_number, (void)info;
    demand(at[0] == 0xc4 && (at[1] & 0x9f) == 0x82 && (at[2] & 0x84) == 0, "an instruction of its own");
    const int index_bit = !(at[1] & 0x40) << 3, base_bit = !(at[1] & 0x20) << 3;
    const int third = ~at[2] >> 3 & 15, prefix = at[2] & 3, code = at[3];
    const int mode = at[4] >> 6, first = at[4] >> 3 & 7, second = at[4] & 7;
    uint8_t *memory = NULL;
    int64_t stride = 0;
    if (mode != 3) {
        int base = second;
        if (second == 4) {
            const int sib = *end++, index = (sib >> 3 & 7) | index_bit;
            base = sib & 7;
            if (index != 4) stride = (int64_t)registers[place[index]] << (sib >> 6);
        }
        demand(mode != 0 || base != 5, "a base");
        memory = (uint8_t *)registers[place[base | base_bit]];
        if (mode == 1) memory += (int8_t)*end++;
        if (mode == 2) {
            int32_t further;
            memcpy(&further, end, 4);
            memory += further, end += 4;
        }
    }
    __builtin_ia32_ldmxcsr(0x1f80 | 0x8040);        /* to the nearest, denormals flushed */
    if (code == 0x49 && prefix == NO_PREFIX && memory) {
        configure(memory);
    } else if (code == 0x49 && prefix == NO_PREFIX) {
        memset(rows, 0, sizeof rows);               /* tilerelease */
    } else if (code == 0x49 && prefix == PREFIX_F2) {
        demand(rows[first], "a square that is set up");
        memset(square[first], 0, sizeof square[first]);
    } else if (code == 0x4b && prefix == PREFIX_F2) {
        demand(rows[first], "a square that is set up");
        memset(square[first], 0, sizeof square[first]);
        for (int r = 0; r < rows[first]; r++) memcpy(square[first][r], memory + r * stride, bytes[first]);
    } else if (code == 0x4b && prefix == PREFIX_F3) {
        demand(rows[first], "a square that is set up");
        for (int r = 0; r < rows[first]; r++) memcpy(memory + r * stride, square[first][r], bytes[first]);
    } else if (code == 0x5c && prefix == PREFIX_F3) {
        demand(rows[first], "a square that is set up");
        multiply(first, second, third);
    } else {
        demand(0, "an instruction that is known");
    }
    __builtin_ia32_ldmxcsr(mxcsr);
    registers[REG_RIP] = (greg_t)end;
}

void amx_begin(void)
{
    struct sigaction action = {.sa_sigaction = emulate, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
}
