/* Preloaded by test_context_methods.py: the process has no PyContextVar_ functions, as a later Python may not. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void *dlsym(void *handle, const char *name)
{
    static void *(*real)(void *, const char *);
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.17", "GLIBC_2.2.5"};
    for (unsigned i = 0; real == NULL && i < sizeof versions / sizeof *versions; i++)
        *(void **)&real = dlvsym(RTLD_NEXT, "dlsym", versions[i]);
    if (strncmp(name, "PyContextVar_", 13) != 0)
        return real(handle, name);
    fprintf(stderr, "no %s\n", name);
    return NULL;
}
