/* The layout of scope "files", written by `ringbuf layout`: do not edit. */
#ifndef FILES_LAYOUT_H
#define FILES_LAYOUT_H

#include <assert.h>
#include <ringbuf.h>
#include <string.h>
#ifndef __cplusplus
#include <stdbool.h>
#endif

/* Indices of the span names: rb_record.name. */
enum files_span_name {
    FILES_NAME_COPY = 0, /* "files.copy" */
    FILES_NAME_CHUNK = 1, /* "files.chunk" */
    FILES_NAME_COUNT_ALL = 2, /* "files.count_all" */
    FILES_NAME_COUNT = 3, /* "files.count" */
};
#define FILES_SPAN_NAME_COUNT 4u

/* Labels of "files.outcome". */
enum files_outcome {
    FILES_OUTCOME_OK = 0, /* "ok" */
    FILES_OUTCOME_NOT_FOUND = 1, /* "not_found" */
    FILES_OUTCOME_DENIED = 2, /* "denied" */
    FILES_OUTCOME_ERROR = 3, /* "error" */
};

/* Bits of rb_record.present: which attributes are set. */
#define FILES_PRESENT_PATH UINT32_C(0x00000001)
#define FILES_PRESENT_BYTES UINT32_C(0x00000002)
#define FILES_PRESENT_OFFSET UINT32_C(0x00000004)
#define FILES_PRESENT_OUTCOME UINT32_C(0x00000008)

typedef struct files_record {
    rb_record core;
    uint64_t bytes; /* "files.bytes", at 64 */
    uint64_t offset; /* "files.offset", at 72 */
    uint16_t path_length;
    char path[44]; /* "files.path", at 80 */
    uint8_t outcome; /* "files.outcome", at 126 */
    uint8_t pad_127[1];
} files_record;
#define FILES_SLOT_BYTES 128u

/* What ringbuf.h and the layout say of these bytes is what this compiler makes of them. */
static_assert(RB_ABI_MAJOR == 1, "another version of the ring file");
static_assert(sizeof(rb_record) == RB_CORE_BYTES && RB_CORE_BYTES == 64, "core");
static_assert(sizeof(files_record) == FILES_SLOT_BYTES, "slot_bytes");
static_assert(FILES_SLOT_BYTES <= RB_MAX_SLOT_BYTES, "slot_bytes");
static_assert(4 <= RB_MAX_ATTRIBUTES, "attributes");
static_assert(offsetof(files_record, path_length) == 80, "path_length");
static_assert(offsetof(files_record, path) == 82, "path");
static_assert(sizeof(((files_record *)0)->path) == 44, "path");
static_assert(offsetof(files_record, bytes) == 64, "bytes");
static_assert(sizeof(((files_record *)0)->bytes) == 8, "bytes");
static_assert(offsetof(files_record, offset) == 72, "offset");
static_assert(sizeof(((files_record *)0)->offset) == 8, "offset");
static_assert(offsetof(files_record, outcome) == 126, "outcome");
static_assert(sizeof(((files_record *)0)->outcome) == 1, "outcome");

/* The layout as the ring's header carries it: rb_config.layout_json. */
static const char files_layout_json[] =
    "{\"scope_name\":\"files\",\"scope_version\":\"1\",\"schema_url\":\"\",\"span_names\":[\"files.copy\",\"files.chunk\",\""
    "files.count_all\",\"files.count\"],\"slot_bytes\":128,\"attributes\":[{\"key\":\"files.path\",\"type\":\"str\",\"off"
    "set\":80,\"bytes\":46},{\"key\":\"files.bytes\",\"type\":\"u64\",\"offset\":64,\"bytes\":8},{\"key\":\"files.offset\",\""
    "type\":\"u64\",\"offset\":72,\"bytes\":8},{\"key\":\"files.outcome\",\"type\":\"label\",\"offset\":126,\"bytes\":1,\"lab"
    "els\":[\"ok\",\"not_found\",\"denied\",\"error\"],\"metric_label\":true}]}";
#define FILES_LAYOUT_BYTES 463u
static_assert(sizeof files_layout_json - 1 == FILES_LAYOUT_BYTES, "layout_json");
static_assert(FILES_LAYOUT_BYTES <= RB_MAX_JSON_BYTES, "layout_json");

/* Fills the layout's part of a config. */
static inline void files_config(rb_config *config)
{
    config->layout_json = files_layout_json;
    config->layout_bytes = FILES_LAYOUT_BYTES;
    config->slot_bytes = FILES_SLOT_BYTES;
    config->span_name_count = FILES_SPAN_NAME_COUNT;
    config->present_bits = RB_PRESENT_ALONE | RB_PRESENT_ROOT_THRESHOLD;
}

/* A sampled root without times, ids and attributes. */
static inline void files_init(files_record *record, enum files_span_name name)
{
    memset(record, 0, sizeof *record);
    record->core.name = (uint16_t)name;
    record->core.kind = RB_KIND_INTERNAL;
    record->core.flags = RB_SPAN_SAMPLED | RB_SPAN_HAS_IS_REMOTE;
}

/* Returns 1 where the value was cut to its field (tell rb_count_truncated), else 0. */
static inline int files_set_path(files_record *record, const char *data, size_t bytes)
{
    size_t kept = bytes <= 44 ? bytes : 44;
    while (kept < bytes && kept > 0 && ((unsigned char)data[kept] & 0xC0) == 0x80)
        kept--; /* UTF-8: not within a character */
    if (kept > 0)
        memcpy(record->path, data, kept);
    record->path_length = (uint16_t)kept;
    record->core.present |= FILES_PRESENT_PATH;
    return kept < bytes;
}

static inline void files_set_bytes(files_record *record, uint64_t value)
{
    record->bytes = value;
    record->core.present |= FILES_PRESENT_BYTES;
}

static inline void files_set_offset(files_record *record, uint64_t value)
{
    record->offset = value;
    record->core.present |= FILES_PRESENT_OFFSET;
}

static inline void files_set_outcome(files_record *record, enum files_outcome value)
{
    record->outcome = (uint8_t)value;
    record->core.present |= FILES_PRESENT_OUTCOME;
}

#endif /* FILES_LAYOUT_H */
