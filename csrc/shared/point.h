/*
 * Named points: where a test build (-DRINGBUF_POINTS) lets a process be killed in the middle of a step. In every other
 * build a point is nothing; tests/points compares the assembly with and without these lines.
 *
 * RINGBUF_KILL_AT="name" kills at the first passage of that point, "name:3" at the third. The environment is read at
 * each passage: a forked child may be given another point than its parent had.
 */
#ifndef RINGBUF_POINT_H
#define RINGBUF_POINT_H

#ifndef RINGBUF_POINTS
#define RB_POINT(name) ((void)0)
#else
#define RB_POINT(name) rb_point(#name, sizeof #name - 1)

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* Only what a signal handler may call, and no lock, allocation or errno: the step goes on as it would without it. */
static inline void rb_point(const char *name, size_t length)
{
    static const char variable[] = "RINGBUF_KILL_AT=";
    static uint32_t passages; /* of the wanted point: each name stands in one place */
    for (char *const *entry = environ; entry != NULL && *entry != NULL; entry++) {
        const char *wanted = *entry + sizeof variable - 1;
        if (strncmp(*entry, variable, sizeof variable - 1) != 0 || strncmp(wanted, name, length) != 0)
            continue;
        uint32_t nth = 0;
        for (const char *digit = wanted + length + 1; wanted[length] == ':' && *digit != 0; digit++)
            nth = nth * 10 + (uint32_t)(*digit - '0');
        if (wanted[length] != 0 && wanted[length] != ':')
            return;
        if (__atomic_add_fetch(&passages, 1, __ATOMIC_RELAXED) == (nth == 0 ? 1 : nth))
            kill(getpid(), SIGKILL); /* does not return: a signal to oneself is taken before the call ends */
        return;
    }
}
#endif

#endif
