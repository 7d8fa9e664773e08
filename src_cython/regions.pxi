# Who runs beside whom, and the doors for Python.

# The directions of a layer run side by side where there are threads for both, unless these had
# better share each direction's units.

ctypedef void (*task_kernel)(Work* work, int thread, int threads) noexcept nogil

cdef struct Directions:
    Work* work[2]
    int count
    bint side_by_side
    task_kernel kernel


cdef void directions_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Directions* directions = <Directions*>argument
    cdef int d
    if directions.side_by_side and threads >= 2:
        d = thread % 2
        directions.kernel(directions.work[d], thread // 2, (threads + 1 - d) // 2)
    else:
        for d in range(directions.count):
            directions.kernel(directions.work[d], thread, threads)


cdef ptrdiff_t work_of(const Work* work) noexcept nogil:
    # Multiply-adds of a forward pass.
    cdef ptrdiff_t inputs = work.input.x.depth * work.input.x.parts if work.input.tokens == NULL else 0
    return work.batch.offset[work.batch.steps] * work.layer.z.gates * work.layer.z.units * (
        max(work.layer.depth, <ptrdiff_t>COST_OF_A_MOVE) + inputs)


cdef int run_directions(list tasks, task_kernel kernel, int threads) except -1:
    cdef Directions directions
    cdef Task task
    cdef Work* work = NULL
    cdef bint shared = False
    cdef ptrdiff_t multiply_adds = 0
    directions.count = length_of(tasks, 2)
    directions.kernel = kernel
    for d in range(directions.count):
        task = task_of(tasks[d])
        work = &task.work
        memset(&work.barrier, 0, sizeof(Barrier))
        directions.work[d] = work
        multiply_adds += work_of(work)
        shared = shared or work.batch.running > 1 or shares_units(work, work.batch.running, threads)
    directions.side_by_side = directions.count == 2 and not splits_weights(work, threads)
    if not shared and directions.count == 1:
        threads = 1
    with nogil:
        run_region(directions_region, &directions, worthwhile(threads, multiply_adds))
    return 0


# The layers of a stack side by side, each a chunk of steps behind the one below.

cdef struct Wavefront:
    Work* work[MOST_LAYERS]
    atomic_int done[MOST_LAYERS]    # chunks that each layer has finished
    int count
    ptrdiff_t steps                 # a chunk


cdef void wavefront_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Wavefront* wave = <Wavefront*>argument
    cdef Split alone
    cdef ptrdiff_t low = 0, high
    cdef int chunk = 0, k, layer
    while low < wave.work[0].batch.steps:
        high = min(low + wave.steps, wave.work[0].batch.steps)
        for k in range((wave.count - thread + threads - 1) // threads):
            layer = thread + k * threads
            if layer > 0:
                wait_until_above(&wave.done[layer - 1], chunk)
            alone = split_team(wave.work[layer], wave.work[layer].batch.running, 0, 1)
            forward_steps(wave.work[layer], low, high, &alone, 0, 1)
            raise_to(&wave.done[layer], chunk + 1)
        low = high
        chunk += 1


cdef int set_wavefront(Wavefront* wave, list tasks, int threads) except -1:
    # Returns how many threads are worth having.
    cdef Task task
    cdef ptrdiff_t multiply_adds = 0
    memset(wave, 0, sizeof(Wavefront))
    wave.count = length_of(tasks, MOST_LAYERS)
    for k in range(wave.count):
        task = task_of(tasks[k])
        wave.work[k] = &task.work
        multiply_adds += work_of(&task.work)
    return worthwhile(min(threads, wave.count), multiply_adds)


def forward_wavefront(list tasks, int threads):
    """Run a stack of layers of one direction, the layers side by side."""
    cdef Wavefront wave
    threads = set_wavefront(&wave, tasks, threads)
    # Short chunks fill the pipeline soon; four rows at least share each pass over the weights.
    wave.steps = max(<ptrdiff_t>4, min(forward_chunk(wave.work[0]), wave.work[0].batch.steps // 16))
    for k in range(wave.count):
        wave.steps = min(wave.steps, forward_chunk(wave.work[k]))
    with nogil:
        run_region(wavefront_region, &wave, threads)


def forward(list tasks, int threads):
    """Run the directions of one layer over a batch."""
    run_directions(tasks, forward_task, threads)


# A stack from the top, each layer a chunk behind the one above.

cdef void backward_wavefront_region(void* argument, int thread, int threads) noexcept nogil:
    cdef Wavefront* wave = <Wavefront*>argument
    cdef int chunk, k, layer
    for chunk in range(<int>count_chunks(wave.work[0])):
        for k in range((wave.count - thread + threads - 1) // threads):
            layer = thread + k * threads
            if layer > 0:
                wait_until_above(&wave.done[layer - 1], chunk)
            run_back_chunk(wave.work[layer], chunk, 0, 1)
            raise_to(&wave.done[layer], chunk + 1)


def backward_wavefront(list tasks, int threads):
    """Run a stack of layers of one direction backward, the top one first in `tasks`."""
    cdef Wavefront wave
    threads = set_wavefront(&wave, tasks, threads)
    with nogil:
        run_region(backward_wavefront_region, &wave, threads)


def backward_chunks(Task task not None):
    """Chunks of the backward pass."""
    return count_chunks(&task_of(task).work)


def backward(list tasks, int threads):
    """Run the directions of one layer backward; z is overwritten with its gradients."""
    run_directions(tasks, backward_task, threads)


# The team, see patience.h.

def borrow(size_t parallel, size_t place, size_t count, size_t most):
    """Have this thread's regions run on threads of OpenMP, or again on the team's own.

    Addresses of its GOMP_parallel, omp_get_thread_num, omp_get_num_threads, omp_get_max_threads, or
    zeros.
    """
    lent.parallel, lent.place = <void*>parallel, <void*>place
    lent.count, lent.most = <void*>count, <void*>most


def share_always(bint always):
    """Have regions run on as many threads as are asked for, however busy the processors are."""
    team.steadfast = always


def team_state():
    """In how many regions a thread was put aside, how many got fewer threads since, the most that
    one gets now (0: all that it asks for), and whether it is a child of fork, which has one."""
    return team.stalls, team.spared, team.limit, bool(team.forked)
