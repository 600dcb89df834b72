/*
 * How far an `otlp` may grow as JSON, worked out from the table of its fields, against the bound that a plan has for it.
 *
 * A rate is characters a byte. Beyond what it takes at a rate, each message has an excess: the characters of its best
 * value less rate * bytes. Fields of one message add up, so that the best value is made of those fields whose excess
 * is positive. A field that may be repeated must have none, or a longer value would have ever more: the least rate of
 * which that is true is the growth.
 */
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "otlp/fields.h"
#include "otlp/fields_json.h"
#include "otlp/wire.h"

#define SLOT_BYTES RB_MAX_SLOT_BYTES
#define MOST (SLOT_BYTES - RB_CORE_BYTES - 2)
#define BOUNDLESS (INT64_MAX / 1024)

/* A fraction: an excess is counted in parts of `per`. */
typedef struct rate {
    int64_t characters, per;
} rate;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t excess_of(rate rate, int64_t characters, int64_t bytes)
{
    return rate.per * characters - rate.characters * bytes;
}

/* Quotes, and the digits of the largest number that a varint of so many bytes holds. */
static int64_t int64_characters(int bytes)
{
    char digits[32];
    if (bytes == RB_MAX_VARINT_BYTES)
        return snprintf(digits, sizeof digits, "\"%lld\"", LLONG_MIN);
    return snprintf(digits, sizeof digits, "\"%llu\"", (1ULL << 7 * bytes) - 1);
}

static int64_t uint32_characters(int bytes)
{
    char digits[32];
    unsigned long long most = (1ULL << 7 * bytes) - 1;
    return snprintf(digits, sizeof digits, "%llu", most < UINT32_MAX ? most : UINT32_MAX);
}

/* Of a value that is no message, without its tag. */
static int64_t scalar_excess(rate rate, const rb_otlp_field *field)
{
    int64_t best = -BOUNDLESS;
    switch (field->kind) {
    case RB_OTLP_TEXT: /* control characters: \u0001 */
        if (excess_of(rate, 6, 1) > 0)
            return BOUNDLESS;
        return larger(excess_of(rate, 2 + 6, 1 + 1), field->is_written ? excess_of(rate, 2, 1) : -BOUNDLESS);
    case RB_OTLP_BYTES:
        if (excess_of(rate, 4, 3) > 0)
            return BOUNDLESS;
        return larger(excess_of(rate, 2 + 4, 1 + 1), excess_of(rate, 2, 1));
    case RB_OTLP_ID:
        return excess_of(rate, 2 + 2 * field->size, 1 + field->size);
    case RB_OTLP_BOOL:
        return excess_of(rate, 5, 1);
    case RB_OTLP_INT64:
        for (int bytes = 1; bytes <= RB_MAX_VARINT_BYTES; bytes++)
            best = larger(best, excess_of(rate, int64_characters(bytes), bytes));
        return best;
    case RB_OTLP_UINT32:
        for (int bytes = 1; bytes <= 5; bytes++)
            best = larger(best, excess_of(rate, uint32_characters(bytes), bytes));
        return best;
    case RB_OTLP_FIXED32:
        return excess_of(rate, (int64_t)strlen("4294967295"), 4);
    case RB_OTLP_FIXED64:
        return excess_of(rate, (int64_t)strlen("\"18446744073709551615\""), 8);
    case RB_OTLP_DOUBLE:
        return excess_of(rate, (int64_t)strlen("-1.7976931348623157e+308"), 8);
    default:
        abort();
    }
}

static int64_t message_excess(rate rate, uint32_t message, uint32_t depth);

/* A field with its tag, its name and a comma. */
static int64_t field_excess(rate rate, const rb_otlp_field *field, uint32_t depth)
{
    int64_t head = excess_of(rate, 1 + (int64_t)strlen(field->json), 1);
    if (field->kind != RB_OTLP_NESTED) {
        assert(!field->is_list);
        int64_t value = scalar_excess(rate, field);
        return value == BOUNDLESS ? BOUNDLESS : head + value;
    }
    int64_t inner = message_excess(rate, field->message, depth + (field->message == RB_OTLP_ANY_VALUE));
    if (inner == BOUNDLESS || inner == -BOUNDLESS)
        return inner;
    inner += excess_of(rate, 0, 1); /* its length */
    if (!field->is_list)
        return head + inner;
    int64_t element = inner + excess_of(rate, 1, 1); /* a comma and a tag */
    /* The first one's tag and comma are those of the field, and there are brackets. */
    return element > 0 ? BOUNDLESS : head + excess_of(rate, 2, 0) + inner;
}

/* The sum of what is worth it; of a link both ids, worth it or not, of an AnyValue one field; a list that is written
 * also without elements costs no byte. */
