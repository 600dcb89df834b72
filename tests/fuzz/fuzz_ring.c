/*
 * Fuzz target: a whole ring file, and what a hostile producer does to it while it is read. The input:
 *
 *   byte 0      enum how: how the file is made of the rest
 *   byte 1      n, the length of the script
 *   2 to 2+n    the script: calls of the consumer, and changes of the file between them; see run_script
 *   the rest    the file, as it is or folded: the header without its pages of zeros, then lane after lane
 *
 * Checked beside the sanitizers: what a call may return; that released <= read <= tail <= released + capacity; that an
 * observer writes nothing; that `head` in the file is what was released; that what is encoded is well-formed OTLP.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "otlp_check.h"
#include "ringbuf.h"
#include "script.h"

#define MAX_FILE_BYTES (1 << 18)
#define MAX_LIMIT_BYTES (MAX_FILE_BYTES - RB_PAGE_BYTES)
#define MAX_COPIED 64
#define PLANS (RB_MAX_SLOT_BYTES / 64)

enum how {
    FOLDED = 1,
    FIX_CRC = 2,
    FIX_SIZE = 4, /* file_bytes becomes the size of the file */
    FILL = 8,     /* the file gets the size that the header says */
    HOLES = 16    /* ... without memory behind it; not of a folded one */
};

static int file = -1;
static uint8_t image[MAX_FILE_BYTES];
static size_t image_bytes;
static size_t dirty_bytes; /* of the image: what may not be zero */
static rb_doorbell *doorbell;
static rb_plan *plans[PLANS + 1]; /* by slot_bytes / 64 */

/* ---- plans: what would be in the layout ---- */

static const rb_text labels[] = {{.data = "ok", .bytes = 2}, {.data = "no\xff\"\n", .bytes = 5}};

static const rb_plan_attribute wanted[] = {
    {.type = RB_TYPE_U64},
    {.type = RB_TYPE_F64},
    {.type = RB_TYPE_LABEL, .size = 1, .labels = labels, .label_count = 2},
    {.type = RB_TYPE_BOOL},
    {.type = RB_TYPE_STR, .size = 5},
    {.type = RB_TYPE_HEX, .size = 16},
    {.type = RB_TYPE_I8},
    {.type = RB_TYPE_I16},
    {.type = RB_TYPE_LABEL, .size = 2, .labels = labels, .label_count = 2},
    {.type = RB_TYPE_BYTES, .size = 6},
    {.type = RB_TYPE_I32},
    {.type = RB_TYPE_U8},
    {.type = RB_TYPE_I64},
    {.type = RB_TYPE_U16},
    {.type = RB_TYPE_U32},
    {.type = RB_TYPE_HEX, .size = 3},
    {.type = RB_TYPE_STR, .size = 40},
};
#define WANTED (sizeof wanted / sizeof *wanted)

/* One of each type, as many as there is room for. */
static const rb_plan *plan_for(uint32_t slot_bytes)
{
    static const uint32_t widths[] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 8};
    if (plans[slot_bytes / 64] != NULL)
        return plans[slot_bytes / 64];
    rb_plan_attribute attributes[WANTED];
    uint32_t count = 0, at = RB_CORE_BYTES;
    for (uint32_t i = 0; i < WANTED; i++) {
        uint32_t type = wanted[i].type;
        uint32_t bytes = type < RB_TYPE_LABEL ? widths[type] : wanted[i].size + (type >= RB_TYPE_STR ? 2 : 0);
        if (at + bytes > slot_bytes)
            break;
        attributes[count] = wanted[i];
        attributes[count].key = (rb_text){.data = "key", .bytes = 3};
        attributes[count++].offset = at;
        at += bytes;
    }
    rb_plan_config config = {
        .span_names = labels,
        .span_name_count = 2,
        .attributes = attributes,
        .attribute_count = count,
        .slot_bytes = slot_bytes,
    };
    int status = rb_plan_new(&config, &plans[slot_bytes / 64], NULL);
    assert(status == RB_OK);
    return plans[slot_bytes / 64];
}

