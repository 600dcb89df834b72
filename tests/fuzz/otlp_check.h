/* The encoder's output, read back by nothing of the encoder. Whatever is not as OTLP has it ends the process. */
#ifndef OTLP_CHECK_H
#define OTLP_CHECK_H

#include <stddef.h>
#include <stdint.h>

/* What a request holds: the same numbers whether it is protobuf or JSON. */
struct otlp_counts {
    uint64_t spans;
    uint64_t attributes;
};

/* `ScopeSpans.spans` fields, one behind the other. */
struct otlp_counts otlp_check_protobuf(const uint8_t *data, size_t bytes);

/* `Span` objects with commas between them. */
struct otlp_counts otlp_check_json(const uint8_t *data, size_t bytes);

#endif
