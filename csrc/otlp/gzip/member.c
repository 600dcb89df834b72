/*
 * member.c - members, and the segments of which they are made: the spans of one ring, and what surrounds them.
 *
 * A segment is a stored block and a block of spans. In the stored one lie the tags and lengths that come before the
 * spans: it is written when these are known, into a gap. It begins at a whole byte and so ends. How long it is must be
 * known before, since matches reach over it: it is guessed, which is hardly ever wrong, and else all is done again.
 *
 * Source: RFC 1952; RFC 1951, sections 3.2.3 and 3.2.4; opentelemetry-proto, trace.proto.
 */
#include "otlp/gzip/member.h"
#include "otlp/gzip/crc.h"
#include "otlp/gzip/tokens.h"
#include "otlp/wire.h"
#include "shared/crc32.h"
#include "shared/error.h"

#include <errno.h>
#include <stdlib.h>

enum { RESOURCE_SPANS = 1 << 3 | 2, SCOPE_SPANS = 2 << 3 | 2 };
enum {
    LEAST_ROOM = 1 << 16,
    STORED_HEADER = 5,
    SAMPLE = 256,          /* spans that a code is learnt from */
    FEW = 64,              /* fewer spans do not pay for a code's header */
    OFTEN = 4,             /* a run that is in the window once in so many spans is worth its table */
    LEARN_AGAIN = 4096,    /* spans later, then after eight times as many */
    LEARN_LATEST = 1 << 20 /* but never more than this */
};

/* ---- memory ---- */

/* Room for so many bytes more. 0: none. */
static int reserve(rb_gzip *gzip, uint64_t bytes)
{
    size_t used = (size_t)(gzip->bits.next - gzip->out), room = (size_t)(gzip->out_end - gzip->out);
    if (bytes <= room - used)
        return 1;
    room = used + bytes > 2 * room ? used + bytes : 2 * room;
    uint8_t *grown = realloc(gzip->out, room + RB_BITS_SLACK);
    if (grown == NULL)
        return 0;
    gzip->out = grown;
    gzip->out_end = grown + room;
    gzip->bits.next = grown + used;
    return 1;
}

/* Nothing that came so far is in the window any more. */
static void forget(rb_gzip *gzip) { gzip->at += RB_FIRST_POSITION; }

int rb_gzip_is_supported(void) { return rb_has_clmul(); }

int rb_gzip_new(rb_gzip **gzip_out, rb_error *error)
{
    if (gzip_out == NULL || !rb_has_clmul())
        return RB_E_ARGUMENT;
    rb_gzip *gzip = calloc(1, sizeof *gzip);
    if (gzip == NULL || !reserve(gzip, LEAST_ROOM)) {
        free(gzip);
        return rb_fail(error, RB_E_SYSTEM, ENOMEM, "%m");
    }
    rb_code_fixed(&gzip->fixed);
    rb_crc_powers(gzip->powers + RB_GZIP_MAX_SPAN_BYTES, RB_GZIP_MAX_SPAN_BYTES);
    *gzip_out = gzip;
    return RB_OK;
}

void rb_gzip_free(rb_gzip *gzip)
{
    if (gzip == NULL)
        return;
    free(gzip->out);
    free(gzip);
}

/* ---- blocks ---- */

static void put_bytes(rb_bits *bits, const void *data, size_t bytes)
{
    memcpy(bits->next, data, bytes);
    bits->next += bytes;
}

/* A block begins with its code. Bits are at a whole byte. */
static void put_code(rb_bits *bits, const rb_code *code)
{
    put_bytes(bits, code->header, code->header_bits / 8);
    bits->held = code->header[code->header_bits / 8] & ((1u << code->header_bits % 8) - 1);
    bits->count = code->header_bits % 8;
}

/* From a sample, twice: which runs are worth their tables, then how often each symbol comes. */
static void learn(rb_gzip *gzip, rb_gzip_layout *layout, const uint8_t *records, uint64_t count)
{
    rb_symbol_counts counts = {0};
    for (uint32_t i = 0; i < layout->run_count; i++) {
        layout->runs[i].is_keyed = 1;
        layout->runs[i].near_count = 0;
    }
    rb_write_spans(gzip, layout, NULL, &counts, records, count);
    for (uint32_t i = 0; i < layout->run_count; i++)
        layout->runs[i].is_keyed = OFTEN * layout->runs[i].near_count >= count;
    counts = (rb_symbol_counts){0};
    counts.literals_and_lengths[RB_END_OF_BLOCK] = 1;
    gzip->spans = gzip->plain_bytes = 0;
    rb_write_spans(gzip, layout, NULL, &counts, records, count);
    rb_code_learn(&layout->code, &counts);
    layout->mean_bytes = gzip->spans ? gzip->plain_bytes / gzip->spans : 0;
    forget(gzip); /* these spans were not written */
}

