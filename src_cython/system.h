/* What is asked of the system: the time, threads, and sleep until a word changes.
 *
 * Linux sleeps on the word itself, by a futex. Elsewhere, and with RNNCORE_PORTABLE_THREADS, all share
 * one condition variable, and whoever it wakes looks at its own word again.
 */
#ifndef RNNCORE_SYSTEM_H
#define RNNCORE_SYSTEM_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define FOREVER (-1)

/* -1 for the clock of a thread that has ended. */
static int64_t nanoseconds(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time)) return -1;
    return time.tv_sec * (int64_t)1000000000 + time.tv_nsec;
}

/* A thread of ours takes no signal that is meant for the process, as somebody may have blocked it to
 * wait for it; but faults of its own, for whose sake a handler may be there. */
static int start_thread(pthread_t *thread, void *(*function)(void *), void *argument)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t most, before;
    pthread_attr_t detached;
    sigfillset(&most);
    for (size_t k = 0; k < sizeof(faults) / sizeof(*faults); k++) sigdelset(&most, faults[k]);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_BLOCK, &most, &before);
    int failed = pthread_create(thread, &detached, function, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    return failed;
}

/* block sleeps while *word is `seen`, but not longer than some nanoseconds; wake ends that. */
#if defined(__linux__) && !defined(RNNCORE_PORTABLE_THREADS)
static void block(atomic_int *word, int seen, int64_t most)
{
    struct timespec time = {most / 1000000000, most % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, most == FOREVER ? NULL : &time, NULL, 0);
}

static void wake(atomic_int *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}
#else
static struct {
    pthread_mutex_t lock;
    pthread_cond_t woken;
} bed = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};

static void block(atomic_int *word, int seen, int64_t most)
{
    pthread_mutex_lock(&bed.lock);
    if (atomic_load(word) == seen && most == FOREVER) {
        pthread_cond_wait(&bed.woken, &bed.lock);
    } else if (atomic_load(word) == seen) {
        int64_t end = nanoseconds(CLOCK_REALTIME) + most;
        struct timespec time = {end / 1000000000, end % 1000000000};
        pthread_cond_timedwait(&bed.woken, &bed.lock, &time);
    }
    pthread_mutex_unlock(&bed.lock);
}

static void wake(atomic_int *word)
{
    (void)word;
    pthread_mutex_lock(&bed.lock);
    pthread_cond_broadcast(&bed.woken);
    pthread_mutex_unlock(&bed.lock);
}
#endif

#endif