static void check_encoding(const void *records, uint64_t count, uint32_t slot_bytes)
{
    const rb_plan *plan = plan_for(slot_bytes);
    uint64_t room = rb_plan_protobuf_bound(plan) * (count + 1), spans, invalid, json_spans;
    uint8_t *out = malloc(room);
    assert(out != NULL);
    int64_t bytes = rb_encode_protobuf(plan, records, count, out, room, &spans, &invalid);
    assert(bytes >= 0 && (uint64_t)bytes <= room && spans + invalid == count);
    struct otlp_counts protobuf = otlp_check_protobuf(out, (size_t)bytes);
    free(out);
    room = rb_plan_json_bound(plan) * (count + 1);
    out = malloc(room);
    assert(out != NULL);
    bytes = rb_encode_json(plan, records, count, out, room, &json_spans, &invalid);
    assert(bytes >= 0 && (uint64_t)bytes <= room && json_spans == spans && spans + invalid == count);
    struct otlp_counts json = otlp_check_json(out, (size_t)bytes);
    free(out);
    assert(protobuf.spans == spans && json.spans == spans && protobuf.attributes == json.attributes);
}

/* ---- the file ---- */

static uint32_t crc32_of(const uint8_t *data, size_t bytes)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

static void put32(size_t offset, uint32_t value) { memcpy(image + offset, &value, sizeof value); }

static size_t smaller(uint64_t a, uint64_t b) { return (size_t)(a < b ? a : b); }

/* Lane after lane to their places, as far as there is a place for them. */
static void unfold(const rb_header *header, const uint8_t *lanes, size_t bytes)
{
    uint64_t each = RB_LANE_BYTES + (uint64_t)header->capacity_slots * header->slot_bytes;
    for (uint64_t i = 0; i < header->lane_count && bytes > 0; i++) {
        uint64_t at = header->header_bytes + i * (header->lane_stride_bytes % MAX_FILE_BYTES);
        size_t part = smaller(each, bytes);
        if (at >= MAX_FILE_BYTES || part > MAX_FILE_BYTES - at)
            return;
        memcpy(image + at, lanes, part);
        lanes += part;
        bytes -= part;
    }
}

static void make_image(uint32_t how, const uint8_t *data, size_t bytes)
{
    memset(image, 0, dirty_bytes); /* of the last input */
    dirty_bytes = image_bytes = smaller(bytes, MAX_FILE_BYTES);
    memcpy(image, data, image_bytes);
    rb_header header;
    if (image_bytes < sizeof header)
        return;
    memcpy(&header, image, sizeof header);
    if (how & FOLDED && header.file_bytes <= MAX_FILE_BYTES) {
        memset(image, 0, image_bytes);
        memcpy(image, data, sizeof header);
        unfold(&header, data + sizeof header, bytes - sizeof header);
        dirty_bytes = MAX_FILE_BYTES;
        image_bytes = (size_t)header.file_bytes;
    }
    if (how & FILL && header.file_bytes <= MAX_FILE_BYTES && header.file_bytes > image_bytes)
        image_bytes = (size_t)header.file_bytes;
    if (dirty_bytes < image_bytes)
        dirty_bytes = image_bytes;
    if (how & FIX_SIZE) {
        header.file_bytes = image_bytes;
        memcpy(image + offsetof(rb_header, file_bytes), &header.file_bytes, sizeof header.file_bytes);
    }
    if (how & FIX_CRC && header.header_bytes <= image_bytes) {
        put32(offsetof(rb_header, crc32), 0);
        put32(offsetof(rb_header, crc32), crc32_of(image, header.header_bytes));
    }
}

static void write_file(uint32_t how, size_t given)
{
    size_t written = (how & (HOLES | FOLDED)) == HOLES ? smaller(given, image_bytes) : image_bytes;
    int status = ftruncate(file, 0) == 0 && pwrite(file, image, written, 0) == (ssize_t)written &&
                 ftruncate(file, (off_t)image_bytes) == 0;
    assert(status);
}

static void check_file_is_as_it_was(void)
{
    static uint8_t now[MAX_FILE_BYTES];
    ssize_t bytes = pread(file, now, sizeof now, 0);
    assert(bytes == (ssize_t)image_bytes && memcmp(now, image, image_bytes) == 0);
}

/* ---- the consumer ---- */

static rb_consumer *attach(uint32_t access)
{
    rb_consumer *consumer = NULL;
    rb_error error;
    memset(&error, 0x7f, sizeof error);
    int status = rb_attach(file, access, MAX_LIMIT_BYTES, &consumer, &error);
    assert((status == RB_OK) == (consumer != NULL));
    if (status != RB_OK) {
        assert((status <= RB_E_NOT_A_RING && status >= RB_E_TRUNCATED) && error.status == status);
        assert(memchr(error.detail, '\0', sizeof error.detail) != NULL && error.detail[0] != '\0');
    }
    return consumer;
}

