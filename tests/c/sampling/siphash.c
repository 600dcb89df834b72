/*
 * siphash.c - the hash of the trace table is SipHash-1-3 of the id under the whole of the key: with another one, or
 * without a key, who chooses trace ids could let them meet in one place.
 *
 * Expected values: those of CPython 3.11, whose hash of bytes is SipHash-1-3. `PYTHONHASHSEED=1 python -c
 * 'print(hash(bytes(range(16))))'` is the first, as u64, with seed 7 it is the second; the keys come of the seeds by
 * lcg_urandom() of Python/bootstrap_hash.c.
 */
#include "sampling/siphash.h"
#include "sampling/table.h"

#include <assert.h>

static const struct {
    uint64_t key[2], hash;
} known[] = {
    {{0xaed66ce184be2329, 0xebe9bbf1f1499052}, 0x12e9d283f9f37002},
    {{0x12c874a1806f0e3d, 0x470a89d2f9d2784f}, 0x642bba6a6c24ebf5},
};

int main(void)
{
    rb_record record = {.start_unix_nano = 1, .end_unix_nano = 2, .span_id = {1}, .flags = RB_SPAN_SAMPLED};
    for (int i = 0; i < 16; i++)
        record.trace_id[i] = (uint8_t)i;
    static const rb_trace_rule rule = {.keeps_all = 1};
    static const rb_choice choice = {0, 1.0};
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert(rb_siphash(known[i].key, record.trace_id) == known[i].hash);
        rb_traces_config config = {
            .rules = &rule, .rule_count = 1, .trace_room = 8, .span_room = 8, .decided_room = 8, .look_room = 8};
        memcpy(config.key, known[i].key, sizeof config.key);
        rb_traces *table;
        assert(rb_traces_new(&config, &table, NULL) == RB_OK);
        rb_traces_choose(table, &choice);
        uint64_t mask = 1, stated, drew, number = 0;
        uint32_t fate, span, held;
        rb_look look = {.records = &record,
                        .masks = &mask,
                        .fates = &fate,
                        .stated = &stated,
                        .drew = &drew,
                        .spans = &span,
                        .held = &held,
                        .count = 1,
                        .now_nano = 1,
                        .slot_bytes = sizeof record,
                        .origin = (uint32_t)rb_traces_join(table)};
        assert(rb_traces_look(table, &look) == 1);
        rb_decided decided;
        assert(rb_traces_decided(table, &number, &decided, 1) == 1 && decided.hash == known[i].hash);
        rb_traces_free(table);
    }
    return 0;
}