/* The code of a segment: the layout's own once it is learnt, for more than a few spans. */
static const rb_code *code_for(rb_gzip *gzip, rb_gzip_layout *layout, const uint8_t *records, uint64_t count)
{
    if (count < FEW)
        return &gzip->fixed;
    if (layout->spans >= layout->next_learn) {
        learn(gzip, layout, records, count < SAMPLE ? count : SAMPLE);
        uint64_t next = layout->next_learn ? 8 * layout->next_learn : LEARN_AGAIN;
        layout->next_learn = next < LEARN_LATEST ? next : LEARN_LATEST;
        layout->spans = 0;
    }
    layout->spans += count;
    return &layout->code;
}

/* ---- segments ---- */

static uint8_t *put_text(uint8_t *out, const rb_text *text)
{
    if (text->bytes)
        memcpy(out, text->data, text->bytes);
    return out + text->bytes;
}

static uint8_t *put_field(uint8_t *out, uint8_t tag, uint64_t bytes)
{
    *out = tag;
    return rb_put_varint(out + 1, bytes, rb_varint_bytes(bytes));
}

/* What comes before so many bytes of spans, into gzip->head. Returns its bytes. */
static size_t make_head(rb_gzip *gzip, const rb_gzip_around *around, uint64_t spans_bytes)
{
    uint64_t scope_spans = around->scope.bytes + spans_bytes + around->scope_schema_url.bytes;
    uint64_t resource_spans =
        around->resource.bytes + 1 + rb_varint_bytes(scope_spans) + scope_spans + around->schema_url.bytes;
    uint8_t *out = put_text(put_field(gzip->head, RESOURCE_SPANS, resource_spans), &around->resource);
    return (size_t)(put_text(put_field(out, SCOPE_SPANS, scope_spans), &around->scope) - gzip->head);
}

/* What comes behind the spans, and the end of their block. Returns the CRC of spans and tail. */
static uint32_t put_tail(rb_gzip *gzip, const rb_code *code, const rb_gzip_around *around)
{
    rb_tokens tokens = {.bits = gzip->bits, .code = code, .at = gzip->at};
    uint32_t crc = rb_crc_reduce(gzip->remainder);
    const rb_text *texts[] = {&around->scope_schema_url, &around->schema_url};
    for (int i = 0; i < 2; i++) {
        rb_put_literals(&tokens, (const uint8_t *)texts[i]->data, texts[i]->bytes);
        crc = rb_crc32_add(crc, texts[i]->data, texts[i]->bytes);
        gzip->plain_bytes += texts[i]->bytes;
    }
    rb_bits_add(&tokens.bits, code->end, code->end_bits);
    rb_bits_store(&tokens.bits);
    gzip->bits = tokens.bits;
    gzip->at = tokens.at;
    return crc;
}

/*
 * The blocks of a segment, with a head of `expected` bytes. *head_bytes is how many it must have: if another number, or
 * without a span, what was written is of no use. RB_OK, RB_E_SYSTEM.
 */