/* Each size, and every byte of layout and resource: whoever reads them must find them. */
static void check_header(const rb_consumer *consumer)
{
    const rb_header *header = rb_consumer_header(consumer);
    uint64_t stride = header->lane_stride_bytes, capacity = header->capacity_slots;
    assert(header->header_bytes + header->lane_count * stride == header->file_bytes);
    assert(lseek(file, 0, SEEK_END) == (off_t)header->file_bytes);
    assert(header->file_bytes <= MAX_LIMIT_BYTES && header->lane_count >= 1 && header->lane_count <= RB_MAX_LANES);
    assert(capacity * header->slot_bytes + RB_LANE_BYTES <= stride && (capacity & (capacity - 1)) == 0);
    volatile uint8_t read = 0;
    for (uint32_t i = 0; i < header->layout_bytes; i++)
        read = read ^ ((const uint8_t *)header + header->layout_offset)[i];
    for (uint32_t i = 0; i < header->resource_bytes; i++)
        read = read ^ ((const uint8_t *)header + header->resource_offset)[i];
}

/* The conservation law, as a drain finds it: what is accounted for is released, or was by a drain that was killed. */
static void check_law(rb_consumer *consumer)
{
    const rb_header *header = rb_consumer_header(consumer);
    rb_lane_view views[RB_MAX_LANES];
    int64_t ready = rb_poll(consumer, views); /* nothing has changed since the attach */
    assert(ready >= 0 || ready == RB_E_TRUNCATED);
    if (ready < 0)
        return;
    for (uint32_t i = 0; i < header->lane_count; i++) {
        const rb_lane_view *view = &views[i];
        __uint128_t accounted = (__uint128_t)view->delivered + view->spooled + view->rejected + view->dead_lettered +
                                view->invalid + view->sampled_out;
        uint64_t published = view->tail - header->first_position;
        assert(accounted >= view->released - header->first_position && accounted <= published);
    }
}

static int64_t check_poll(rb_consumer *consumer, int is_observer)
{
    const rb_header *header = rb_consumer_header(consumer);
    rb_lane_view *views = malloc(header->lane_count * sizeof *views);
    assert(views != NULL);
    int64_t ready = rb_poll(consumer, views);
    assert(ready >= 0 || ready == RB_E_POSITION || ready == RB_E_TRUNCATED || is_observer);
    uint64_t sum = 0;
    for (uint32_t i = 0; ready >= 0 && !is_observer && i < header->lane_count; i++) {
        assert(views[i].tail - views[i].released <= header->capacity_slots);
        assert(views[i].read - views[i].released <= views[i].tail - views[i].released);
        sum += views[i].tail - views[i].read;
    }
    assert(ready < 0 || is_observer || sum == (uint64_t)ready);
    free(views);
    return ready;
}

/* Looks at up to `most` records of a lane, `back` positions before the head that the file shows. */
static void peek(rb_consumer *observer, uint32_t lane, uint64_t most, uint64_t back)
{
    const rb_header *header = rb_consumer_header(observer);
    rb_lane_view views[RB_MAX_LANES];
    if (rb_poll(observer, views) < 0)
        return;
    uint64_t position = (lane < header->lane_count ? views[lane].released : 0) - back, before = position, missed = 0;
    uint8_t *records = malloc(most * header->slot_bytes + 1);
    assert(records != NULL);
    int64_t kept = rb_peek(observer, lane, &position, records, most, &missed);
    if (kept >= 0) {
        assert((uint64_t)kept <= most && position - before == (uint64_t)kept + missed);
        check_encoding(records, (uint64_t)kept, header->slot_bytes);
    } else
        assert(kept == RB_E_POSITION || kept == RB_E_TRUNCATED ||
               (kept == RB_E_ARGUMENT && lane >= header->lane_count));
    free(records);
}

static void observe(uint32_t lane, uint64_t most, uint64_t back)
{
    rb_consumer *observer = attach(RB_OBSERVE);
    if (observer != NULL) {
        check_header(observer);
        check_poll(observer, 1);
        peek(observer, lane, most, back);
        uint8_t record[RB_MAX_SLOT_BYTES];
        assert(rb_copy(observer, 0, record, 1) == RB_E_ARGUMENT);
    }
    rb_consumer_free(observer);
}

