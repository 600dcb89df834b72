/*
 * plan.c - the encode plan: checks a layout, and makes the constant parts of what otlp.c writes.
 *
 * Source: opentelemetry-proto, trace.proto and common.proto; protobuf, "Encoding".
 */
#include "otlp/otlp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_PLAN_BYTES (16 << 20) /* a hostile layout: a key of 100 kB, repeated in each of 50,000 labels */

/* What a span takes at most without its name and attributes; each term is a field with tag and length. */
#define SPAN_BOUND (1 + RB_MAX_VARINT_BYTES + 18 + 10 + 10 + 2 + 9 + 9 + 4 + 6)

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

static void build_varint(rb_builder *builder, uint64_t value)
{
    uint8_t bytes[RB_MAX_VARINT_BYTES];
    rb_build_bytes(builder, bytes, (size_t)(rb_put_varint(bytes, value, rb_varint_bytes(value)) - bytes));
}

static size_t utf8_bytes(const rb_text *text)
{
    int valid;
    return rb_utf8_bytes((const uint8_t *)text->data, text->bytes, &valid);
}

/* A length-delimited value: length and text. */
static void build_text(rb_builder *builder, const rb_text *text)
{
    size_t bytes = utf8_bytes(text);
    build_varint(builder, bytes);
    if (!reserve(builder, bytes))
        return;
    uint8_t *out = builder->bytes + builder->byte_count, *end = out + bytes;
    take(builder, rb_utf8_put(out, end, (const uint8_t *)text->data, text->bytes), end);
}

static void build_tag(rb_builder *builder, uint8_t tag) { rb_build_bytes(builder, &tag, 1); }

/* What a KeyValue begins with: the key, and the tag of the AnyValue. */
static void build_key(rb_builder *builder, const rb_text *key)
{
    build_tag(builder, KEY_VALUE_KEY);
    build_text(builder, key);
    build_tag(builder, KEY_VALUE_VALUE);
}

/*
 * What an attribute begins with, up to and with the value's own tag; `value_bytes` is what follows that tag. Returns
 * how many bytes the attribute has in all.
 */
