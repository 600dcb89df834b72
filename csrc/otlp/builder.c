/*
 * builder.c - pieces, one behind the other in memory that grows.
 */
#include "otlp/builder.h"
#include "otlp/text.h"

#include <stdlib.h>

#define MAX_PLAN_BYTES (16 << 20) /* a hostile layout: a key of 100 kB, repeated in each of 50,000 labels */

static int reserve(rb_builder *builder, size_t bytes)
{
    if (builder->status != RB_OK)
        return 0;
    if (builder->byte_count + bytes > MAX_PLAN_BYTES) {
        builder->status = RB_E_TOO_LARGE;
        return 0;
    }
    size_t needed = builder->byte_count + bytes + RB_COPY_SLACK;
    if (needed > builder->byte_room) {
        uint8_t *grown = realloc(builder->bytes, 2 * needed);
        if (grown == NULL) {
            builder->status = RB_E_SYSTEM;
            return 0;
        }
        builder->bytes = grown;
        builder->byte_room = 2 * needed;
    }
    return 1;
}

void rb_build_bytes(rb_builder *builder, const void *data, size_t bytes)
{
    if (bytes && reserve(builder, bytes))
        builder->byte_count = (size_t)(rb_put(builder->bytes + builder->byte_count, data, bytes) - builder->bytes);
}

/* What a writer wrote. */
static void take(rb_builder *builder, const uint8_t *stop, const uint8_t *end)
{
    if (stop > end)
        builder->status = RB_E_TOO_LARGE;
    else
        builder->byte_count = (size_t)(stop - builder->bytes);
}

void rb_build_utf8(rb_builder *builder, const rb_text *text, size_t bytes)
{
    if (!reserve(builder, bytes))
        return;
    uint8_t *out = builder->bytes + builder->byte_count, *end = out + bytes;
    take(builder, rb_utf8_put(out, end, (const uint8_t *)text->data, text->bytes), end);
}

void rb_build_json_text(rb_builder *builder, const rb_text *text)
{
    size_t most = 6 * (size_t)text->bytes;
    if (!reserve(builder, most))
        return;
    uint8_t *out = builder->bytes + builder->byte_count, *end = out + most;
    take(builder, rb_json_text_put(out, end, (const uint8_t *)text->data, text->bytes), end);
}

uint64_t rb_build_piece(rb_builder *builder)
{
    if (builder->status == RB_OK && builder->piece_count == builder->piece_room) {
        uint32_t room = 2 * builder->piece_room + 64;
        uint32_t *grown = realloc(builder->ends, room * sizeof *grown);
        if (grown == NULL)
            builder->status = RB_E_SYSTEM;
        else {
            builder->ends = grown;
            builder->piece_room = room;
        }
    }
    if (builder->status != RB_OK)
        return 0;
    size_t start = builder->piece_count ? builder->ends[builder->piece_count - 1] : 0;
    builder->ends[builder->piece_count++] = (uint32_t)builder->byte_count;
    return builder->byte_count - start;
}

void rb_build_slack(rb_builder *builder)
{
    if (reserve(builder, 0))
        memset(builder->bytes + builder->byte_count, 0, RB_COPY_SLACK);
}
