/*
 * Copies a file, and tells where the time goes: one span for the copy, a child for each chunk.
 * Usage: copy FROM TO
 */
#include "tracer.h"

#include <fcntl.h>

enum { CHUNK_BYTES = 65536 };

RB_SITE(copy_site, FILES_NAME_COPY, RB_KIND_INTERNAL, 0);
RB_SITE(chunk_site, FILES_NAME_CHUNK, RB_KIND_INTERNAL, FILES_PRESENT_BYTES | FILES_PRESENT_OFFSET);

/* Returns bytes copied, 0 at the end, -1 with errno. A chunk's span has only what is known before it is emitted. */
static ssize_t copy_chunk(tracer *t, const rb_span *copy, int from, int to, uint64_t offset)
{
    static char buffer[CHUNK_BYTES];
    uint64_t start = rb_clock_unix_nano();
    ssize_t got = read(from, buffer, sizeof buffer);
    for (ssize_t done = 0; done < got;) {
        ssize_t wrote = write(to, buffer + done, (size_t)(got - done));
        if (wrote < 0)
            return -1;
        done += wrote;
    }
    if (got > 0) {
        int result = RB_EMIT(t->producer, chunk_site, copy, files_record, chunk, start, rb_clock_unix_nano(),
                             chunk.bytes = (uint64_t)got;
                             chunk.offset = offset);
        if (result != 1)
            tracer_settle(t, result);
    }
    return got;
}

static int copy_file(tracer *t, const char *from_path, const char *to_path)
{
    files_record record;
    rb_span span;
    uint64_t copied = 0;
    ssize_t got = -1;
    RB_BEGIN(t->producer, copy_site, &record, &span, NULL);
    tracer_path(t, &record, from_path);
    int from = open(from_path, O_RDONLY | O_CLOEXEC);
    int to = from < 0 ? -1 : open(to_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (to >= 0)
        while ((got = copy_chunk(t, &span, from, to, copied)) > 0)
            copied += (uint64_t)got;
    int error = got < 0 ? errno : 0;
    if (from >= 0)
        close(from);
    if (to >= 0 && close(to) != 0 && error == 0)
        error = errno;
    files_set_bytes(&record, copied);
    files_set_outcome(&record, tracer_outcome(error));
    record.core.status = error == 0 ? RB_STATUS_UNSET : RB_STATUS_ERROR;
    tracer_end(t, &span, &record);
    return error;
}

int main(int argc, char **argv)
{
    tracer t;
    if (argc != 3) {
        fprintf(stderr, "usage: copy FROM TO\n");
        return 2;
    }
    if (tracer_open(&t, "copy", "{\"service.name\":\"copy\",\"service.version\":\"1.0\"}") != 0)
        return 1;
    int error = copy_file(&t, argv[1], argv[2]);
    if (error != 0)
        fprintf(stderr, "copy: %s\n", strerror(error));
    tracer_close(&t);
    return error != 0;
}
