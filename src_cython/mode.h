/* What a thread asks of the processor while kernels run, and gives back after them: denormal numbers
 * flushed, and the squares of AMX.
 */
#ifndef RNNCORE_MODE_H
#define RNNCORE_MODE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifdef __clang__
#define KNOWS_AMX (__clang_major__ >= 12)
#else
#define KNOWS_AMX (__GNUC__ >= 11)
#endif
#if defined(__linux__) && defined(__AVX512F__) && VECTOR_BYTES == 64 && REAL_BITS == 32 && KNOWS_AMX
#define HAS_AMX                    /* the compiler; whether the processor has it is asked */
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Denormal numbers cost a hundred cycles each and carry nothing a network needs. */
#if defined(__SSE2__)
typedef unsigned float_mode;
static inline float_mode flush_denormals(void)
{
    float_mode mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);     /* flush results to zero, read denormals as zero */
    return mode;
}
static inline void restore_denormals(float_mode mode)
{
    /* status flags that the kernel raised stay raised */
    _mm_setcsr((mode & ~0x3fu) | (_mm_getcsr() & 0x3f) | (mode & 0x3f));
}
#elif defined(__aarch64__)
typedef uint64_t float_mode;
static inline float_mode flush_denormals(void)
{
    float_mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (1u << 24)));   /* FZ */
    return mode;
}
static inline void restore_denormals(float_mode mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
}
#else
typedef unsigned float_mode;
static inline float_mode flush_denormals(void) { return 0; }
static inline void restore_denormals(float_mode mode) { (void)mode; }
#endif

#ifdef HAS_AMX
#define WITH_AMX __attribute__((target("amx-tile,amx-bf16")))

/* How many rows the squares of sums and of what is multiplied have on this thread; 0: none. */
static _Thread_local int squares_rows;

/* Squares 0 to 5 of so many rows, 6 and 7 of 16, all of 64 bytes a row. It takes longer than a small
 * product: squares stay as they are until the kernels end. */
static WITH_AMX __attribute__((noinline)) void configure_squares(int rows)
{
    struct {
        uint8_t palette, first_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } __attribute__((packed)) config = {.palette = 1};
    for (int k = 0; k < 8; k++) config.bytes[k] = 64, config.rows[k] = (uint8_t)(k < 6 ? rows : 16);
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
    squares_rows = rows;
}

static WITH_AMX __attribute__((noinline)) void release_squares(void)
{
    __asm__ volatile("tilerelease" : : : "memory");
    squares_rows = 0;
}

typedef enum { ALLOWED, ABSENT, REFUSED } Amx;

/* Whether the processor has AMX and the system lets this process use it. */
static Amx ask_for_amx(void)
{
    enum { TILE_AND_BFLOAT16 = 1 << 24 | 1 << 22, HAS_XGETBV = 1 << 27, STATES = 3 << 17 };
    enum { REQUEST = 0x1023, TILE_DATA = 18 };                  /* of arch_prctl */
    unsigned a, b, c, d, high, enabled;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return ABSENT;
    if ((d & TILE_AND_BFLOAT16) != TILE_AND_BFLOAT16) return ABSENT;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & HAS_XGETBV)) return ABSENT;
    __asm__("xgetbv" : "=a"(enabled), "=d"(high) : "c"(0));
    if ((enabled & STATES) != STATES) return REFUSED;
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) ? REFUSED : ALLOWED;
}
#endif

static inline float_mode enter_kernels(void) { return flush_denormals(); }

static inline void leave_kernels(float_mode mode)
{
#ifdef HAS_AMX
    if (squares_rows) release_squares();
#endif
    restore_denormals(mode);
}

#endif
