/*
 * kafka.h - which partition of Kafka a span goes to, as others choose it. Drain only, not installed.
 *
 * Both are functions of a key and the number of partitions alone, so that a fleet in which the Collector, librdkafka and
 * this drain write keeps a trace in one partition.
 */
#ifndef RINGBUF_DESTINATIONS_KAFKA_H
#define RINGBUF_DESTINATIONS_KAFKA_H

#include "ringbuf.h"

/* [ABI] */
enum rb_partitioner {
    /* FNV-1a, 32 bits, as a signed number; the remainder without its sign: sarama's hash partitioner, the Collector's
     * `sarama_compat`, librdkafka's `fnv1a`. */
    RB_PARTITION_FNV1A = 0,
    /* Murmur2 without its highest bit: Java's default for messages with a key, librdkafka's `murmur2`. */
    RB_PARTITION_MURMUR2 = 1
};
/* [/ABI] */

/* [COLD] */
/* Return a key's partition, below `partitions`, which is at least 1. */
uint32_t rb_key_partition(int by, const uint8_t *key, uint64_t bytes, uint32_t partitions);
/*
 * Write the partition of each record's trace: of the 32 hex digits of its id, which is the Collector's key.
 *
 * records: of slot_bytes each, which is at least an rb_record's.
 * partitions: 1 to 65536.
 * Returns RB_OK, or RB_E_ARGUMENT and writes nothing.
 */
int rb_trace_partitions(int by, const void *records, uint64_t count, uint64_t slot_bytes, uint32_t partitions,
                        uint16_t *to);
/* [/COLD] */

#endif
