/*
 * fields.h - OTLP that a producer wrote itself: the values of `otlp` and `scope` attributes. Private.
 *
 * Such a value goes into the output as it is, and one malformed byte of it would make a receiver refuse the whole
 * request. So it is checked first, against a table of the fields that may be there; what passes can be copied as
 * protobuf and rendered as JSON without another look at a length.
 */
#ifndef RINGBUF_OTLP_FIELDS_H
#define RINGBUF_OTLP_FIELDS_H

#include "otlp/output.h"

/* The messages that a value may have; the first two are what the value itself is, without what the ring adds. */
enum rb_otlp_message {
    RB_OTLP_SPAN,
    RB_OTLP_SCOPE_SPANS,
    RB_OTLP_SCOPE,
    RB_OTLP_KEY_VALUE,
    RB_OTLP_ANY_VALUE,
    RB_OTLP_ARRAY_VALUE,
    RB_OTLP_KEY_VALUE_LIST,
    RB_OTLP_EVENT,
    RB_OTLP_LINK,
    RB_OTLP_STATUS,
    RB_OTLP_MESSAGES
};

enum rb_otlp_kind {
    RB_OTLP_NO_FIELD, /* the number is not allowed here */
    RB_OTLP_TEXT,
    RB_OTLP_BYTES,
    RB_OTLP_ID, /* `size` bytes, hex digits in JSON */
    RB_OTLP_NESTED,
    RB_OTLP_BOOL,
    RB_OTLP_INT64,
    RB_OTLP_UINT32,
    RB_OTLP_FIXED32,
    RB_OTLP_FIXED64,
    RB_OTLP_DOUBLE
};

typedef struct rb_otlp_field {
    uint8_t kind;
    uint8_t is_list;
    uint8_t is_written; /* in JSON with its default value too: one of a oneof */
    uint8_t size;       /* of an ID */
    uint8_t message;    /* of a NESTED one */
    const char *json;   /* "name": */
} rb_otlp_field;

/* By message and field number: all of them are below 16, so that every tag is one byte. */
#define RB_OTLP_NUMBERS 16
extern const rb_otlp_field rb_otlp_fields[RB_OTLP_MESSAGES][RB_OTLP_NUMBERS];

/* An AnyValue may lie in so many others: readers bound the depth too, at 100 messages or fewer. */
#define RB_OTLP_MAX_DEPTH 16

/* The fields of a sound `otlp` value, in the order of their numbers; each with its tag, `data` NULL when absent. */
typedef struct rb_otlp_parts {
    rb_piece trace_state;
    rb_piece name;
    rb_piece lists; /* 9 to 14: attributes, events, links and how many of them were dropped */
    rb_piece status;
} rb_otlp_parts;

/* Whether `data` is a sound value of this attribute type; `parts`, for RB_TYPE_OTLP, may be NULL. */
int rb_otlp_split(uint32_t type, const uint8_t *data, size_t bytes, rb_otlp_parts *parts);

/* What a length-delimited field holds; nothing for an absent one. */
rb_piece rb_otlp_payload(const rb_piece *field);

#endif
