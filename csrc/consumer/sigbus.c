#include "consumer/sigbus.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>

#include "ringbuf.h"
#include "shared/atomics.h"

struct guarded {
    uintptr_t base;
    uint64_t bytes; /* 0: this thread touches no ring */
    uint32_t *mark;
    int takes_signal;
};

/* initial-exec: a signal handler must not be the first to allocate a thread's copy. */
static _Thread_local struct guarded guarded __attribute__((tls_model("initial-exec")));
static struct sigaction previous;
static uint32_t wanted; /* rb_guard_install was called */

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    uintptr_t at = (uintptr_t)info->si_addr;
    (void)context;
    if (guarded.bytes > 0 && at - guarded.base < guarded.bytes &&
        mmap((void *)guarded.base, guarded.bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED) {
        rb_store32_release(guarded.mark, 1); /* pairs with rb_consumer_leave's acquire */
    } else {
        /*
         * Somebody else's fault: the instruction runs again under the action that was there before, and should that one
         * return too, under the default. Calling the old handler from here loops for ever when it does the same.
         */
        sigaction(signal_number, &previous, NULL);
        previous = (struct sigaction){.sa_handler = SIG_DFL};
        if (info->si_code <= 0)
            raise(signal_number); /* sent by somebody: no instruction runs again to send it once more */
    }
    errno = saved_errno;
}

static int install(void)
{
    struct sigaction now;
    struct sigaction ours = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (sigaction(SIGBUS, NULL, &now) != 0)
        return RB_E_SYSTEM;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigbus)
        return RB_OK;
    previous = now;
    return sigaction(SIGBUS, &ours, NULL) == 0 ? RB_OK : RB_E_SYSTEM;
}

int rb_guard_install(void)
{
    rb_store32_release(&wanted, 1); /* pairs with rb_guard_check's acquire; nothing else is handed over */
    return install();
}

void rb_guard_check(void)
{
    if (!rb_load32_acquire(&wanted)) /* pairs with rb_guard_install's release */
        return;
    install(); /* faulthandler.enable() after us would have taken our place */
    if (!guarded.takes_signal) {
        sigset_t bus;
        sigemptyset(&bus);
        sigaddset(&bus, SIGBUS);
        pthread_sigmask(SIG_UNBLOCK, &bus, NULL); /* a thread that blocks it would be killed */
        guarded.takes_signal = 1;
    }
}

void rb_guard_enter(void *base, uint64_t bytes, uint32_t *mark)
{
    guarded.base = (uintptr_t)base;
    guarded.mark = mark;
    guarded.bytes = bytes;
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the handler of this thread must find all three */
}

void rb_guard_leave(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    guarded.bytes = 0;
}
