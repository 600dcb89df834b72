/*
 * Usage: RINGBUF_DIR=... removed_ring: removes its own ring, and emits by tracer.h of the examples until that has made
 * another. Prints that one's path. Valid C11 and C++17.
 */
#include "tracer.h"

#include <time.h>

RB_SITE(site, FILES_NAME_COPY, RB_KIND_INTERNAL, 0);

enum { MOST_SPANS = 3000 };

static int emit(tracer *t)
{
    files_record record;
    rb_span span;
    RB_BEGIN(t->producer, site, &record, &span, NULL);
    return tracer_end(t, &span, &record);
}

int main(void)
{
    const struct timespec pause = {0, 10000000};
    tracer t;
    char first[RB_MAX_PATH_BYTES];
    if (tracer_open(&t, "removed", "{}") != 0 || !emit(&t))
        return 1;
    memcpy(first, t.path, sizeof first);
    if (unlink(first) != 0)
        return 1;
    for (int i = 0; i < MOST_SPANS && strcmp(first, t.path) == 0; i++) {
        emit(&t);
        nanosleep(&pause, NULL);
    }
    if (!emit(&t))
        return 1;
    printf("%s\n", t.path);
    tracer_close(&t);
    return 0;
}
