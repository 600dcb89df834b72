/*
 * A thread that is to be cancelled is in the middle of a producer's calls: it ends after them and not within, so that
 * nothing stays taken. Every later fork would wait for what a thread that is gone had taken.
 */
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring_for_test.h"

enum { PATIENCE_SECONDS = 30 };

static const char *directory;
static rb_config config;
static rb_producer *producer;
static char path[RB_MAX_PATH_BYTES];

static void open_it(void) { open_ring(producer, &config, path); }

static void find_doorbell(void) { assert(rb_find_doorbell(producer, directory) == RB_OK); }

static void make_ids(void)
{
    uint8_t trace_id[16], span_id[8];
    rb_producer *fresh = new_producer(); /* whose seeds are asked for now */
    rb_new_ids(fresh, trace_id, span_id);
    rb_producer_free(fresh);
}

static void look(void)
{
    rb_producer_stats stats;
    assert(rb_stats(producer, &stats) == RB_OK);
}

static void close_it(void) { assert(rb_close(producer) == RB_OK); }

static void (*const calls[])(void) = {open_it, find_doorbell, make_ids, look, close_it};
static int returned;

static void *be_cancelled(void *call)
{
    int state;
    assert(pthread_cancel(pthread_self()) == 0);
    (*(void (*const *)(void))call)();
    assert(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state) == 0 && state == PTHREAD_CANCEL_ENABLE);
    returned = 1;
    for (;;)
        pthread_testcancel();
    return NULL;
}

static void fork_once(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    assert(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

int main(void)
{
    char doorbell[RB_MAX_PATH_BYTES];
    rb_error error;
    rb_doorbell *bell = NULL;
    directory = make_directory("cancelled");
    config = ring_config(directory, 4);
    producer = new_producer();
    snprintf(doorbell, sizeof doorbell, "%s/doorbell", directory);
    alarm(PATIENCE_SECONDS); /* a fork that hangs must not hang the test */
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        pthread_t thread;
        void *result;
        returned = 0;
        assert(pthread_create(&thread, NULL, be_cancelled, (void *)&calls[i]) == 0);
        assert(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        assert(returned);
        fork_once();
        if (bell == NULL)
            assert(rb_doorbell_open(doorbell, 0600, &bell, &error) == RB_OK);
    }
    rb_doorbell_free(bell);
    assert(unlink(doorbell) == 0);
    remove_ring(producer, path);
    assert(rmdir(directory) == 0);
    return 0;
}
