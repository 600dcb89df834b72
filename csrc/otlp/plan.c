/*
 * plan.c - the encode plan: checks a layout, and has the constant parts made of what protobuf.c and json.c write.
 */
#include "otlp/builder.h"
#include "otlp/json.h"
#include "otlp/protobuf.h"
#include "shared/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

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

static int check_config(const rb_plan_config *config, rb_error *error)
{
    if (config->slot_bytes < RB_CORE_BYTES || config->slot_bytes > RB_MAX_SLOT_BYTES || config->slot_bytes % 64)
        return rb_fail(error, RB_E_ARGUMENT, 0, "slot_bytes %u: no multiple of 64 within the limits",
                       config->slot_bytes);
    if (config->span_name_count < 1 || config->span_name_count > 65536 || config->span_names == NULL)
        return rb_fail(error, RB_E_ARGUMENT, 0, "span_name_count %u: not between 1 and 65536", config->span_name_count);
    if (config->attribute_count > RB_MAX_ATTRIBUTES || (config->attribute_count && config->attributes == NULL))
        return rb_fail(error, RB_E_ARGUMENT, 0, "attribute_count %u: too many", config->attribute_count);
    for (uint32_t i = 0; i < config->span_name_count; i++)
        if (!is_text(&config->span_names[i]))
            return rb_fail(error, RB_E_ARGUMENT, 0, "span name %u: too long", i);
    if (config->root_threshold > RB_THRESHOLDS)
        return rb_fail(error, RB_E_ARGUMENT, 0, "root_threshold is above 1 + the highest threshold");
    uint32_t otlp_count = 0;
    for (uint32_t i = 0; i < config->attribute_count; i++) {
        const char *fault = attribute_fault(config, &config->attributes[i]);
        if (fault != NULL)
            return rb_fail(error, RB_E_ARGUMENT, 0, "attribute %u: %s", i, fault);
        otlp_count += config->attributes[i].type == RB_TYPE_OTLP;
        if (otlp_count > 1)
            return rb_fail(error, RB_E_ARGUMENT, 0, "attribute %u: a second one of type otlp", i);
    }
    return RB_OK;
}

#define RB_MAX_STATE_BYTES (sizeof "ot=th:0123456789abcd")

/* The tracestate that states a threshold: up to 14 digits, those at the end that are zero left out. Returns its bytes. */
static size_t state_of(uint64_t threshold, char state[RB_MAX_STATE_BYTES])
{
    size_t bytes = (size_t)snprintf(state, RB_MAX_STATE_BYTES, "ot=th:%014llx", (unsigned long long)threshold);
    while (bytes > sizeof "ot=th:0" - 1 && state[bytes - 1] == '0')
        bytes--;
    return bytes;
}

/* Make all pieces; first[i] becomes the index of attribute i's first one for protobuf, and of its first for JSON. */
static void build(rb_builder *builder, const rb_plan_config *config, rb_plan *plan, uint32_t first[][2])
{
    plan->protobuf_bound = rb_protobuf_span_bound() + rb_build_protobuf_names(builder, config) + RB_END_SLACK;
    plan->json_bound = rb_json_span_bound() + rb_build_json_names(builder, config) + RB_END_SLACK;
    for (uint32_t i = 0; i < config->attribute_count && builder->status == RB_OK; i++) {
        const rb_plan_attribute *attribute = &config->attributes[i];
        first[i][0] = builder->piece_count;
        plan->protobuf_bound += rb_build_protobuf_attribute(builder, attribute);
        first[i][1] = builder->piece_count;
        plan->json_bound += rb_build_json_attribute(builder, attribute);
    }
    if (config->root_threshold != 0) {
        char state[RB_MAX_STATE_BYTES];
        size_t bytes = state_of(config->root_threshold - 1, state);
        rb_build_protobuf_state(builder, state, bytes);
        rb_build_json_state(builder, state, bytes);
    }
    rb_build_slack(builder);
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
    plan->attributes = plan->known = (uint32_t)(((uint64_t)1 << config->attribute_count) - 1);
    plan->root_bit = (uint32_t)RB_PRESENT_ROOT_THRESHOLD & ~plan->attributes;
    plan->protobuf_names = plan->pieces;
    plan->json_names = plan->pieces + config->span_name_count;
    if (config->root_threshold != 0) {
        plan->protobuf_state = plan->pieces[builder->piece_count - 2]; /* the last two */
        plan->json_state = plan->pieces[builder->piece_count - 1];
        plan->root_threshold = config->root_threshold - 1;
    }
    for (uint32_t i = 0; i < config->attribute_count; i++) {
        const rb_plan_attribute *attribute = &config->attributes[i];
        int wide = attribute->type == RB_TYPE_LABEL && attribute->size == 2;
        plan->ops[i] =
            (rb_op){.type = wide ? (uint32_t)RB_OP_LABEL16 : attribute->type,
                    .offset = attribute->offset,
                    .size = attribute->type < RB_TYPE_STR ? (uint32_t)value_bytes(attribute) : attribute->size,
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
    if (status == RB_E_SYSTEM)
        return rb_fail(error, status, ENOMEM, "%m");
    return rb_fail(error, status, 0, "names, keys and labels would take more than 16 MiB");
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
