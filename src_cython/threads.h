/* The team: threads that run one function together, and the barrier between their steps.
 *
 * One region a sequence, never one a step. Between regions the workers spin for a moment, then
 * sleep. When the team is busy (another Python thread is in a region) or the process is a child of
 * fork, the caller runs the region alone: a region gives the same bits for any number of threads.
 */
#ifndef RNNCORE_THREADS_H
#define RNNCORE_THREADS_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "simd.h"

#define MOST_THREADS 64
#define SPINS_BEFORE_YIELD 1000    /* some ten microseconds */
#define SPINS_BEFORE_SLEEP 20000   /* some hundred microseconds */

typedef void (*region)(void *argument, int thread, int threads);

/* Everybody's last step is done before anybody's next begins: each says which round it has come to,
 * in a cache line of its own, and looks at those of the others. So a line goes from each thread to
 * each other once, and all at the same time. Zero it before a region. */
typedef struct {
    struct {
        atomic_int round;
        char apart[64 - sizeof(atomic_int)];
    } thread[MOST_THREADS];
} Barrier;

INLINE void relax(void)
{
#if defined(__SSE2__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A counter that one thread raises and others wait for. */
INLINE void raise_to(atomic_int *counter, int value)
{
    atomic_store_explicit(counter, value, memory_order_release);
}

INLINE void wait_until_above(atomic_int *counter, int value)
{
    for (int spins = 0; atomic_load_explicit(counter, memory_order_acquire) <= value; spins++) {
        if (spins < SPINS_BEFORE_YIELD) relax();
        else sched_yield();
    }
}

INLINE void barrier_wait(Barrier *barrier, int thread, int threads)
{
    if (threads == 1) return;
    int round = atomic_load_explicit(&barrier->thread[thread].round, memory_order_relaxed);
    raise_to(&barrier->thread[thread].round, round + 1);
    for (int k = 0; k < threads; k++) wait_until_above(&barrier->thread[k].round, round);
}

typedef struct {
    pthread_t thread;
    int asleep;
#if defined(__linux__) && defined(CPU_CLR)
    int sent_away;                  /* from the caller's processor; freed again when it has woken */
    cpu_set_t processors;           /* that it may use */
#endif
} Worker;

static struct {
    pthread_mutex_t busy;           /* held by the caller whose region the team runs */
    pthread_mutex_t sleep;          /* over who is asleep; a sleeper's fields are the caller's */
    pthread_cond_t wake;
    int sleepers;
    int workers;                    /* threads that exist beside the caller */
    Worker worker[MOST_THREADS];    /* thread k is worker[k] */
    int forked;
    region work;
    void *argument;
    _Alignas(64) atomic_int ticket; /* region number * MOST_THREADS + threads - 1 */
    _Alignas(64) atomic_int running;
} team = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .sleep = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER};

static void run_flushing_denormals(region work, void *argument, int thread, int threads)
{
    float_mode mode = flush_denormals();
    work(argument, thread, threads);
    finish_stores();
    restore_denormals(mode);
}

/* Systems like to wake a thread on the processor of the one that wakes it, where it would wait for
 * the caller, who waits for it. So sleepers are sent to the other processors before they wake. */
static void send_away(Worker *worker)
{
#if defined(__linux__) && defined(CPU_CLR)
    cpu_set_t others;
    if (worker->sent_away
        || pthread_getaffinity_np(worker->thread, sizeof(others), &worker->processors))
        return;
    others = worker->processors;
    CPU_CLR(sched_getcpu(), &others);
    if (CPU_COUNT(&others))
        worker->sent_away = !pthread_setaffinity_np(worker->thread, sizeof(others), &others);
#else
    (void)worker;
#endif
}

static void free_to_move(Worker *worker)
{
#if defined(__linux__) && defined(CPU_CLR)
    if (worker->sent_away)
        pthread_setaffinity_np(worker->thread, sizeof(cpu_set_t), &worker->processors);
    worker->sent_away = 0;
#else
    (void)worker;
#endif
}

static void *worker(void *number)
{
    const int thread = (int)(intptr_t)number;
    Worker *self = &team.worker[thread];
    int seen = 0;
    for (;;) {
        int ticket;
        for (int spins = 0; (ticket = atomic_load_explicit(&team.ticket, memory_order_acquire)) == seen; spins++) {
            if (spins < SPINS_BEFORE_SLEEP) {
                relax();
                continue;
            }
            pthread_mutex_lock(&team.sleep);
            team.sleepers++;
            self->asleep = 1;
            while (atomic_load(&team.ticket) == seen) pthread_cond_wait(&team.wake, &team.sleep);
            self->asleep = 0;
            team.sleepers--;
            pthread_mutex_unlock(&team.sleep);
            free_to_move(self);
        }
        seen = ticket;
        /* The ticket alone says who takes part: the other fields are stable only for those who do. */
        int threads = ticket % MOST_THREADS + 1;
        if (thread < threads) {
            run_flushing_denormals(team.work, team.argument, thread, threads);
            atomic_fetch_sub_explicit(&team.running, 1, memory_order_release);
        }
    }
    return NULL;
}

static void after_fork(void)
{
    team.forked = 1;
}

/* As many workers as can be had, at most threads - 1. */
static int team_grow(int threads)
{
    static int registered = 0;
    if (!registered) {
        pthread_atfork(NULL, NULL, after_fork);
        registered = 1;
    }
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    while (team.workers < threads - 1) {
        int thread = team.workers + 1;
        if (pthread_create(&team.worker[thread].thread, &detached, worker, (void *)(intptr_t)thread))
            break;
        team.workers++;
    }
    pthread_attr_destroy(&detached);
    return team.workers + 1 < threads ? team.workers + 1 : threads;
}

/* Runs work(argument, thread, threads) on `threads` threads at most, the caller being thread 0. */
static void run_region(region work, void *argument, int threads)
{
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads <= 1 || team.forked || pthread_mutex_trylock(&team.busy)) {
        run_flushing_denormals(work, argument, 0, 1);
        return;
    }
    threads = team_grow(threads);
    team.work = work;
    team.argument = argument;
    atomic_store_explicit(&team.running, threads - 1, memory_order_relaxed);
    int number = atomic_load_explicit(&team.ticket, memory_order_relaxed) / MOST_THREADS + 1;
    if (number > INT32_MAX / MOST_THREADS - 1) number = 1;
    pthread_mutex_lock(&team.sleep);
    atomic_store(&team.ticket, number * MOST_THREADS + threads - 1);
    if (team.sleepers) {
        for (int k = 1; k < threads; k++)
            if (team.worker[k].asleep) send_away(&team.worker[k]);
        pthread_cond_broadcast(&team.wake);
    }
    pthread_mutex_unlock(&team.sleep);
    run_flushing_denormals(work, argument, 0, threads);
    for (int spins = 0; atomic_load_explicit(&team.running, memory_order_acquire); spins++) {
        if (spins < SPINS_BEFORE_YIELD) relax();
        else sched_yield();
    }
    pthread_mutex_unlock(&team.busy);
}

#endif
