/* seen.c - which rules' conditions on the core of a span a record meets: its status, kind, name, and how long it took. */
#include "sampling/traces.h"

typedef struct __attribute__((packed, may_alias)) any_record {
    rb_record core;
} any_record;

static uint64_t long_enough(const rb_conditions *conditions, uint64_t start, uint64_t end)
{
    uint64_t took = end > start ? end - start : 0, met = 0;
    for (uint64_t bits = conditions->timed; bits != 0; bits &= bits - 1) {
        int rule = __builtin_ctzll(bits);
        if (took > conditions->longer_than_nano[rule])
            met |= (uint64_t)1 << rule;
    }
    return met | ~conditions->timed;
}

int rb_masks(const rb_conditions *conditions, const void *records, uint32_t slot_bytes, uint64_t count, uint64_t *masks)
{
    if (slot_bytes < RB_CORE_BYTES)
        return RB_E_ARGUMENT;
    for (uint64_t i = 0; i < count; i++) {
        const any_record *record = (const any_record *)((const uint8_t *)records + i * slot_bytes);
        uint64_t mask =
            conditions->every & conditions->statuses[record->core.status] & conditions->kinds[record->core.kind];
        if (conditions->names != NULL)
            mask &= record->core.name < conditions->name_count ? conditions->names[record->core.name] : 0;
        if (mask & conditions->timed)
            mask &= long_enough(conditions, record->core.start_unix_nano, record->core.end_unix_nano);
        masks[i] = mask;
    }
    return RB_OK;
}