static void copy(rb_consumer *consumer, uint32_t lane, uint64_t most)
{
    const rb_header *header = rb_consumer_header(consumer);
    uint8_t *records = malloc(most * header->slot_bytes + 1);
    assert(records != NULL);
    int64_t copied = rb_copy(consumer, lane, records, most);
    assert(copied >= 0 ? (uint64_t)copied <= most && (uint64_t)copied <= header->capacity_slots
                       : copied == RB_E_POSITION || copied == RB_E_TRUNCATED ||
                             (copied == RB_E_ARGUMENT && lane >= header->lane_count));
    if (copied > 0)
        check_encoding(records, (uint64_t)copied, header->slot_bytes);
    free(records);
}

/* After a release that worked, `head` and the sum of the outcome words are in the file. */
static void release(rb_consumer *consumer, uint32_t lane, rb_outcome outcome)
{
    const rb_header *header = rb_consumer_header(consumer);
    rb_lane_view views[RB_MAX_LANES];
    int is_sound = lane < header->lane_count && rb_poll(consumer, views) >= 0;
    uint64_t count = outcome.delivered + outcome.spooled + outcome.rejected + outcome.dead_lettered + outcome.invalid +
                     outcome.sampled_out;
    uint64_t most = is_sound ? views[lane].read - views[lane].released : 0;
    int status = rb_release(consumer, lane, &outcome);
    assert(status == RB_OK || status == RB_E_TRUNCATED || status == RB_E_ARGUMENT);
    assert(!is_sound || (status == RB_E_ARGUMENT) == (count > most));
    if (status != RB_OK || rb_poll(consumer, views) < 0)
        return;
    uint64_t words[2];
    off_t at = (off_t)(header->header_bytes + lane * header->lane_stride_bytes + offsetof(rb_lane, head));
    if (pread(file, words, sizeof words, at) == sizeof words)
        assert(words[0] == views[lane].released && words[1] == views[lane].delivered + views[lane].sampled_out);
}

/* ---- the script ---- */

/* A word of a lane becomes something close to what it was, or far from everything. */
static void change_word(struct script *script, const rb_header *header)
{
    static const uint64_t far[] = {0, 1, UINT32_MAX, (uint64_t)1 << 63, UINT64_MAX, 0x0101010101010101};
    uint32_t lane = next_byte(script) % header->lane_count, word = next_byte(script) % (RB_LANE_BYTES / 8);
    uint32_t how = next_byte(script);
    off_t at = (off_t)(header->header_bytes + lane * header->lane_stride_bytes + 8 * word);
    uint64_t value = 0;
    if (pread(file, &value, sizeof value, at) != sizeof value)
        return;
    value = how < 128 ? value + how : how < 250 ? value - (how - 127) : far[how - 250];
    ssize_t written = pwrite(file, &value, sizeof value, at);
    assert(written == sizeof value);
}

static void change_byte(struct script *script)
{
    uint32_t at = next_byte(script) | next_byte(script) << 8;
    uint8_t byte = (uint8_t)next_byte(script);
    if (at < image_bytes) {
        ssize_t written = pwrite(file, &byte, 1, (off_t)at); /* also behind the end of a file that was cut */
        assert(written == 1);
    }
}

static void resize(uint64_t bytes)
{
    int status = ftruncate(file, (off_t)smaller(bytes, MAX_FILE_BYTES));
    assert(status == 0);
}

static void run_script(rb_consumer **consumer, struct script script)
{
    const rb_header *header = rb_consumer_header(*consumer);
    uint32_t found;
    while (script.left > 0) {
        switch (next_byte(&script) % 13) {
        case 0:
            check_poll(*consumer, 0);
            break;
        case 1: {
            uint32_t lane = next_byte(&script) % (RB_MAX_LANES + 1);
            copy(*consumer, lane, next_byte(&script) % MAX_COPIED);
            break;
        }
        case 2: {
            uint32_t lane = next_byte(&script) % (RB_MAX_LANES + 1), counts = next_byte(&script);
            release(*consumer, lane,
                    (rb_outcome){.delivered = counts % 8,
                                 .spooled = counts / 8 % 4,
                                 .rejected = counts / 32 % 2,
                                 .dead_lettered = counts / 64 % 2,
                                 .sampled_out = counts / 16 % 3,
                                 .invalid = counts / 128});
            break;
        }
        case 3:
            rb_set_consumer_state(*consumer, next_byte(&script) % 4);
            break;
        case 4:
            rb_set_sleeping(*consumer, next_byte(&script) % 2);
            break;
        case 5:
            found = rb_scan((rb_consumer *const *)consumer, 1, &found);
            assert(found <= 1);
            break;
        case 6:
            rb_sleep(doorbell, rb_doorbell_value(doorbell), (rb_consumer *const *)consumer, 1, 1000, 1000);
            break;
        case 7:
            change_word(&script, header);
            break;
        case 8:
            change_byte(&script);
            break;
        case 9: /* cut */
            resize(image_bytes * next_byte(&script) / 256);
            break;
        case 10: /* and grown, with holes */
            resize(image_bytes + 64 * next_byte(&script));
            break;
        case 11: {
            uint32_t lane = next_byte(&script) % (RB_MAX_LANES + 1), most = next_byte(&script) % MAX_COPIED;
            observe(lane, most, next_byte(&script) - 8u);
            break;
        }
        default: /* the drain is killed, another comes */
            rb_consumer_free(*consumer);
            *consumer = attach(RB_CONSUME);
            if (*consumer == NULL)
                return;
            header = rb_consumer_header(*consumer);
            check_law(*consumer);
        }
    }
}

