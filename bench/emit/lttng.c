/*
 * An LTTng-UST tracepoint in rounds, for bench/emit/lttng.py, which has made the session. Each line on standard input runs one
 * round and is answered by the nanoseconds of processor time per event.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng_tracepoint.h"

#include <stdio.h>
#include <time.h>

enum { BURST = 8000, BURSTS = 100 };

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

int main(void)
{
    static uint8_t payload[96];
    char line[16];
    if (!lttng_ust_tracepoint_enabled(ringbuf_bench, span)) {
        fputs("lttng: the event is not enabled\n", stderr);
        return 1;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t start = now();
        for (uint64_t i = 0; i < BURST * BURSTS; i++) {
            payload[0] = (uint8_t)i;
            lttng_ust_tracepoint(ringbuf_bench, span, payload);
        }
        printf("%.4f\n", (double)(now() - start) / (BURST * BURSTS));
        fflush(stdout);
    }
    return 0;
}
