/*
 * A native producer of the soak: numbered spans until its input ends, or a kill ends it.
 * Usage: native RING_DIR SERVICE LEDGER FIRST_STREAM LAYOUT_JSON SLOT_BYTES; the ledger is that of ledger.py.
 */
#include <ringbuf.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { INTENT, DONE, FULL, CONTENDED, UNSAMPLED, LOCAL, WORDS = 8, NUMBER_BITS = 32, NO_ROOM = 3 };

typedef struct numbered {
    rb_record core;
    uint64_t number;
    uint8_t rest[56];
} numbered;

/* What a door's result asks for, outside the hot path; returns whether the span was written. */
static int settle(rb_producer *producer, const rb_config *config, int result)
{
    char path[RB_MAX_PATH_BYTES];
    rb_error error;
    int is_over = result > 1 && (rb_is_set_aside(producer) || rb_is_removed(producer));
    if (result == RB_NO_RING || is_over)
        rb_open(producer, config, path, &error);
    else if (result > 1)
        rb_find_doorbell(producer, config->ring_dir);
    if (result == RB_NO_RING)
        rb_count_local(producer, 1);
    return result > 0 && (result & 1);
}

static void tell_drops(rb_producer *producer, volatile uint64_t *words)
{
    rb_producer_stats stats;
    if (rb_stats(producer, &stats) != RB_OK)
        return;
    words[FULL] = stats.full;
    words[CONTENDED] = stats.contended;
    words[LOCAL] = stats.local;
}

int main(int argc, char **argv)
{
    char path[RB_MAX_PATH_BYTES], resource[256];
    rb_config config;
    rb_error error;
    if (argc != 7)
        return 2;
    uint64_t stream = strtoull(argv[4], NULL, 10);
    int fd = open(argv[3], O_RDWR | O_CLOEXEC);
    uint64_t *ledger = mmap(NULL, (stream + 1) * WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    rb_producer *producer = rb_producer_new();
    if (fd < 0 || ledger == MAP_FAILED || producer == NULL)
        return 2;
    volatile uint64_t *words = ledger + stream * WORDS;
    snprintf(resource, sizeof resource, "{\"service.name\":\"%s\"}", argv[2]);
    memset(&config, 0, sizeof config);
    config.ring_dir = argv[1];
    config.service_name = argv[2];
    config.layout_json = argv[5];
    config.layout_bytes = (uint32_t)strlen(argv[5]);
    config.resource_json = resource;
    config.resource_bytes = (uint32_t)strlen(resource);
    config.slot_bytes = (uint32_t)atoi(argv[6]);
    config.span_name_count = 1;
    config.lane_count = 2;
    config.capacity_slots = 4096;
    config.file_mode = 0600;
    config.root_always = 1;
    if (config.slot_bytes != sizeof(numbered))
        return 2;
    if (rb_open(producer, &config, path, &error) != RB_OK) {
        fprintf(stderr, "%s\n", error.detail);
        return NO_ROOM;
    }
    struct pollfd input = {0, POLLIN, 0};
    while (poll(&input, 1, 0) == 0) {
        for (int i = 0; i < 50; i++) {
            numbered span;
            memset(&span, 0, sizeof span);
            span.number = words[DONE];
            span.core.start_unix_nano = stream << NUMBER_BITS | span.number;
            span.core.end_unix_nano = span.core.start_unix_nano + 1;
            span.core.present = 1;
            span.core.flags = RB_SPAN_SAMPLED | RB_SPAN_HAS_IS_REMOTE;
            rb_new_ids(producer, span.core.trace_id, span.core.span_id);
            words[INTENT] = span.number + 1;
            int result = rb_emit(producer, &span.core);
            if (result != 1 && !settle(producer, &config, result)) {
                words[INTENT] = span.number;
                break;
            }
            words[DONE] = span.number + 1;
        }
        struct timespec pace = {0, 10000000};
        nanosleep(&pace, NULL);
        tell_drops(producer, words);
    }
    if (rb_close(producer) != RB_OK)
        return 1;
    rb_producer_free(producer);
    return 0;
}
