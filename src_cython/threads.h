/* The team: threads that run one function together, and the barrier between their steps.
 *
 * One region a sequence, never one a step. A region gives the same bits for any number of threads, so
 * how many run it is decided anew each time: see patience.h. Between regions the workers spin for a
 * moment, then sleep. When the team is busy (another Python thread is in a region) or the process is a
 * child of fork, the caller runs the region alone. A caller who has threads already, as those of an
 * OpenMP program are, may lend them: workers would wait for the processors on which these spin.
 */
#ifndef RNNCORE_THREADS_H
#define RNNCORE_THREADS_H

#include "mode.h"
#include "patience.h"

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

INLINE void barrier_wait(Barrier *barrier, int thread, int threads)
{
    if (threads == 1) return;
    int round = atomic_load_explicit(&barrier->thread[thread].round, memory_order_relaxed);
    raise_to(&barrier->thread[thread].round, round + 1);
    for (int k = 0; k < threads; k++) wait_until_above(&barrier->thread[k].round, round);
}

static void run_in_mode(region work, void *argument, int thread, int threads)
{
    float_mode mode = enter_kernels();
    work(argument, thread, threads);
    finish_stores();
    leave_kernels(mode);
}

/* Systems like to wake a thread on the processor of the one that wakes it, where it would wait for
 * the caller, who waits for it. So a sleeper is sent to the others before it gets its
 * ticket: until then it stays in its bed, and what is written here is the caller's alone. */
static void send_away(Member *worker)
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

static void free_to_move(Member *worker)
{
#if defined(__linux__) && defined(CPU_CLR)
    if (worker->sent_away)
        pthread_setaffinity_np(worker->thread, sizeof(cpu_set_t), &worker->processors);
    worker->sent_away = 0;
#else
    (void)worker;
#endif
}

static int wait_for_ticket(Member *self, int seen)
{
    int ticket;
    if (spin_until_above(&self->ticket, seen, IDLE_SPIN))
        return atomic_load_explicit(&self->ticket, memory_order_acquire);
    atomic_store(&self->asleep, 1);
    while ((ticket = atomic_load(&self->ticket)) == seen) block(&self->ticket, seen, FOREVER);
    atomic_store(&self->asleep, 0);
    free_to_move(self);
    return ticket;
}

static void *worker(void *number)
{
    Member *self = &team.member[(intptr_t)number];
    for (int seen = 0;;) {
        seen = wait_for_ticket(self, seen);
        take_place((int)(intptr_t)number);
        run_in_mode(team.work, team.argument, team_place, team.threads);
        raise_to(&self->finished, seen);
    }
    return NULL;
}

/* In the child, where nobody sleeps any more. */
static void after_fork(void)
{
    team.forked = 1;
    atomic_store(&team.sleepers, 0);
}

static void expect_fork(void)
{
    static int registered = 0;
    if (!registered) pthread_atfork(NULL, NULL, after_fork);
    registered = 1;
}

/* As many workers as can be had, at most threads - 1. */
static int team_grow(int threads)
{
    while (team.workers < threads - 1) {
        int thread = team.workers + 1;
        if (start_thread(&team.member[thread].thread, worker, (void *)(intptr_t)thread)) break;
        team.workers++;
    }
    return team.workers + 1 < threads ? team.workers + 1 : threads;
}

static void call_workers(int number)
{
    for (int k = 1; k < team.threads; k++) {
        Member *worker = &team.member[k];
        /* What it finished may be so long ago that it seems to lie ahead. */
        if (is_above(&worker->finished, before(number))) atomic_store(&worker->finished, before(number));
        if (atomic_load(&worker->asleep)) send_away(worker);
        atomic_store(&worker->ticket, number);
        if (atomic_load(&worker->asleep)) wake(&worker->ticket);
    }
}

/* Threads that are lent, by the functions of OpenMP's library: run(lender) on so many of them, and what
 * each of them may ask. Of the calling thread's regions; NULL: they run on the team's own. */
typedef struct {
    void (*parallel)(void (*run)(void *), void *argument, unsigned threads, unsigned flags);
    int (*place)(void);
    int (*count)(void);
    int (*most)(void);
} Lent;
static _Thread_local Lent lent;

static void run_borrowed(void *lender)
{
    const Lent *by = lender;
    int place = by->place();
    take_place(place);
    run_in_mode(team.work, team.argument, place, by->count());
    if (place) raise_to(&team.member[place].finished, team.number);
    team_place = 0;
}

static void call_lent(void)
{
    for (int k = 1; k < team.threads; k++) {
        atomic_store(&team.member[k].has_clock, 0);
        atomic_store(&team.member[k].finished, before(team.number));
    }
    lent.parallel(run_borrowed, &lent, team.threads, 0);
}

/* Runs work(argument, thread, threads) on `threads` threads at most, the caller being thread 0. */
static void run_region(region work, void *argument, int threads)
{
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (lent.parallel && lent.most() < threads) threads = lent.most();
    if (threads <= 1 || team.forked || pthread_mutex_trylock(&team.busy)) {
        run_in_mode(work, argument, 0, 1);
        return;
    }
    team.work = work;
    team.argument = argument;
    team.number = after(team.number == -1 ? 0 : team.number);   /* 0 is none */
    expect_fork();
    team.threads = begin_region(threads);
    if (lent.parallel) {
        call_lent();
    } else {
        team.threads = team_grow(team.threads);
        call_workers(team.number);
        run_in_mode(work, argument, 0, team.threads);
        for (int k = 1; k < team.threads; k++)
            wait_until_above(&team.member[k].finished, before(team.number));
    }
    end_region();
    pthread_mutex_unlock(&team.busy);
}

#endif
