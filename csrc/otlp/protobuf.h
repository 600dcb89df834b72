/*
 * protobuf.h - what a plan needs to have records written as protobuf. Private.
 */
#ifndef RINGBUF_OTLP_PROTOBUF_H
#define RINGBUF_OTLP_PROTOBUF_H

#include "otlp/builder.h"

/* Add the pieces of an attribute, and of the names. Return the most bytes that one takes in a record. */
uint64_t rb_build_protobuf_attribute(rb_builder *builder, const rb_plan_attribute *attribute);
uint64_t rb_build_protobuf_names(rb_builder *builder, const rb_plan_config *config);
/* Add the piece of a tracestate, which is part of the bound below. */
void rb_build_protobuf_state(rb_builder *builder, const char *state, size_t bytes);
/* The most bytes of a span without its name and attributes. */
uint64_t rb_protobuf_span_bound(void);

#endif
