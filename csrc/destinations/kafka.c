/*
 * kafka.c - FNV-1a and Murmur2 of a trace's id, with the rules for signs that make a partition of them.
 *
 * Sources: draft-eastlake-fnv; MurmurHash2 by Austin Appleby, with the seed of Kafka's
 * org.apache.kafka.common.utils.Utils; tests/unit/exporters/kafka/test_partition.py has golden values.
 */
#include "destinations/kafka.h"

#include <string.h>

#include "otlp/text.h"

#define FNV_OFFSET 0x811c9dc5u
#define FNV_PRIME 0x01000193u
#define MURMUR_SEED 0x9747b28cu
#define MURMUR_M 0x5bd1e995u
#define MURMUR_R 24

static uint32_t fnv1a(const uint8_t *key, uint64_t bytes)
{
    uint32_t hash = FNV_OFFSET;
    for (uint64_t i = 0; i < bytes; i++)
        hash = (hash ^ key[i]) * FNV_PRIME;
    return hash;
}

static uint32_t murmur2(const uint8_t *key, uint64_t bytes)
{
    uint32_t hash = MURMUR_SEED ^ (uint32_t)bytes;
    for (; bytes >= 4; key += 4, bytes -= 4) {
        uint32_t word;
        memcpy(&word, key, 4);
        word *= MURMUR_M;
        word ^= word >> MURMUR_R;
        hash = hash * MURMUR_M ^ word * MURMUR_M;
    }
    if (bytes > 2)
        hash ^= (uint32_t)key[2] << 16;
    if (bytes > 1)
        hash ^= (uint32_t)key[1] << 8;
    if (bytes > 0)
        hash = (hash ^ key[0]) * MURMUR_M;
    hash = (hash ^ hash >> 13) * MURMUR_M;
    return hash ^ hash >> 15;
}

uint32_t rb_key_partition(int by, const uint8_t *key, uint64_t bytes, uint32_t partitions)
{
    if (by == RB_PARTITION_MURMUR2)
        return (murmur2(key, bytes) & 0x7fffffffu) % partitions;
    uint32_t hash = fnv1a(key, bytes);
    /* The number without its sign, in unsigned arithmetic: the lowest one has none as a signed number. */
    return (hash >> 31 ? 0u - hash : hash) % partitions;
}

int rb_trace_partitions(int by, const void *records, uint64_t count, uint64_t slot_bytes, uint32_t partitions,
                        uint16_t *to)
{
    if (partitions < 1 || partitions > 65536 || slot_bytes < sizeof(rb_record) ||
        (count && (records == NULL || to == NULL)))
        return RB_E_ARGUMENT;
    const uint8_t *record = records;
    for (uint64_t i = 0; i < count; i++, record += slot_bytes) {
        uint8_t key[32];
        rb_put_hex16(key, record + offsetof(rb_record, trace_id));
        to[i] = (uint16_t)rb_key_partition(by, key, sizeof key, partitions);
    }
    return RB_OK;
}