static int put_segment(rb_gzip *gzip, rb_gzip_layout *layout, const rb_gzip_around *around, const rb_code *code,
                       const uint8_t *records, uint64_t count, size_t expected, size_t *head_bytes)
{
    size_t tail = around->scope_schema_url.bytes + (size_t)around->schema_url.bytes;
    if (!reserve(gzip, STORED_HEADER + expected + sizeof code->header + 2 * RB_BITS_SLACK))
        return RB_E_SYSTEM;
    rb_bits_align(&gzip->bits, 3); /* a stored block that is not the last: three zeros */
    uint16_t stored[] = {(uint16_t)expected, (uint16_t)~expected};
    put_bytes(&gzip->bits, stored, sizeof stored);
    size_t gap_at = (size_t)(gzip->bits.next - gzip->out);
    gzip->bits.next += expected;
    gzip->at += expected;
    put_code(&gzip->bits, code);
    gzip->remainder = gzip->plain_bytes = gzip->spans = 0;
    for (uint64_t taken; count > 0; records += taken * layout->plan->slot_bytes, count -= taken) {
        if (!reserve(gzip, RB_MOST_TOKEN_BYTES(layout->plan->protobuf_bound)))
            return RB_E_SYSTEM;
        taken = rb_write_spans(gzip, layout, code, NULL, records, count);
    }
    *head_bytes = make_head(gzip, around, gzip->plain_bytes);
    if (*head_bytes != expected || gzip->spans == 0)
        return RB_OK;
    if (!reserve(gzip, RB_MOST_TOKEN_BYTES(tail) + RB_BITS_SLACK))
        return RB_E_SYSTEM;
    uint32_t crc = put_tail(gzip, code, around);
    memcpy(gzip->out + gap_at, gzip->head, expected);
    gzip->crc = rb_crc_shift(rb_crc32_add(gzip->crc, gzip->head, expected), gzip->plain_bytes) ^ crc;
    gzip->member_bytes += expected + gzip->plain_bytes;
    return RB_OK;
}

int rb_gzip_segment(rb_gzip *gzip, rb_gzip_layout *layout, const rb_gzip_around *around, const void *records,
                    uint64_t count, uint64_t *spans, uint64_t *invalid)
{
    if (gzip == NULL || layout == NULL || layout->gzip != gzip || around == NULL || (records == NULL && count) ||
        spans == NULL || invalid == NULL || !gzip->is_whole)
        return RB_E_ARGUMENT;
    if ((uint64_t)around->resource.bytes + around->scope.bytes > RB_MOST_HEAD - 2 * (1 + RB_MAX_VARINT_BYTES))
        return RB_E_TOO_LARGE;
    gzip->is_whole = 0;
    if (!reserve(gzip, RB_MOST_TOKEN_BYTES(layout->plan->protobuf_bound)))
        return RB_E_SYSTEM;
    const rb_code *code = code_for(gzip, layout, records, count);
    size_t expected, head_bytes = make_head(gzip, around, layout->mean_bytes * count);
    size_t used = (size_t)(gzip->bits.next - gzip->out);
    const rb_bits bits = gzip->bits;
    do {
        expected = head_bytes;
        int status = put_segment(gzip, layout, around, code, records, count, expected, &head_bytes);
        if (status != RB_OK)
            return status;
        if (head_bytes != expected || gzip->spans == 0) { /* as if it had not been */
            gzip->bits = (rb_bits){bits.held, bits.count, gzip->out + used};
            forget(gzip);
        }
    } while (head_bytes != expected && gzip->spans != 0);
    *spans = gzip->spans;
    *invalid = count - gzip->spans;
    if (gzip->spans)
        layout->mean_bytes = gzip->plain_bytes / gzip->spans;
    gzip->is_whole = 1;
    return RB_OK;
}

/* ---- members ---- */

void rb_gzip_begin(rb_gzip *gzip)
{
    /* No name, no time; a compressor that is as fast as can be, on an unknown system. */
    static const uint8_t header[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255};
    gzip->bits = (rb_bits){0, 0, gzip->out};
    put_bytes(&gzip->bits, header, sizeof header);
    gzip->crc = UINT32_MAX;
    gzip->member_bytes = 0;
    gzip->is_whole = 1;
    forget(gzip);
}

int rb_gzip_finish(rb_gzip *gzip, const uint8_t **data, uint64_t *bytes, uint64_t *plain_bytes)
{
    if (gzip == NULL || data == NULL || bytes == NULL || plain_bytes == NULL || !gzip->is_whole)
        return RB_E_ARGUMENT;
    gzip->is_whole = 0;
    if (!reserve(gzip, 4 * RB_BITS_SLACK))
        return RB_E_SYSTEM;
    rb_bits_add(&gzip->bits, 1 | 1 << 1, 3 + 7); /* the last block, of the fixed code: its end, seven zeros */
    rb_bits_align(&gzip->bits, 0);
    uint32_t trailer[] = {~gzip->crc, (uint32_t)gzip->member_bytes};
    put_bytes(&gzip->bits, trailer, sizeof trailer);
    *data = gzip->out;
    *bytes = (uint64_t)(gzip->bits.next - gzip->out);
    *plain_bytes = gzip->member_bytes;
    return RB_OK;
}
