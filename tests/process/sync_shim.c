/* Counts the calls that make a file's bytes durable: preloaded into a process whose promises about them are tested. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>

typedef int sync_call(int);

static atomic_ullong calls;

/* How often this process has called either. */
uint64_t sync_shim_calls(void);
uint64_t sync_shim_calls(void) { return atomic_load(&calls); }

int fsync(int descriptor)
{
    atomic_fetch_add(&calls, 1);
    return ((sync_call *)dlsym(RTLD_NEXT, "fsync"))(descriptor);
}

int fdatasync(int descriptor)
{
    atomic_fetch_add(&calls, 1);
    return ((sync_call *)dlsym(RTLD_NEXT, "fdatasync"))(descriptor);
}
