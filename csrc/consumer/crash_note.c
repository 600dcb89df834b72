/*
 * What a drain leaves when it dies of a fault: one line in its lock file. A kill from outside leaves none, so that the
 * next drain can tell the two apart.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "ringbuf.h"
#include "shared/atomics.h"

enum { STACK_BYTES = 64 << 10 };

static const int faults[] = {SIGSEGV, SIGABRT, SIGILL, SIGFPE, SIGBUS, SIGTRAP, SIGSYS};
enum { FAULTS = sizeof faults / sizeof faults[0] };

static struct sigaction before[FAULTS];
static uint32_t note_to; /* the descriptor + 1; 0: nowhere */
static uint64_t note_at;
static char stack[STACK_BYTES]; /* of the first thread: without one an overflow of its own stack leaves no note */

static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    uint32_t to = rb_load32_acquire(&note_to); /* pairs with rb_crash_note's release: note_at fits it */
    char line[] = "crashed by signal ??\n";
    char *digit = line + sizeof line - 4;
    (void)context;
    if (number >= 10)
        *digit++ = (char)('0' + number / 10);
    *digit++ = (char)('0' + number % 10);
    *digit++ = '\n';
    if (to > 0 && pwrite((int)to - 1, line, (size_t)(digit - line), (off_t)note_at) < 0) {
        /* A full tmpfs: nothing else can be done here. */
    }
    for (int i = 0; i < FAULTS; i++)
        if (faults[i] == number) {
            /* The instruction runs again under the action that was there, and should that one return, the default. */
            sigaction(number, &before[i], NULL);
            before[i] = (struct sigaction){.sa_handler = SIG_DFL};
        }
    if (info->si_code <= 0)
        raise(number); /* sent, by abort() too: no instruction runs again to send it once more */
    errno = saved_errno;
}

static int install(void)
{
    static int is_installed;
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t own;
    if (is_installed)
        return RB_OK;
    if (sigaltstack(NULL, &own) == 0 && (own.ss_flags & SS_DISABLE)) {
        own = (stack_t){.ss_sp = stack, .ss_size = sizeof stack};
        sigaltstack(&own, NULL);
    }
    for (int i = 0; i < FAULTS; i++)
        if (sigaction(faults[i], NULL, &before[i]) != 0 || sigaction(faults[i], &ours, NULL) != 0)
            return RB_E_SYSTEM;
    is_installed = 1;
    return RB_OK;
}

int rb_crash_note(int fd, uint64_t offset)
{
    rb_store32_release(&note_to, 0); /* nobody is to see the new offset with the old file */
    note_at = offset;
    rb_store32_release(&note_to, (uint32_t)(fd + 1)); /* pairs with on_fault's acquire */
    return fd < 0 ? RB_OK : install();
}