static uint64_t build_head(rb_builder *builder, const rb_text *key, uint8_t value_tag, uint64_t value_bytes)
{
    size_t start = builder->byte_count, key_bytes = utf8_bytes(key);
    key_bytes = 1 + rb_varint_bytes(key_bytes) + key_bytes + 1;
    build_tag(builder, SPAN_ATTRIBUTE);
    build_varint(builder, key_bytes + rb_varint_bytes(1 + value_bytes) + 1 + value_bytes);
    build_key(builder, key);
    build_varint(builder, 1 + value_bytes);
    build_tag(builder, value_tag);
    return (builder->byte_count - start) + value_bytes;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/*
 * The pieces of an attribute:
 *   bool     the whole attribute: false, true
 *   label    the whole attribute: one for each label
 *   integer  up to the varint: one for each of its lengths, 1 to 10; u64: then one with a string of 19 and of 20 digits
 *   f64      up to the value
 *   hex      up to the digits
 *   str, bytes  key and the tag of the AnyValue: what lies around depends on the length
 *   otlp, scope  none
 * Returns the most bytes that the attribute takes in a record.
 */
static uint64_t build_attribute(rb_builder *builder, const rb_plan_attribute *attribute)
{
    const rb_text *key = &attribute->key;
    uint64_t bound = 0;
    switch (attribute->type) {
    case RB_TYPE_BOOL:
        for (uint8_t value = 0; value <= 1; value++) {
            bound = build_head(builder, key, VALUE_BOOL, 1);
            build_varint(builder, value);
            rb_build_piece(builder);
        }
        return bound;
    case RB_TYPE_LABEL:
        for (uint32_t i = 0; i < attribute->label_count && builder->status == RB_OK; i++) {
            size_t bytes = utf8_bytes(&attribute->labels[i]);
            bound = larger(bound, build_head(builder, key, VALUE_STRING, rb_varint_bytes(bytes) + bytes));
            build_text(builder, &attribute->labels[i]);
            rb_build_piece(builder);
        }
        return bound;
    case RB_TYPE_F64:
        bound = build_head(builder, key, VALUE_DOUBLE, 8);
        rb_build_piece(builder);
        return bound;
    case RB_TYPE_HEX: {
        uint64_t digits = 2 * (uint64_t)attribute->size;
        bound = build_head(builder, key, VALUE_STRING, rb_varint_bytes(digits) + digits);
        build_varint(builder, digits);
        rb_build_piece(builder);
        return bound;
    }
    case RB_TYPE_STR:
    case RB_TYPE_BYTES:
        build_key(builder, key);
        return rb_build_piece(builder) + 2 + 3 * RB_MAX_VARINT_BYTES + 3 * (uint64_t)attribute->size;
    case RB_TYPE_OTLP: /* copied; a status message, whose length may grow by that of the code, gets a shorter one */
        return attribute->size + RB_MAX_VARINT_BYTES;
    case RB_TYPE_SCOPE:
        return 0;
    default:
        for (uint32_t bytes = 1; bytes <= RB_MAX_VARINT_BYTES; bytes++) {
            bound = build_head(builder, key, VALUE_INT, bytes);
            rb_build_piece(builder);
        }
        for (uint8_t digits = 19; attribute->type == RB_TYPE_U64 && digits <= 20; digits++) {
            bound = build_head(builder, key, VALUE_STRING, 1 + (uint64_t)digits);
            build_varint(builder, digits);
            rb_build_piece(builder);
        }
        return bound;
    }
}

/* How many bytes of a record a value takes; 0 when the attribute is not sound. */
static uint64_t value_bytes(const rb_plan_attribute *attribute)
{
    switch (attribute->type) {
    case RB_TYPE_BOOL:
    case RB_TYPE_I8:
    case RB_TYPE_U8:
        return 1;
    case RB_TYPE_I16:
    case RB_TYPE_U16:
        return 2;
    case RB_TYPE_I32:
    case RB_TYPE_U32:
        return 4;
    case RB_TYPE_I64:
    case RB_TYPE_U64:
    case RB_TYPE_F64:
        return 8;
    case RB_TYPE_LABEL:
        return attribute->labels != NULL && (attribute->size == 1 || attribute->size == 2) ? attribute->size : 0;
    case RB_TYPE_HEX:
        return attribute->size;
    case RB_TYPE_STR:
    case RB_TYPE_BYTES:
    case RB_TYPE_OTLP:
    case RB_TYPE_SCOPE:
        return 2 + (uint64_t)attribute->size;
    default:
        return 0;
    }
}

static int is_text(const rb_text *text)
{
    return text->bytes <= RB_MAX_JSON_BYTES && (text->data != NULL || text->bytes == 0);
}

static const char *attribute_fault(const rb_plan_config *config, const rb_plan_attribute *attribute)
{
    uint64_t bytes = value_bytes(attribute);
    if (bytes == 0)
        return "no such type, or no such size of it";
    if (attribute->offset < RB_CORE_BYTES || attribute->offset + bytes > config->slot_bytes)
        return "lies outside the slot's attribute bytes";
    if (!is_text(&attribute->key))
        return "key too long";
    for (uint32_t i = 0; attribute->type == RB_TYPE_LABEL && i < attribute->label_count; i++)
        if (!is_text(&attribute->labels[i]))
            return "label too long";
    return NULL;
}

static int refuse(rb_error *error, const char *part, uint32_t index, const char *fault)
{
    if (error != NULL) {
        *error = (rb_error){.status = RB_E_ARGUMENT};
        snprintf(error->detail, sizeof error->detail, "%s %u: %s", part, index, fault);
    }
    return RB_E_ARGUMENT;
}

static int check_config(const rb_plan_config *config, rb_error *error)
{
    if (config->slot_bytes < RB_CORE_BYTES || config->slot_bytes > RB_MAX_SLOT_BYTES || config->slot_bytes % 64)
        return refuse(error, "slot_bytes", config->slot_bytes, "no multiple of 64 within the limits");
    if (config->span_name_count < 1 || config->span_name_count > 65536 || config->span_names == NULL)
        return refuse(error, "span_name_count", config->span_name_count, "not between 1 and 65536");
    if (config->attribute_count > RB_MAX_ATTRIBUTES || (config->attribute_count && config->attributes == NULL))
        return refuse(error, "attribute_count", config->attribute_count, "too many");
    for (uint32_t i = 0; i < config->span_name_count; i++)
        if (!is_text(&config->span_names[i]))
            return refuse(error, "span name", i, "too long");
    uint32_t otlp_count = 0;
    for (uint32_t i = 0; i < config->attribute_count; i++) {
        const char *fault = attribute_fault(config, &config->attributes[i]);
        if (fault != NULL)
            return refuse(error, "attribute", i, fault);
        otlp_count += config->attributes[i].type == RB_TYPE_OTLP;
        if (otlp_count > 1)
            return refuse(error, "attribute", i, "a second one of type otlp");
    }
    return RB_OK;
}

/* Make all pieces; first[i] becomes the index of attribute i's first one for protobuf, and of its first for JSON. */
static void build(rb_builder *builder, const rb_plan_config *config, rb_plan *plan, uint32_t first[][2])
{
    uint64_t longest = 0;
    for (uint32_t i = 0; i < config->span_name_count && builder->status == RB_OK; i++) {
        build_tag(builder, SPAN_NAME);
        build_text(builder, &config->span_names[i]);
        longest = larger(longest, rb_build_piece(builder));
    }
    plan->protobuf_bound = SPAN_BOUND + longest + RB_END_SLACK;
    plan->json_bound = rb_json_span_bound() + rb_build_json_names(builder, config) + RB_END_SLACK;
    for (uint32_t i = 0; i < config->attribute_count && builder->status == RB_OK; i++) {
        const rb_plan_attribute *attribute = &config->attributes[i];
        first[i][0] = builder->piece_count;
        plan->protobuf_bound += build_attribute(builder, attribute);
        first[i][1] = builder->piece_count;
        plan->json_bound += rb_build_json_attribute(builder, attribute);
    }
    if (builder->status == RB_OK && reserve(builder, 0))
        memset(builder->bytes + builder->byte_count, 0, RB_COPY_SLACK);
}

/* Turn places in the builder into addresses; the plan takes the builder's bytes. */
static int settle(rb_builder *builder, const rb_plan_config *config, rb_plan *plan, uint32_t first[][2])
{
    plan->pieces = calloc(builder->piece_count, sizeof *plan->pieces);
    if (plan->pieces == NULL)
        return RB_E_SYSTEM;
    plan->bytes = builder->bytes;
    for (uint32_t i = 0, start = 0; i < builder->piece_count; start = builder->ends[i++])
        plan->pieces[i] = (rb_piece){plan->bytes + start, builder->ends[i] - start};
    plan->slot_bytes = config->slot_bytes;
    plan->span_name_count = config->span_name_count;
    plan->known = (uint32_t)(((uint64_t)1 << config->attribute_count) - 1);
    plan->protobuf_names = plan->pieces;
    plan->json_names = plan->pieces + config->span_name_count;
    for (uint32_t i = 0; i < config->attribute_count; i++) {
        const rb_plan_attribute *attribute = &config->attributes[i];
        int wide = attribute->type == RB_TYPE_LABEL && attribute->size == 2;
        plan->ops[i] = (rb_op){.type = wide ? (uint32_t)RB_OP_LABEL16 : attribute->type,
                               .offset = attribute->offset,
                               .size = attribute->size,
                               .label_count = attribute->label_count,
                               .protobuf = plan->pieces + first[i][0],
                               .json = plan->pieces + first[i][1]};
        if (attribute->type == RB_TYPE_OTLP) {
            plan->otlp = plan->ops[i];
            plan->otlp_bit = (uint32_t)1 << i;
        }
        if (attribute->type == RB_TYPE_OTLP || attribute->type == RB_TYPE_SCOPE)
            plan->known &= ~((uint32_t)1 << i);
    }
    return RB_OK;
}

int rb_plan_new(const rb_plan_config *config, rb_plan **plan_out, rb_error *error)
{
    if (config == NULL || plan_out == NULL)
        return RB_E_ARGUMENT;
    int status = check_config(config, error);
    if (status != RB_OK)
        return status;
    rb_builder builder = {0};
    uint32_t first[RB_MAX_ATTRIBUTES][2];
    rb_plan *plan = calloc(1, sizeof *plan);
    if (plan != NULL)
        build(&builder, config, plan, first);
    status = plan == NULL ? RB_E_SYSTEM : builder.status;
    if (status == RB_OK)
        status = settle(&builder, config, plan, first);
    free(builder.ends);
    if (status == RB_OK) {
        *plan_out = plan;
        return RB_OK;
    }
    if (plan == NULL || plan->bytes == NULL)
        free(builder.bytes);
    rb_plan_free(plan);
    if (error != NULL) {
        *error = (rb_error){.status = status, .os_errno = status == RB_E_SYSTEM ? ENOMEM : 0};
        snprintf(error->detail, sizeof error->detail, "%s",
                 status == RB_E_TOO_LARGE ? "names, keys and labels would take more than 16 MiB" : "memory is short");
    }
    return status;
}

void rb_plan_free(rb_plan *plan)
{
    if (plan == NULL)
        return;
    free(plan->bytes);
    free(plan->pieces);
    free(plan);
}

uint64_t rb_plan_protobuf_bound(const rb_plan *plan) { return plan == NULL ? 0 : plan->protobuf_bound; }

uint64_t rb_plan_json_bound(const rb_plan *plan) { return plan == NULL ? 0 : plan->json_bound; }
