#include "producer/making.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "producer/patience.h"
#include "producer/producer_state.h"
#include "shared/atomics.h"

/*
 * Who makes a ring or maps a doorbell: the process in the upper half, the thread in the lower; 0: nobody. fork takes it
 * too, as a child forked between mmap and MADV_DONTFORK would inherit the mapping, and with it the lock that says that
 * the producer lives. A child, whatever forked it, finds another process's number here and takes the word as free. (That
 * of a raw clone, which asks nobody, may keep the lock of a ring that was being made just then, until it ends.)
 */
static uint64_t maker;

static uint64_t own_mark(void) { return (uint64_t)getpid() << 32 | (uint32_t)syscall(SYS_gettid); }

/* On little-endian machines, as all here are, the thread's half of the word. */
static uint32_t *maker_thread(void) { return (uint32_t *)(void *)&maker; }

static void wait_for(uint64_t seen, uint64_t nanoseconds)
{
    struct timespec left = {.tv_nsec = (long)(nanoseconds < RB_PATIENCE_NANO ? nanoseconds : RB_PATIENCE_NANO - 1)};
    syscall(SYS_futex, maker_thread(), FUTEX_WAIT_PRIVATE, (uint32_t)seen, &left, NULL, 0);
}

/*
 * 1: taken; 0: it is this thread's already, a fork handler's that runs after ours and whose ring is whole before the
 * fork; RB_BUSY after a second: such a handler waits for us, or the file system hangs.
 */
static int take_making(void)
{
    uint64_t mine = own_mark();
    uint64_t give_up = rb_clock_monotonic_nano() + RB_PATIENCE_NANO;
    for (;;) {
        uint64_t seen = rb_load_relaxed(&maker);
        if (seen == mine)
            return 0;
        if (seen == 0 || seen >> 32 != mine >> 32) {
            if (rb_take_word(&maker, seen, mine))
                return 1;
            continue;
        }
        uint64_t now = rb_clock_monotonic_nano();
        if (now >= give_up)
            return RB_BUSY;
        wait_for(seen, give_up - now);
    }
}

static void free_making(void)
{
    rb_store_release(&maker, 0); /* pairs with rb_take_word() */
    syscall(SYS_futex, maker_thread(), FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* fork goes on after a second without the word, as a raw clone does: it may be a handler of its own that has it. */
static void before_fork(void)
{
    int saved_errno = errno;
    take_making();
    errno = saved_errno;
}

static void after_fork(void)
{
    int saved_errno = errno;
    if (rb_load_relaxed(&maker) == own_mark())
        free_making();
    errno = saved_errno;
}

/* When the library is loaded, since a raw clone beside a pthread_once would leave that under way for ever. */
static __attribute__((constructor)) void guard_forks(void) { pthread_atfork(before_fork, after_fork, NULL); }

/*
 * While a ring is made nothing may come between: a handler that forks would wait for its own thread, signals that keep
 * coming would keep posix_fallocate from its end (those that an instruction itself raises come all the same), and a
 * thread that is cancelled at one of the system calls would keep what it has taken for ever.
 */
static void hold_disturbances(struct rb_making *before)
{
    static const int raised[] = {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t held;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before->cancellation);
    sigfillset(&held);
    for (size_t i = 0; i < sizeof raised / sizeof *raised; i++)
        sigdelset(&held, raised[i]);
    pthread_sigmask(SIG_BLOCK, &held, &before->signals);
}

static void free_disturbances(const struct rb_making *before)
{
    pthread_sigmask(SIG_SETMASK, &before->signals, NULL);
    pthread_setcancelstate(before->cancellation, NULL);
}

static int take(rb_producer *producer)
{
    if (!rb_wipe_in_child(producer) || !rb_try_take(&producer->life))
        return RB_BUSY;
    int taken = take_making();
    if (taken < 0)
        rb_give_back(&producer->life);
    return taken;
}

int rb_begin_making(rb_producer *producer, struct rb_making *making)
{
    hold_disturbances(making);
    making->taken = take(producer);
    return making->taken < 0 ? RB_BUSY : RB_OK;
}

void rb_end_making(rb_producer *producer, const struct rb_making *making)
{
    if (making->taken > 0)
        free_making();
    if (making->taken >= 0)
        rb_give_back(&producer->life);
    free_disturbances(making);
}