static int64_t members_excess(rate rate, uint32_t message, uint32_t depth)
{
    int64_t sum = 0, most = 0;
    for (uint32_t number = 0; number < RB_OTLP_NUMBERS; number++) {
        const rb_otlp_field *field = &rb_otlp_fields[message][number];
        if (field->kind == RB_OTLP_NO_FIELD)
            continue;
        int64_t excess = field_excess(rate, field, depth);
        if (excess == BOUNDLESS)
            return BOUNDLESS;
        most = larger(most, excess);
        int64_t absent = number == rb_json_written_list[message]
                             ? excess_of(rate, (int64_t)strlen(",[]") + (int64_t)strlen(field->json), 0)
                             : 0;
        sum += field->kind == RB_OTLP_ID ? excess : larger(excess, absent);
    }
    return message == RB_OTLP_ANY_VALUE ? most : sum;
}

/* With its braces, of which one takes the place of a comma, if there is any. */
static int64_t message_excess(rate rate, uint32_t message, uint32_t depth)
{
    if (depth > RB_OTLP_MAX_DEPTH)
        return -BOUNDLESS;
    int64_t members = members_excess(rate, message, depth);
    if (members == BOUNDLESS)
        return BOUNDLESS;
    int64_t braces = excess_of(rate, 2, 0), brace = excess_of(rate, 1, 0);
    return message == RB_OTLP_LINK ? brace + members : larger(braces, brace + members);
}

static rb_plan *make_plan(uint32_t otlp_bytes)
{
    rb_text name = {.data = "name", .bytes = 4};
    rb_plan_attribute otlp = {.type = RB_TYPE_OTLP, .offset = RB_CORE_BYTES, .size = otlp_bytes};
    rb_plan_config config = {.span_names = &name,
                             .span_name_count = 1,
                             .attributes = &otlp,
                             .attribute_count = otlp_bytes != 0,
                             .slot_bytes = SLOT_BYTES};
    rb_plan *plan = NULL;
    int status = rb_plan_new(&config, &plan, NULL);
    assert(status == RB_OK);
    return plan;
}

static int64_t bound_of(uint32_t otlp_bytes)
{
    rb_plan *plan = make_plan(otlp_bytes);
    int64_t bound = (int64_t)rb_plan_json_bound(plan);
    rb_plan_free(plan);
    return bound;
}

static void test_the_bound_is_above_the_best_value(void)
{
    int64_t growth = (bound_of(MOST) - bound_of(1)) / (MOST - 1);
    int64_t frame = bound_of(MOST) - bound_of(0) - growth * MOST;
    int64_t excess = members_excess((rate){growth, 1}, RB_OTLP_SPAN, 0);
    printf("%lld characters a byte and %lld; %lld are needed\n", (long long)growth, (long long)frame,
           (long long)excess);
    assert(excess < frame);
    assert(members_excess((rate){growth - 1, 1}, RB_OTLP_SPAN, 0) == BOUNDLESS);
}

/* An event without attributes, of which 127 were dropped: 4 bytes. */
static const uint8_t worst[] = {0x5a, 0x02, 0x20, 0x7f};
static const char worst_json[] = ",{\"attributes\":[],\"droppedAttributesCount\":127}";

static void test_the_event_is_the_best_value(void)
{
    rate rate = {sizeof worst_json - 1, sizeof worst};
    assert(members_excess(rate, RB_OTLP_SPAN, 0) != BOUNDLESS);
    rate.per *= 1000;
    rate.characters = rate.characters * 1000 - 1;
    assert(members_excess(rate, RB_OTLP_SPAN, 0) == BOUNDLESS);
}

/* Returns the characters. */
static int64_t encode_events(const rb_plan *plan, uint32_t events)
{
    static uint8_t record[SLOT_BYTES];
    rb_record core = {.trace_id = {1}, .span_id = {1}, .present = 1};
    uint16_t bytes = (uint16_t)(events * sizeof worst);
    memcpy(record, &core, sizeof core);
    memcpy(record + RB_CORE_BYTES, &bytes, 2);
    for (uint32_t i = 0; i < events; i++)
        memcpy(record + RB_CORE_BYTES + 2 + i * sizeof worst, worst, sizeof worst);
    uint64_t room = rb_plan_json_bound(plan), spans, invalid;
    uint8_t *out = malloc(room); /* of just this size: a sanitizer sees what goes beyond */
    assert(out != NULL);
    int64_t written = rb_encode_json(plan, record, 1, out, room, &spans, &invalid);
    assert(spans == 1 && invalid == 0 && written > 0 && (uint64_t)written <= room);
    free(out);
    return written;
}

static void test_a_slot_full_of_it_is_encoded(void)
{
    uint32_t most = MOST / sizeof worst;
    rb_plan *plan = make_plan(MOST);
    for (uint32_t events = 2; events <= most; events += 97)
        assert(encode_events(plan, events) - encode_events(plan, events - 1) == sizeof worst_json - 1);
    encode_events(plan, most);
    rb_plan_free(plan);
    plan = make_plan(most * sizeof worst);
    encode_events(plan, most);
    rb_plan_free(plan);
}

int main(void)
{
    test_the_bound_is_above_the_best_value();
    test_the_event_is_the_best_value();
    test_a_slot_full_of_it_is_encoded();
    return 0;
}
