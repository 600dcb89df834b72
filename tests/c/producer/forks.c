/*
 * Forks beside a thread that makes rings and maps doorbells without a pause: no child inherits a mapping of either, as
 * the lock of a dead producer's ring would stay with it, and each child makes a ring of its own at once. A raw clone,
 * of which pthread_atfork never hears, must not wait for what that thread held.
 */
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring_for_test.h"
#include "shared/atomics.h"

enum { FORKS = 300, SPANS = 3, CAPACITY = 1024, PATIENCE_SECONDS = 30 };

static const char *directory;
static char doorbell[RB_MAX_PATH_BYTES];
static rb_config config;
static rb_producer *producer; /* inherited without a ring, which each child makes */
static uint32_t stop;
static uint64_t made;

static void *make_rings(void *argument)
{
    (void)argument;
    while (!rb_load32_acquire(&stop)) {
        char path[RB_MAX_PATH_BYTES];
        rb_producer *mine = new_producer();
        assert(unlink(doorbell) == 0);
        open_ring(mine, &config, path);
        int fd = open(doorbell, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert(fd >= 0 && ftruncate(fd, RB_PAGE_BYTES) == 0 && close(fd) == 0);
        assert(rb_find_doorbell(mine, directory) == RB_OK);
        rb_producer_free(mine);
        assert(unlink(path) == 0);
        rb_add_relaxed(&made, 1);
    }
    return NULL;
}

/* 1 where a mapping of a ring or a doorbell is there. Without stdio, whose locks the other thread may have held. */
static int has_inherited(void)
{
    static char maps[1 << 20];
    size_t used = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    assert(fd >= 0);
    for (ssize_t got; (got = read(fd, maps + used, sizeof maps - 1 - used)) > 0;)
        used += (size_t)got;
    close(fd);
    maps[used] = 0;
    return strstr(maps, directory) != NULL;
}

/* The child's exit status. */
static int be_child(void)
{
    char path[RB_MAX_PATH_BYTES];
    rb_error error;
    rb_producer_stats stats;
    rb_record record;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    record.flags = RB_SPAN_SAMPLED;
    if (rb_emit(producer, &record) != RB_NO_RING)
        return 1;
    if (rb_open(producer, &config, path, &error) != RB_OK)
        return 2;
    for (unsigned i = 0; i < SPANS; i++)
        if (rb_emit(producer, &record) != 1)
            return 3;
    if (rb_stats(producer, &stats) != RB_OK || stats.published != SPANS || stats.local != 0)
        return 4;
    return unlink(path) == 0 ? 0 : 5;
}

static void wait_for(pid_t pid, const char *what)
{
    int status;
    assert(pid > 0 && waitpid(pid, &status, 0) == pid);
    if (status != 0) {
        fprintf(stderr, "the child of %s ended with status %x\n", what, (unsigned)status);
        abort();
    }
}

static void fork_once(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        alarm(PATIENCE_SECONDS);
        _exit(has_inherited() ? 6 : be_child());
    }
    wait_for(pid, "fork");
}

/* The sanitizers' own locks do not survive a fork that they never hear of. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
static void clone_once(void) {}
#else
static void clone_once(void)
{
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        alarm(PATIENCE_SECONDS);
        _exit(be_child());
    }
    wait_for(pid, "a raw clone");
}
#endif

int main(void)
{
    pthread_t thread;
    directory = make_directory("forks");
    config = ring_config(directory, CAPACITY);
    snprintf(doorbell, sizeof doorbell, "%s/doorbell", directory);
    int fd = open(doorbell, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert(fd >= 0 && close(fd) == 0);
    producer = new_producer();
    assert(pthread_create(&thread, NULL, make_rings, NULL) == 0);
    for (unsigned i = 0; i < FORKS; i++) {
        fork_once();
        clone_once();
    }
    rb_store32_release(&stop, 1);
    assert(pthread_join(thread, NULL) == 0);
    printf("%u forks beside %llu rings\n", FORKS, (unsigned long long)made);
    assert(made > FORKS / 10); /* else the forks came beside nothing */
    rb_producer_free(producer);
    assert(unlink(doorbell) == 0 && rmdir(directory) == 0);
    return 0;
}
