/*
 * builder.h - makes the pieces of a plan. Private.
 */
#ifndef RINGBUF_OTLP_BUILDER_H
#define RINGBUF_OTLP_BUILDER_H

#include "otlp/pieces.h"

/*
 * The constant parts while they grow, and where in `bytes` each piece ends; it begins where the one before it ends. Once
 * memory is short or the limit reached, `status` says so and nothing grows.
 */
typedef struct rb_builder {
    uint8_t *bytes;
    uint32_t *ends;
    size_t byte_count;
    size_t byte_room;
    uint32_t piece_count;
    uint32_t piece_room;
    int status;
} rb_builder;

void rb_build_bytes(rb_builder *builder, const void *data, size_t bytes);
/* `bytes` is what rb_utf8_bytes says. */
void rb_build_utf8(rb_builder *builder, const rb_text *text, size_t bytes);
void rb_build_json_text(rb_builder *builder, const rb_text *text);
/* What was built since the last piece becomes one. Returns its size. */
uint64_t rb_build_piece(rb_builder *builder);

/* Zeros behind the last piece, for those that copy a piece at a fixed length. */
void rb_build_slack(rb_builder *builder);

#endif
