/*
 * destinations.c - where the spans of a trace go, and records in the order of where they go.
 */
#include "otlp/record.h"

/* The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit of the result hangs on every bit of the word. */
static inline uint64_t mixed(uint64_t word)
{
    word = (word ^ word >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    word = (word ^ word >> 27) * UINT64_C(0x94d049bb133111eb);
    return word ^ word >> 31;
}

static inline const uint8_t *record_at(const void *records, uint64_t i, uint32_t slot_bytes)
{
    return (const uint8_t *)records + i * slot_bytes;
}

static int are_records(const void *records, uint64_t count, uint32_t slot_bytes)
{
    return slot_bytes >= RB_CORE_BYTES && slot_bytes <= RB_MAX_SLOT_BYTES && (count == 0 || records != NULL);
}

int rb_rendezvous(const void *records, uint64_t count, uint32_t slot_bytes, const uint64_t *seeds, uint32_t seed_count,
                  uint16_t *destinations)
{
    int is_sound = are_records(records, count, slot_bytes) && seeds != NULL && destinations != NULL;
    if (!is_sound || seed_count == 0 || seed_count > UINT16_MAX)
        return RB_E_ARGUMENT;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t halves[2];
        memcpy(halves, record_at(records, i, slot_bytes) + offsetof(rb_record, trace_id), sizeof halves);
        uint64_t highest = 0;
        uint32_t home = 0;
        for (uint32_t d = 0; d < seed_count; d++) {
            uint64_t weight = mixed(mixed(halves[0] ^ seeds[d]) + halves[1]);
            if (d == 0 || weight > highest || (weight == highest && seeds[d] < seeds[home])) {
                highest = weight;
                home = d;
            }
        }
        destinations[i] = (uint16_t)home;
    }
    return RB_OK;
}

int rb_group(const void *records, uint64_t count, uint32_t slot_bytes, const uint16_t *destinations,
             uint32_t destination_count, void *out, uint64_t *ends)
{
    int is_sound = are_records(records, count, slot_bytes) && ends != NULL && (count == 0 || (destinations && out));
    if (!is_sound || destination_count == 0 || destination_count > UINT16_MAX)
        return RB_E_ARGUMENT;
    memset(ends, 0, destination_count * sizeof *ends);
    for (uint64_t i = 0; i < count; i++) {
        if (destinations[i] >= destination_count)
            return RB_E_ARGUMENT;
        ends[destinations[i]]++;
    }
    uint64_t start = 0;
    for (uint32_t d = 0; d < destination_count; d++) { /* where each begins: it ends there once its records are in */
        uint64_t here = ends[d];
        ends[d] = start;
        start += here;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t to = ends[destinations[i]]++;
        memcpy((uint8_t *)out + to * slot_bytes, record_at(records, i, slot_bytes), slot_bytes);
    }
    return RB_OK;
}