/* What every drain does: whatever is there, copied and released. */
static void drain(rb_consumer *consumer)
{
    const rb_header *header = rb_consumer_header(consumer);
    int64_t ready = check_poll(consumer, 0);
    for (uint32_t lane = 0; lane < header->lane_count && ready >= 0; lane++) {
        rb_lane_view views[RB_MAX_LANES];
        if (rb_poll(consumer, views) < 0)
            break;
        uint64_t waiting = views[lane].tail - views[lane].read;
        copy(consumer, lane, waiting < MAX_COPIED ? waiting : MAX_COPIED);
        if (rb_poll(consumer, views) >= 0)
            release(consumer, lane, (rb_outcome){.delivered = views[lane].read - views[lane].released});
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    char path[64];
    snprintf(path, sizeof path, "/dev/shm/ringbuf-fuzz-%ld", (long)getpid());
    file = memfd_create("ring", MFD_CLOEXEC);
    int status = rb_doorbell_open(path, 0600, &doorbell, NULL);
    unlink(path);
    assert(file >= 0 && status == RB_OK);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    int status = rb_guard_install(); /* each time: libFuzzer puts its own handler there, after the first */
    assert(status == RB_OK);
    if (bytes < 2 || bytes - 2 < data[1])
        return 0;
    struct script script = {data + 2, data[1]};
    data += 2 + script.left;
    bytes -= 2 + script.left;
    uint32_t how = script.at[-2];
    make_image(how, data, bytes);
    write_file(how, bytes);
    observe(0, MAX_COPIED, 0);
    check_file_is_as_it_was();
    rb_consumer *consumer = attach(RB_CONSUME);
    if (consumer != NULL) {
        check_header(consumer);
        check_law(consumer);
        run_script(&consumer, script);
    }
    if (consumer != NULL)
        drain(consumer);
    rb_consumer_free(consumer);
    return 0;
}

#ifdef RB_FUZZER
size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t most);

/* One part of the input at a time: else a script that grows moves the whole file, and nothing is a ring any more. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t most, unsigned seed)
{
    if (bytes < 2 || bytes - 2 < data[1] || seed % 8 == 0)
        return LLVMFuzzerMutate(data, bytes, most);
    size_t script_bytes = data[1], file_at = 2 + script_bytes, file_bytes = bytes - file_at;
    if (seed % 8 == 1) {
        LLVMFuzzerMutate(data, 1, 1);
    } else if (seed % 8 <= 4) {
        uint8_t script[255];
        memcpy(script, data + 2, script_bytes);
        size_t room = smaller(sizeof script, most - 2 - file_bytes);
        if (room == 0)
            return bytes;
        size_t now = LLVMFuzzerMutate(script, script_bytes, room);
        memmove(data + 2 + now, data + file_at, file_bytes);
        memcpy(data + 2, script, now);
        data[1] = (uint8_t)now;
        return 2 + now + file_bytes;
    } else if (seed % 8 == 5 && file_bytes >= sizeof(rb_header)) {
        LLVMFuzzerMutate(data + file_at, sizeof(rb_header), sizeof(rb_header)); /* keeps its length, mostly */
    } else if (file_bytes > sizeof(rb_header) && seed % 8 > 5) {
        size_t lanes_at = file_at + sizeof(rb_header);
        return lanes_at + LLVMFuzzerMutate(data + lanes_at, bytes - lanes_at, most - lanes_at);
    }
    return bytes;
}
#endif
