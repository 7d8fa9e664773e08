/* How long threads wait for each other, and what they make of it.
 *
 * A thread that has waited for a moment looks whether those it waits for are running. If the system
 * has put one of them aside for somebody else's work, it sleeps instead of spinning, which frees its
 * processor for that thread; and the regions after this one run with a thread less, down to one: a
 * stall. Regions take more threads again when a probe has found a processor idle for a while: a thread
 * of the lowest priority, which gets no time where anybody else wants it, so that it costs nobody any.
 */
#ifndef RNNCORE_PATIENCE_H
#define RNNCORE_PATIENCE_H

#include <sched.h>

#include "simd.h"
#include "system.h"

#define MOST_THREADS 64
#define QUICK_SPINS 1000            /* before anybody looks at a clock */

/* All in nanoseconds. */
#define IDLE_SPIN 200000            /* of a worker without a region, before it sleeps */
#define LOOK_AFTER 100000           /* of waiting, whether the others are running */
#define LATE 1000000                /* for a sleeper that was called */
#define NAP 1000000                 /* at most, before a sleeper looks again by itself */
#define PROBE_DELAY 300000          /* until a probe runs, at most, on an idle processor */
#define QUIET 2000000               /* of an idle processor, before regions take more threads */
#define STALL 1000000               /* of waiting for threads put aside, beyond ... */
#define FORGIVEN 5                  /* ... a fifth of the time that the regions took */
#define MOST_QUIET 32000000         /* ... twice as long each time that these stall within ... */
#define SOON 100000000              /* ... this time */
#define PROBE_AGAIN 20000000        /* after a probe that found none */
#define REST 50000000               /* after a stall, where there are no probes */

