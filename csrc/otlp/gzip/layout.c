#include "otlp/gzip/layout.h"
#include "shared/crc32.h"
#include "shared/error.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

enum {
    WORD_BYTES = 8,
    MOST_PIECES = 4096 /* of a layout: each writer has its own, of 64 bytes or so */
};

/* ---- pieces ---- */

/* How many pieces protobuf.c has for an attribute: those of JSON come next. */
static uint32_t pieces_of(const rb_op *op) { return (uint32_t)(op->json - op->protobuf); }

/* Text may be like text before it in parts, which is not looked for; a longer hex would not fit a key. */
static int is_direct(const rb_op *op)
{
    if (op->type == RB_TYPE_HEX)
        return op->size <= WORD_BYTES * (RB_KEY_WORDS - 1);
    return op->type < RB_TYPE_STR || op->type == RB_OP_LABEL16;
}

static int make_pieces(rb_gzip_layout *layout, uint32_t attribute_count)
{
    const rb_op *ops = layout->plan->ops;
    size_t count = 1;
    for (uint32_t i = 0; i < attribute_count; i++)
        count += pieces_of(&ops[i]);
    rb_gzip_piece *next = layout->pieces = calloc(count, sizeof *layout->pieces);
    for (uint32_t i = 0; next != NULL && i < attribute_count; i++) {
        layout->first[i] = next;
        for (uint32_t j = 0; j < pieces_of(&ops[i]); j++, next++) {
            next->data = ops[i].protobuf[j].data;
            next->bytes = (uint32_t)ops[i].protobuf[j].bytes;
            next->remainder = (uint64_t)rb_crc32_add(0, next->data, next->bytes) << 32;
        }
    }
    return next != NULL;
}

/* ---- runs ---- */

/* Bytes of the record join the key. 0: it would have too many words. */
static int add_to_key(rb_run *run, uint32_t slot_bytes, uint32_t offset, uint32_t bytes)
{
    for (uint32_t at = offset; at < offset + bytes; at++) {
        uint32_t word = 0;
        while (word < run->words && (at < run->offsets[word] || at >= run->offsets[word] + WORD_BYTES))
            word++;
        if (word == RB_KEY_WORDS)
            return 0;
        if (word == run->words) {
            run->offsets[word] = at < slot_bytes - WORD_BYTES ? at : slot_bytes - WORD_BYTES;
            run->words++;
        }
        run->masks[word] |= (uint64_t)0xff << 8 * (at - run->offsets[word]);
    }
    return 1;
}

/* An attribute, or behind the last one status and flags. */
static int add_to_run(rb_run *run, const rb_plan *plan, uint32_t index, uint32_t attribute_count)
{
    if (index == attribute_count) {
        run->is_last = 1;
        return add_to_key(run, plan->slot_bytes, offsetof(rb_record, status), 1) &&
               add_to_key(run, plan->slot_bytes, offsetof(rb_record, flags), 4);
    }
    run->attributes |= (uint32_t)1 << index;
    run->masks[0] |= (uint64_t)1 << index;
    return add_to_key(run, plan->slot_bytes, plan->ops[index].offset, plan->ops[index].size);
}

static int is_hex(const rb_plan *plan, uint32_t index, uint32_t attribute_count)
{
    return index < attribute_count && plan->ops[index].type == RB_TYPE_HEX;
}

/* A hex is a run by itself, since it varies apart from what lies around it; of the rest as many as a key has room for. */
static int make_runs(rb_gzip_layout *layout, uint32_t attribute_count)
{
    const rb_plan *plan = layout->plan;
    /* The first word has the bits of the attributes, the name, the kind and the status: see rb_record. */
    const rb_run empty = {.words = 1, .offsets = {offsetof(rb_record, present)}, .is_keyed = 1};
    rb_run *run = layout->runs;
    *run = empty;
    for (uint32_t i = 0; i <= attribute_count; i++) {
        rb_run longer = *run;
        if ((i && (is_hex(plan, i, attribute_count) || is_hex(plan, i - 1, attribute_count))) ||
            !add_to_run(&longer, plan, i, attribute_count)) {
            *++run = longer = empty;
            add_to_run(&longer, plan, i, attribute_count);
        }
        *run = longer;
    }
    layout->run_count = (uint32_t)(run - layout->runs) + 1;
    for (uint32_t i = 0; i < layout->run_count; i++)
        if ((layout->runs[i].met = calloc(RB_MET_RUNS, sizeof(rb_met_run))) == NULL)
            return 0;
    return 1;
}

/* ---- a layout ---- */

int rb_gzip_layout_new(rb_gzip *gzip, const rb_plan *plan, rb_gzip_layout **layout_out, rb_error *error)
{
    if (gzip == NULL || plan == NULL || layout_out == NULL)
        return RB_E_ARGUMENT;
    uint32_t attribute_count = (uint32_t)__builtin_popcountll(plan->attributes), pieces = 0;
    for (uint32_t i = 0; i < attribute_count; i++)
        if (!is_direct(&plan->ops[i]))
            return rb_fail(error, RB_E_ARGUMENT, 0, "attribute %u is text, OTLP, or a hex of more than 24 bytes", i);
    for (uint32_t i = 0; i < attribute_count; i++)
        pieces += pieces_of(&plan->ops[i]); /* each has 65,536 at most */
    if (pieces > MOST_PIECES)
        return rb_fail(error, RB_E_TOO_LARGE, 0, "labels and lengths are %u pieces, more than %u", pieces, MOST_PIECES);
    if (plan->protobuf_bound > RB_GZIP_MAX_SPAN_BYTES)
        return rb_fail(error, RB_E_TOO_LARGE, 0, "a span may take %llu bytes, more than %u",
                       (unsigned long long)plan->protobuf_bound, RB_GZIP_MAX_SPAN_BYTES);
    rb_gzip_layout *layout = calloc(1, sizeof *layout);
    if (layout != NULL) {
        layout->gzip = gzip;
        layout->plan = plan;
        layout->plain = malloc(plan->protobuf_bound);
        layout->state =
            (rb_gzip_piece){.data = plan->protobuf_state.data, .bytes = (uint32_t)plan->protobuf_state.bytes};
    }
    if (layout == NULL || layout->plain == NULL || !make_pieces(layout, attribute_count) ||
        !make_runs(layout, attribute_count)) {
        rb_gzip_layout_free(layout);
        return rb_fail(error, RB_E_SYSTEM, ENOMEM, "%m");
    }
    *layout_out = layout;
    return RB_OK;
}

void rb_gzip_layout_free(rb_gzip_layout *layout)
{
    if (layout == NULL)
        return;
    for (uint32_t i = 0; i < layout->run_count; i++)
        free(layout->runs[i].met);
    free(layout->pieces);
    free(layout->plain);
    free(layout);
}
