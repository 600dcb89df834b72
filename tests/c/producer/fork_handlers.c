/*
 * Fork handlers that came before the library's run within it: before a fork after ours, which has taken what makers of
 * rings take, and after it before ours gives that back. They make rings all the same, and wait for threads that do:
 * neither keeps fork from its end, and no child inherits one.
 */
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring_for_test.h"

enum where { BEFORE, PARENT, CHILD, PLACES };

static const char *directory;
static rb_config config;
static rb_producer *producers[PLACES];
static char paths[PLACES][RB_MAX_PATH_BYTES];
static int at_work;
static int by_thread;

static void make_one(enum where place)
{
    rb_error error;
    if (at_work)
        assert(rb_open(producers[place], &config, paths[place], &error) == RB_OK);
}

/* A thread that makes a ring while fork waits for it: it is refused, as that ring could be inherited. */
static void *make_beside(void *argument)
{
    char path[RB_MAX_PATH_BYTES];
    rb_error error;
    rb_producer *mine = new_producer();
    (void)argument;
    by_thread = rb_open(mine, &config, path, &error);
    rb_producer_free(mine);
    return NULL;
}

static void before_fork(void)
{
    pthread_t thread;
    make_one(BEFORE);
    if (at_work) {
        assert(pthread_create(&thread, NULL, make_beside, NULL) == 0);
        assert(pthread_join(thread, NULL) == 0);
    }
}

static void in_parent(void) { make_one(PARENT); }

static void in_child(void) { make_one(CHILD); }

/* Before the library's constructor, which has no number. */
static __attribute__((constructor(101))) void be_first(void)
{
    assert(pthread_atfork(before_fork, in_parent, in_child) == 0);
}

static int emits(rb_producer *producer)
{
    rb_record record;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    record.flags = RB_SPAN_SAMPLED;
    return rb_emit(producer, &record);
}

/* The child's exit status. Its own ring is removed by it. */
static int be_child(void)
{
    if (emits(producers[BEFORE]) != RB_NO_RING)
        return 1;
    if (emits(producers[CHILD]) != 1)
        return 2;
    return unlink(paths[CHILD]) == 0 ? 0 : 3;
}

int main(void)
{
    directory = make_directory("fork_handlers");
    config = ring_config(directory, 4);
    for (unsigned i = 0; i < PLACES; i++)
        producers[i] = new_producer();
    at_work = 1;
    pid_t pid = fork();
    at_work = 0;
    if (pid == 0)
        _exit(be_child());
    int status;
    assert(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert(status == 0);
    assert(by_thread == RB_BUSY);
    for (enum where place = BEFORE; place < CHILD; place++) {
        assert(emits(producers[place]) == 1);
        int fd = open(paths[place], O_RDWR | O_CLOEXEC);
        assert(fd >= 0 && rb_producer_alive(fd) == 1);
        rb_producer_free(producers[place]);
        assert(rb_producer_alive(fd) == 0); /* nobody else has it mapped */
        assert(close(fd) == 0 && unlink(paths[place]) == 0);
    }
    rb_producer_free(producers[CHILD]);
    assert(rmdir(directory) == 0);
    return 0;
}
