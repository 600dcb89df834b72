/* A file that may not grow (RLIMIT_FSIZE) is an error, and no SIGXFSZ, which would end the process. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ring_for_test.h"

enum { CAPACITY = 1024 };

static const char *directory;
static volatile sig_atomic_t handled;

static void on_excess(int signal_number)
{
    (void)signal_number;
    handled++;
}

static int is_pending(void)
{
    sigset_t pending;
    assert(sigpending(&pending) == 0);
    return sigismember(&pending, SIGXFSZ);
}

static void grow_both(const char *doorbell)
{
    char path[RB_MAX_PATH_BYTES];
    rb_error error;
    rb_doorbell *bell;
    rb_config config = ring_config(directory, CAPACITY);
    rb_producer *producer = new_producer();
    assert(rb_open(producer, &config, path, &error) == RB_E_SYSTEM && error.os_errno == EFBIG);
    rb_producer_free(producer);
    assert(rb_doorbell_open(doorbell, 0600, &bell, &error) == RB_E_SYSTEM && error.os_errno == EFBIG);
}

int main(void)
{
    char doorbell[RB_MAX_PATH_BYTES];
    struct rlimit limit;
    sigset_t excess, before;
    directory = make_directory("file_limit");
    snprintf(doorbell, sizeof doorbell, "%s/doorbell", directory);
    assert(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    struct rlimit small = {.rlim_cur = RB_PAGE_BYTES / 2, .rlim_max = limit.rlim_max};
    assert(setrlimit(RLIMIT_FSIZE, &small) == 0);

    grow_both(doorbell); /* where the signal ends the process */
    assert(!is_pending());

    struct sigaction action = {.sa_handler = on_excess};
    assert(sigaction(SIGXFSZ, &action, NULL) == 0);
    grow_both(doorbell);
    assert(handled == 0);

    /* One that was there before is its sender's, and stays. */
    sigemptyset(&excess);
    sigaddset(&excess, SIGXFSZ);
    assert(pthread_sigmask(SIG_BLOCK, &excess, &before) == 0);
    assert(kill(getpid(), SIGXFSZ) == 0);
    grow_both(doorbell);
    assert(is_pending() && handled == 0);

    assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    assert(unlink(doorbell) == 0 && rmdir(directory) == 0);
    return 0;
}
