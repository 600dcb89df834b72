/*
 * Signals that come while a ring is made, replaced, looked at or closed: their handlers emit, and fork, and every
 * attempt is counted. While the ring's memory is reserved none comes, since each would make the kernel begin again.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring_for_test.h"

enum { ROUNDS = 20, RINGS = 20, CAPACITY = 256, INTERRUPTIONS = 3 };

static rb_producer *producer;
static rb_record record;
static volatile sig_atomic_t is_reserving, handled, forked;
static sig_atomic_t handled_before; /* this producer was there */
static unsigned interruptions;

/* In place of libc's: interrupted some times, as by a stop, and with a signal under way. */
int posix_fallocate(int fd, off_t offset, off_t bytes)
{
    is_reserving = 1;
    raise(SIGUSR1);
    is_reserving = 0;
    if (++interruptions % (INTERRUPTIONS + 1) != 0)
        return EINTR;
    return fallocate(fd, 0, offset, bytes) == 0 ? 0 : errno;
}

static void on_alarm(int signal_number)
{
    (void)signal_number;
    int rv = rb_emit(producer, &record);
    assert(rv == 0 || rv == 1 || rv == RB_NO_RING);
    if (rv == RB_NO_RING)
        rb_count_local(producer, 1);
    handled++;
}

#ifdef __SANITIZE_THREAD__ /* which allocates where a handler forks, and complains of that */
static void fork_here(void) {}
#else
static void fork_here(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(rb_emit(producer, &record) == RB_NO_RING ? 0 : 1);
    int status;
    while (waitpid(pid, &status, 0) < 0)
        assert(errno == EINTR);
    assert(status == 0);
}
#endif

static void on_fork(int signal_number)
{
    (void)signal_number;
    assert(!is_reserving);
    fork_here();
    forked++;
}

static void handle(int signal_number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    assert(sigaction(signal_number, &action, NULL) == 0);
}

static void live(const char *directory)
{
    char path[RB_MAX_PATH_BYTES];
    rb_producer_stats stats;
    uint64_t attempts = 0;
    rb_config config = ring_config(directory, CAPACITY);
    for (unsigned ring = 0; ring < RINGS; ring++) {
        open_ring(producer, &config, path);
        for (unsigned i = 0; i < CAPACITY; i++, attempts++) {
            int rv = rb_emit(producer, &record);
            assert(rv == 0 || rv == 1);
        }
        assert(rb_stats(producer, &stats) == RB_OK);
        assert(unlink(path) == 0);
    }
    assert(rb_close(producer) == RB_OK);
    assert(rb_emit(producer, &record) == 0);
    attempts++;
    /* A handler that comes before rb_stats is counted by both, and one that comes after it by neither. */
    sigset_t alarms, before;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    sigprocmask(SIG_BLOCK, &alarms, &before);
    assert(rb_stats(producer, &stats) == RB_OK);
    uint64_t by_handler = (uint64_t)(handled - handled_before);
    assert(stats.published + stats.full + stats.contended + stats.local == attempts + by_handler);
    rb_producer *over = producer;
    producer = new_producer();
    handled_before = handled;
    sigprocmask(SIG_SETMASK, &before, NULL);
    rb_producer_free(over);
}

int main(void)
{
    const char *directory = make_directory("interrupted");
    struct itimerval often = {.it_interval = {.tv_usec = 100}, .it_value = {.tv_usec = 100}};
    struct itimerval never = {.it_interval = {.tv_usec = 0}, .it_value = {.tv_usec = 0}};
    record.trace_id[0] = record.span_id[0] = 1;
    record.flags = RB_SPAN_SAMPLED;
    producer = new_producer();
    handle(SIGALRM, on_alarm);
    handle(SIGUSR1, on_fork);
    assert(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (unsigned round = 0; round < ROUNDS; round++)
        live(directory);
    assert(setitimer(ITIMER_REAL, &never, NULL) == 0);
    printf("%u rings, %d forks and %d spans by handlers\n", ROUNDS * RINGS, (int)forked, (int)handled);
    assert(interruptions == ROUNDS * RINGS * (INTERRUPTIONS + 1));
    assert(forked >= ROUNDS * RINGS && handled > 0);
    rb_producer_free(producer);
    assert(rmdir(directory) == 0);
    return 0;
}