INLINE void relax(void)
{
#if defined(__SSE2__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

typedef struct {
    _Alignas(64) atomic_int ticket; /* the number of the region that it shall run */
    atomic_int asleep;              /* without a region */
    _Alignas(64) atomic_int finished; /* the number of the last region that it has run */
    atomic_int waiting;             /* asleep within a region, for others of it */
    atomic_int has_clock;           /* the clock is that of the thread that runs as this member */
    atomic_int clock;               /* of processor time */
    pthread_t thread;               /* of the team's own, where there is one */
#if defined(__linux__) && defined(CPU_CLR)
    int sent_away;                  /* from the caller's processor; freed again when it has woken */
    cpu_set_t processors;           /* that it may use */
#endif
} Member;

static struct {
    pthread_mutex_t busy;           /* held by the caller whose region the team runs */
    int forked;
    int workers;                    /* threads that exist beside the caller */
    void (*work)(void *argument, int thread, int threads);
    void *argument;
    int threads;                    /* of this region */
    int number;                     /* of this region */
    atomic_int steadfast;           /* regions get the threads that they ask for, come what may */
    atomic_int limit;               /* most threads that a region gets; 0: there is none */
    atomic_long stalls;             /* regions in which a thread was put aside */
    atomic_long spared;             /* regions that got fewer threads for that reason */
    int64_t next_probe;             /* when */
    int64_t raised;                 /* when regions last got more threads */
    int64_t waits;                  /* nanoseconds that are not forgiven yet */
    int64_t began;                  /* when this region did */
    int64_t quiet;                  /* nanoseconds that the probes have found since it was not */
    int64_t probed;                 /* nanoseconds of the region that the last probe was for */
    int has_prober;
    _Alignas(64) atomic_int sleepers; /* members asleep within the region */
    atomic_llong waited;            /* in this region, for threads put aside: the longest of all */
    _Alignas(64) atomic_int probe;  /* the number of the region to probe in; 0: of none */
    atomic_int blind;               /* there are no probes */
    atomic_llong probe_began;
    atomic_llong needed;            /* nanoseconds that probes have to find for more threads */
    atomic_llong found;             /* nanoseconds of an idle processor in a region, or NONE */
    Member member[MOST_THREADS];    /* the caller is member[0] */
} team = {.busy = PTHREAD_MUTEX_INITIALIZER};

#define NONE (-1)

static _Thread_local int team_place; /* of this thread in the team */

/* Counters may wrap around. */
INLINE int after(int value) { return (int)((unsigned)value + 1); }
INLINE int before(int value) { return (int)((unsigned)value - 1); }

INLINE int is_above(atomic_int *counter, int value)
{
    return (int)((unsigned)atomic_load_explicit(counter, memory_order_acquire) - (unsigned)value) > 0;
}

/* Whether the counter came above the value within some nanoseconds. */
static int spin_until_above(atomic_int *counter, int value, int64_t most)
{
    int64_t began = nanoseconds(CLOCK_MONOTONIC);
    do {
        for (int spins = 0; spins < 64; spins++) {
            if (is_above(counter, value)) return 1;
            relax();
        }
    } while (nanoseconds(CLOCK_MONOTONIC) - began < most);
    return 0;
}

/* The calling thread is this member from now on. */
static void take_place(int place)
{
    team_place = place;
#if defined(__linux__)
    clockid_t clock;
    if (pthread_getcpuclockid(pthread_self(), &clock)) return;
    atomic_store(&team.member[place].clock, (int)clock);
    atomic_store(&team.member[place].has_clock, 1);
#endif
}

/* Processor time that a member has used; -1 where the system does not say. */
static int64_t time_used(Member *member)
{
    return atomic_load(&member->has_clock) ? nanoseconds((clockid_t)atomic_load(&member->clock)) : -1;
}

/* Whether it ought to be running: it has not finished and is not asleep; but for one that was called
 * and is late. */
static int is_wanted(int place, int64_t waited)
{
    Member *member = &team.member[place];
    return place != team_place && !atomic_load(&member->waiting)
        && !(place > 0 && atomic_load(&member->finished) == team.number)
        && !(atomic_load(&member->asleep) && waited < LATE);
}

/* Waits for a moment, asleep or spinning, and returns how long one of the others was put aside then. */
static int64_t wait_for_a_moment(atomic_int *counter, int value, int sleeps, int64_t waited)
{
    int64_t used[MOST_THREADS], began = nanoseconds(CLOCK_MONOTONIC), aside = 0, time;
    for (int k = 0; k < team.threads; k++)
        used[k] = is_wanted(k, waited) ? time_used(&team.member[k]) : -1;
    if (!sleeps) {
        spin_until_above(counter, value, LOOK_AFTER);
    } else {
        atomic_store(&team.member[team_place].waiting, 1);
        atomic_fetch_add(&team.sleepers, 1);
        int seen = atomic_load(counter);
        if (!is_above(counter, value)) block(counter, seen, NAP);
        atomic_fetch_sub(&team.sleepers, 1);
        atomic_store(&team.member[team_place].waiting, 0);
    }
    time = nanoseconds(CLOCK_MONOTONIC) - began;
    for (int k = 0; k < team.threads; k++) {
        if (used[k] < 0 || atomic_load(&team.member[k].waiting)) continue;
        int64_t idle = time - (time_used(&team.member[k]) - used[k]);
        if (idle > aside) aside = idle;
    }
#if !defined(__linux__)
    if (waited >= LATE) aside = time;
#endif
    return time >= LOOK_AFTER && aside > time / 2 ? aside : 0;
}

static __attribute__((noinline)) void wait_patiently(atomic_int *counter, int value)
{
    int64_t began = nanoseconds(CLOCK_MONOTONIC), aside = 0, sum = 0;
    while (!is_above(counter, value)) {
        aside = wait_for_a_moment(counter, value, aside > 0, nanoseconds(CLOCK_MONOTONIC) - began);
        sum += aside;
    }
    long long most = atomic_load(&team.waited);
    while (sum > most && !atomic_compare_exchange_weak(&team.waited, &most, sum)) continue;
}

/* A counter that one thread raises and others wait for. A sleeper that is overlooked, because it was
 * just falling asleep, has not to wait longer than NAP. */
INLINE void raise_to(atomic_int *counter, int value)
{
    atomic_store_explicit(counter, value, memory_order_release);
    if (__builtin_expect(atomic_load_explicit(&team.sleepers, memory_order_relaxed), 0)) wake(counter);
}

INLINE void wait_until_above(atomic_int *counter, int value)
{
    for (int spins = 0; spins < QUICK_SPINS; spins++) {
        if (is_above(counter, value)) return;
        relax();
    }
    wait_patiently(counter, value);
}

static void *prober(void *unused)
{
    (void)unused;
#if defined(__linux__) && defined(SCHED_IDLE) && !defined(RNNCORE_PORTABLE_THREADS)
    struct sched_param nothing = {0};
    if (!sched_setscheduler(0, SCHED_IDLE, &nothing)) {
        for (int seen = 0, region;;) {
            if ((region = atomic_load(&team.probe)) == seen || region == 0) {
                block(&team.probe, region, FOREVER);
                continue;
            }
            seen = region;
            int64_t began = nanoseconds(CLOCK_MONOTONIC), now = began;
            int64_t used = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
            int late = began - atomic_load(&team.probe_began) > PROBE_DELAY;
            long long nothing = 0;
            /* It runs; for how long is known when it is over, which may be after the region. */
            if (!late) atomic_compare_exchange_strong(&team.found, &nothing, 1);
            while (!late && now - began < atomic_load(&team.needed)
                   && atomic_load(&team.probe) == region) {
                for (int spins = 0; spins < 64; spins++) relax();
                now = nanoseconds(CLOCK_MONOTONIC);
            }
            used = nanoseconds(CLOCK_THREAD_CPUTIME_ID) - used;
            atomic_store(&team.found, late || used < (now - began) * 9 / 10 ? NONE : now - began);
        }
    }
#endif
    atomic_store(&team.blind, 1);
    return NULL;
}

static void begin_probe(int64_t now)
{
    pthread_t thread;
    if (!team.has_prober) {
        team.has_prober = 1;
        if (start_thread(&thread, prober, NULL)) atomic_store(&team.blind, 1);
    }
    if (atomic_load(&team.blind) || now < team.next_probe) return;
    atomic_store(&team.probe_began, now);
    atomic_store(&team.probe, team.number);
    wake(&team.probe);
}

/* Returns how many threads a region gets that asks for more than one. Its number is set. */
static int begin_region(int threads)
{
    int64_t now = team.began = nanoseconds(CLOCK_MONOTONIC), found;
    take_place(0);
    if (team.limit == 0 || team.steadfast) return threads;
    found = atomic_exchange(&team.found, 0);
    if (found == NONE || (found == 0 && team.probed > PROBE_DELAY)) {
        team.quiet = 0;
        team.next_probe = atomic_load(&team.probe_began) + PROBE_AGAIN;
    } else {
        team.quiet += found;
    }
    team.probed = 0;
    if (team.quiet >= team.needed || (atomic_load(&team.blind) && now >= team.next_probe)) {
        team.limit *= 2;
        team.quiet = 0;
        team.next_probe = team.raised = now;
        if (team.limit >= threads) team.limit = 0;
    }
    if (team.limit == 0 || team.limit >= threads) return threads;
    team.spared++;
    begin_probe(now);
    return team.limit;
}

static void end_region(void)
{
    if (atomic_load_explicit(&team.probe, memory_order_relaxed)) {
        team.probed = nanoseconds(CLOCK_MONOTONIC) - atomic_load(&team.probe_began);
        atomic_store(&team.probe, 0);
    }
    int64_t waited = atomic_load_explicit(&team.waited, memory_order_relaxed);
    if (!waited && !team.waits) return;
    int64_t now = nanoseconds(CLOCK_MONOTONIC);
    atomic_store(&team.waited, 0);
    team.waits += waited - (now - team.began) / FORGIVEN;
    if (team.waits < 0) team.waits = 0;
    if (team.waits < STALL) return;
    team.waits = 0;
    team.stalls++;
    if (team.steadfast) return;
    team.limit = team.threads > 2 ? team.threads - 1 : 1;
    team.quiet = 0;
    int64_t needed = atomic_load(&team.needed);
    atomic_store(&team.needed, now - team.raised > SOON ? QUIET
        : needed < MOST_QUIET ? 2 * needed : MOST_QUIET);
    team.next_probe = now + (atomic_load(&team.blind) ? REST : 0);
}

#endif
