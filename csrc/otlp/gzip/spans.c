/*
 * spans.c - the tokens of spans, and their CRC.
 *
 * A span is always the same sequence, so nothing is searched: what is constant and what came before are matches, ids and
 * the low bytes of times are literals.
 *
 *   12 length 0a 10      match to the last span of that length
 *   trace id 12 08       match to where that trace stood
 *   span id              literals, or a match where a child named it as its parent
 *   [tracestate]         match to the last one
 *   [22 08 parent]       match to where it stood
 *   name [kind] 39       match to the last span of that name and kind
 *   start 41             its low bytes; the high ones and the tag match those of the span before
 *   end                  its low bytes; the high ones join the match of what comes next, where they stood before that, too
 *   runs                 each one match; a run that is not in the window goes by its attributes, which see layout.h
 *
 * First all parts are found, since the length stands in front; then they are written.
 */
#include "otlp/gzip/crc.h"
#include "otlp/gzip/member.h"
#include "otlp/gzip/tokens.h"
#include "otlp/record.h"
#include "otlp/text.h"
#include "otlp/wire.h"
#include "shared/crc32.h"

#define RB_FUNCTION RB_TARGET RB_INLINE
#define RB_SELDOM RB_TARGET static __attribute__((noinline))

enum { ID_TAG_BYTES = 2, LOW_TIME_BYTES = 3, TIME_BYTES = 8, TRACE_BYTES = 16, WORD = 8, MOST_PREFIX_BYTES = 8 };
enum { SPAN_ID_END = TRACE_BYTES + 8 + 2 * ID_TAG_BYTES }; /* from the tag of the trace id */
enum { VALUE_WORDS = 2 * (RB_KEY_WORDS - 1) };             /* the digits of the longest hex */

/* A piece, and what varies behind it. */
typedef struct part {
    rb_gzip_piece *piece;
    rb_gzip_piece *run; /* that begins here; NULL: none */
    uint32_t value_bytes;
    uint64_t value[VALUE_WORDS + 2]; /* rb_put_hex16 writes 32 bytes a time */
} part;

/* The parts behind the end time. */
typedef struct parts {
    uint32_t count;
    part of[RB_MAX_ATTRIBUTES + 1];
} parts;

/* The CRC of some bytes, counted from the front: times x^(8 bytes) it is theirs. */
typedef struct sum {
    rb_wide wide;
    uint32_t bytes;
} sum;

/* ---- CRC ---- */

RB_FUNCTION const uint64_t *powers_of(const rb_gzip *gzip) { return gzip->powers + RB_GZIP_MAX_SPAN_BYTES; }

RB_FUNCTION void add_remainder(sum *sum, const uint64_t *powers, uint64_t remainder, uint32_t bytes)
{
    sum->bytes += bytes;
    sum->wide ^= rb_times(remainder, powers[-(int64_t)sum->bytes]);
}

/* A word that ends at byte `end`: it is not yet times x^32, which is four bytes. */
RB_FUNCTION void add_word(sum *sum, const uint64_t *powers, uint64_t word, uint32_t end)
{
    sum->wide ^= rb_times(word, powers[4 - (int64_t)end]);
}

/* ---- parts ---- */

RB_FUNCTION uint32_t put_digits(uint64_t *digits, const uint8_t *hex, uint32_t bytes)
{
    uint8_t padded[32] = {0};
    if (bytes != 16) {
        memcpy(padded, hex, bytes);
        hex = padded;
        rb_put_hex16((uint8_t *)digits + 32, hex + 16);
    }
    rb_put_hex16((uint8_t *)digits, hex);
    return 2 * bytes;
}

/* An attribute of a record. 0: a label out of bounds. */
RB_FUNCTION int part_of(const rb_gzip_layout *layout, uint32_t attribute, const uint8_t *record, part *part)
{
    const rb_op *op = &layout->plan->ops[attribute];
    const uint8_t *value = record + op->offset;
    uint8_t *out = (uint8_t *)part->value;
    uint32_t index = value[0], bytes = 0;
    uint64_t integer;
    switch (op->type) {
    case RB_OP_LABEL16:
        index |= (uint32_t)value[1] << 8;
        __attribute__((fallthrough));
    case RB_TYPE_LABEL:
        if (index >= op->label_count)
            return 0;
        break;
    case RB_TYPE_BOOL:
        index = index != 0;
        break;
    case RB_TYPE_F64:
        part->value[0] = rb_word_at(value);
        bytes = 8;
        index = 0;
        break;
    case RB_TYPE_HEX:
        bytes = put_digits(part->value, value, op->size);
        index = 0;
        break;
    default:
        integer = rb_integer(op->type, value);
        bytes = rb_varint_bytes(integer);
        index = bytes - 1;
        if (bytes <= 4)
            part->value[0] = rb_short_varint(integer, bytes);
        else if (op->type == RB_TYPE_U64 && integer > INT64_MAX) {
            index = RB_MAX_VARINT_BYTES + (integer >= 10000000000000000000u);
            bytes = (uint32_t)(rb_put_decimal(out, integer) - out);
        } else
            rb_put_varint(out, integer, bytes);
    }
    part->value_bytes = bytes;
    part->piece = &layout->first[attribute][index];
    return 1;
}

RB_SELDOM void make_tail(rb_met_tail *tail, uint64_t key)
{
    const uint8_t status[] = {SPAN_STATUS, 2, STATUS_CODE, (uint8_t)(key >> 32)};
    const uint8_t tag[] = {(SPAN_FLAGS & 0x7f) | 0x80, SPAN_FLAGS >> 7};
    uint8_t *out = tail->bytes;
    out = rb_put(out, status, status[3] ? sizeof status : 0);
    out = (uint32_t)key ? rb_put(rb_put(out, tag, sizeof tag), &key, 4) : out;
    tail->key = key;
    tail->piece = (rb_gzip_piece){.data = tail->bytes, .bytes = (uint32_t)(out - tail->bytes)};
    tail->piece.remainder = (uint64_t)rb_crc32_add(0, tail->bytes, tail->piece.bytes) << 32;
}

/* Status and flags, which are not both zero. */
RB_FUNCTION rb_gzip_piece *tail_of(rb_gzip_layout *layout, const rb_any_record *any)
{
    uint64_t key = any->core.flags | (uint64_t)any->core.status << 32;
    rb_met_tail *tail =
        &layout->tails[(any->core.flags ^ any->core.flags >> 8 ^ (uint32_t)any->core.status << 2) % RB_TAILS];
    if (__builtin_expect(tail->key != key, 0))
        make_tail(tail, key);
    return &tail->piece;
}

RB_FUNCTION void add_part(parts *parts, sum *sum, const uint64_t *powers)
{
    part *part = &parts->of[parts->count++];
    part->run = NULL;
    add_remainder(sum, powers, part->piece->remainder, part->piece->bytes);
    for (uint32_t i = 0, left = part->value_bytes; left > 0; i++) {
        uint32_t some = left < WORD ? left : WORD;
        sum->bytes += some;
        left -= some;
        add_word(sum, powers, part->value[i] << (64 - 8 * some), sum->bytes);
    }
}

RB_FUNCTION void add_piece(parts *parts, sum *sum, const uint64_t *powers, rb_gzip_piece *piece)
{
    part *part = &parts->of[parts->count];
    part->piece = piece;
    part->value_bytes = 0;
    add_part(parts, sum, powers);
}

/* A run as one part where it is in the window, else by its attributes. 0: a label is out of bounds. */
RB_FUNCTION int add_run(rb_gzip *gzip, rb_gzip_layout *layout, rb_run *run, const uint8_t *record, parts *parts,
                        sum *sum)
{
    const rb_any_record *any = (const rb_any_record *)record;
    const uint64_t *powers = powers_of(gzip);
    struct sum before = *sum;
    uint32_t first = parts->count;
    uint64_t key[RB_KEY_WORDS], differs = 0;
    rb_met_run *met = NULL;
    if (run->is_keyed) {
        for (uint32_t i = 0; i < RB_KEY_WORDS; i++)
            key[i] = rb_word_at(record + run->offsets[i]) & run->masks[i];
        uint64_t hash = (key[0] ^ key[1] * 0xC2B2AE3D27D4EB4F) + (key[2] ^ key[3] * 0xD6E8FEB86659FD93);
        met = &run->met[((hash ^ hash >> 32) * 0x9E3779B97F4A7C15 >> 40) % RB_MET_RUNS];
        for (uint32_t i = 0; i < RB_KEY_WORDS; i++)
            differs |= key[i] ^ met->key[i];
        if (differs == 0 && rb_is_near(gzip->at + MOST_PREFIX_BYTES + sum->bytes, met->piece.at)) {
            run->near_count++;
            add_piece(parts, sum, powers, &met->piece);
            return 1;
        }
    }
    for (uint32_t bits = rb_present(record) & run->attributes; bits != 0; bits &= bits - 1) {
        if (__builtin_expect(!part_of(layout, (uint32_t)__builtin_ctz(bits), record, &parts->of[parts->count]), 0))
            return 0;
        add_part(parts, sum, powers);
    }
    if (run->is_last && (any->core.status | any->core.flags) != 0)
        add_piece(parts, sum, powers, tail_of(layout, any));
    if (met != NULL && parts->count > first) {
        uint64_t moved = rb_crc_fold(sum->wide ^ before.wide, powers);
        memcpy(met->key, key, sizeof key);
        met->piece.at = 0; /* this span may not come to be */
        met->piece.bytes = sum->bytes - before.bytes;
        met->piece.remainder = rb_crc_fold(rb_times(moved, powers[sum->bytes]), powers);
        parts->of[first].run = &met->piece;
    }
    return 1;
}

/* ---- names ---- */

/*
 * The record's span without attributes, status and flags, ids and times as zeros, from the tag of the trace id to the
 * end time. Such a span has both times.
 */
RB_SELDOM const uint8_t *bare_span(const rb_gzip_layout *layout, const rb_met_core *core, const uint8_t *record,
                                   uint32_t *span_bytes)
{
    uint8_t copy[RB_MAX_SLOT_BYTES], *span = layout->plain;
    rb_any_record *any = (rb_any_record *)copy;
    uint64_t spans, invalid;
    memcpy(copy, record, layout->plan->slot_bytes);
    any->core.present &= layout->plan->root_bit;
    any->core.status = 0;
    int64_t bytes = rb_encode_protobuf(layout->plan, copy, 1, span, layout->plan->protobuf_bound, &spans, &invalid);
    uint8_t *end = span + bytes - (any->core.flags ? 6 : 0);
    while (*++span & 0x80) /* the length */
        continue;
    span++;
    memset(span + ID_TAG_BYTES, 0, TRACE_BYTES);
    memset(span + SPAN_ID_END - 8, 0, 8);
    if (rb_word_at(any->core.parent_span_id) != 0)
        memset(span + SPAN_ID_END + core->state_bytes + ID_TAG_BYTES, 0, 8);
    memset(end - TIME_BYTES, 0, TIME_BYTES);
    memset(end - 2 * TIME_BYTES - 1, 0, TIME_BYTES);
    *span_bytes = (uint32_t)(end - span);
    return span;
}

RB_SELDOM void make_core(const rb_gzip_layout *layout, rb_met_core *core, uint32_t key, const uint8_t *record)
{
    const rb_any_record *any = (const rb_any_record *)record;
    uint32_t bytes, has_parent = rb_word_at(any->core.parent_span_id) != 0;
    *core = (rb_met_core){.key = key};
    core->state_bytes = rb_has_threshold(layout->plan, any) ? layout->state.bytes : 0;
    const uint8_t *span = bare_span(layout, core, record, &bytes);
    core->fixed_bytes = bytes;
    core->piece.remainder = (uint64_t)rb_crc32_add(0, span, bytes) << 32;
    core->piece.bytes = bytes - SPAN_ID_END - core->state_bytes - has_parent * (8 + ID_TAG_BYTES) - 2 * TIME_BYTES - 1;
}

RB_FUNCTION rb_met_core *core_of(rb_gzip_layout *layout, const uint8_t *record)
{
    const rb_any_record *any = (const rb_any_record *)record;
    uint32_t has_state = (uint32_t)rb_has_threshold(layout->plan, any);
    uint32_t has_parent = rb_word_at(any->core.parent_span_id) != 0;
    uint32_t key = 1 + (((uint32_t)any->core.name << 3 | any->core.kind) << 2 | has_state << 1 | has_parent);
    rb_met_core *core = &layout->cores[key * 0x9E3779B1u >> 24];
    if (__builtin_expect(core->key != key, 0))
        make_core(layout, core, key, record);
    return core;
}

/* ---- tokens ---- */

/* Bytes that stood before, at met->at, or that are literals; their key is whole. */
RB_FUNCTION void put_met(rb_tokens *tokens, rb_met *met, uint64_t key, uint64_t more_key, const uint8_t *data,
                         uint32_t bytes)
{
    uint64_t at = tokens->at;
    if (met->key[0] == key && met->key[1] == more_key && rb_is_near(at, met->at))
        rb_put_match(tokens, bytes, met->at);
    else {
        rb_end_match(tokens);
        rb_put_literals(tokens, data, bytes);
    }
    *met = (rb_met){{key, more_key}, at};
}

RB_FUNCTION void put_id(rb_tokens *tokens, rb_met *table, uint32_t entries, const uint8_t *id, uint32_t bytes)
{
    uint64_t first = rb_word_at(id), last = rb_word_at(id + bytes - 8);
    put_met(tokens, &table[((first + last) * 0x9E3779B97F4A7C15 >> 40) % entries], first, last, id, bytes);
}

/* What comes before an id; behind a trace id, which it follows always, it goes on with its match. */
RB_FUNCTION void put_tag(rb_tokens *tokens, uint8_t tag)
{
    const uint8_t bytes[ID_TAG_BYTES] = {tag, 8};
    if (tag == SPAN_SPAN_ID && tokens->match_bytes != 0) {
        rb_put_match(tokens, ID_TAG_BYTES, tokens->at - tokens->distance);
        return;
    }
    rb_end_match(tokens);
    rb_put_literals(tokens, bytes, ID_TAG_BYTES);
}

RB_FUNCTION void put_piece(rb_tokens *tokens, rb_gzip_piece *piece)
{
    uint64_t at = tokens->at;
    if (__builtin_expect(rb_is_near(at, piece->at), 1))
        rb_put_match(tokens, piece->bytes, piece->at);
    else {
        rb_end_match(tokens);
        rb_put_literals(tokens, piece->data, piece->bytes);
    }
    piece->at = at;
}

/* A time whose high bytes may be those of another, which stood at `before`. */
RB_FUNCTION void put_time(rb_tokens *tokens, uint64_t time, uint64_t other, uint64_t before)
{
    const uint8_t *bytes = (const uint8_t *)&time;
    uint64_t differs = rb_is_near(tokens->at, before) ? time ^ other : UINT64_MAX;
    uint32_t low = LOW_TIME_BYTES;
    rb_put_literals(tokens, bytes, LOW_TIME_BYTES);
    if (__builtin_expect(differs >> 8 * LOW_TIME_BYTES != 0, 0)) {
        low = TIME_BYTES - (uint32_t)__builtin_clzll(differs) / 8;
        low = low > TIME_BYTES - RB_MIN_MATCH ? TIME_BYTES : low;
        rb_put_literals(tokens, bytes + LOW_TIME_BYTES, low - LOW_TIME_BYTES);
    }
    if (__builtin_expect(low != TIME_BYTES, 1))
        rb_put_match(tokens, TIME_BYTES - low, before + low);
}

/* The start, and the tag of the end. */
RB_FUNCTION void put_start(rb_tokens *tokens, rb_gzip *gzip, uint64_t start)
{
    static const uint8_t tag[] = {SPAN_END};
    uint64_t at = tokens->at;
    put_time(tokens, start, gzip->start_unix_nano, gzip->start_at);
    if (__builtin_expect(tokens->match_bytes != 0, 1)) {
        rb_put_match(tokens, 1, gzip->start_at + TIME_BYTES);
        rb_end_match(tokens);
    } else
        rb_put_literals(tokens, tag, 1);
    gzip->start_unix_nano = start;
    gzip->start_at = at;
}

/* The end, whose high bytes are those that stood before the next part, so that the match goes on, or the start's. */
RB_FUNCTION void put_end(rb_tokens *tokens, uint64_t start, uint64_t end, const parts *parts)
{
    uint64_t other = start, before = tokens->at - TIME_BYTES - 1;
    const rb_gzip_piece *next = parts->count ? parts->of[0].piece : NULL;
    if (next != NULL && next->end_unix_nano != 0 && (end ^ next->end_unix_nano) >> 40 == 0 &&
        rb_is_near(tokens->at, next->at - TIME_BYTES)) {
        other = next->end_unix_nano;
        before = next->at - TIME_BYTES;
    }
    put_time(tokens, end, other, before);
}

RB_FUNCTION void put_parts(rb_tokens *tokens, const parts *parts, uint64_t end)
{
    for (uint32_t i = 0; i < parts->count; i++, end = 0) {
        const part *part = &parts->of[i];
        if (part->run != NULL) {
            part->run->at = tokens->at;
            part->run->end_unix_nano = end;
        }
        part->piece->end_unix_nano = end;
        put_piece(tokens, part->piece);
        if (part->value_bytes) {
            rb_end_match(tokens);
            rb_put_literals(tokens, (const uint8_t *)part->value, part->value_bytes);
        }
    }
    rb_end_match(tokens);
}

/* ---- spans ---- */

/* A span without a time is encoded, into layout->plain. Returns its bytes, which are to become literals. */
RB_SELDOM uint32_t plain_span(rb_gzip *gzip, const rb_gzip_layout *layout, const uint8_t *record)
{
    uint64_t spans, invalid;
    int64_t bytes =
        rb_encode_protobuf(layout->plan, record, 1, layout->plain, layout->plan->protobuf_bound, &spans, &invalid);
    uint32_t crc = rb_crc32_add(rb_crc_reduce(gzip->remainder), layout->plain, (uint64_t)bytes);
    gzip->remainder = (uint64_t)crc << 32;
    gzip->plain_bytes += (uint64_t)bytes;
    gzip->spans += spans;
    return (uint32_t)bytes;
}

RB_FUNCTION void put_span(rb_tokens *tokens, rb_gzip *gzip, rb_gzip_layout *layout, const uint8_t *record)
{
    const rb_any_record *any = (const rb_any_record *)record;
    const uint64_t *powers = powers_of(gzip);
    const uint64_t parent = rb_word_at(any->core.parent_span_id);
    rb_met_core *core = core_of(layout, record);
    parts parts;
    sum sum = {{0, 0}, 0};
    parts.count = 0;
    add_remainder(&sum, powers, core->piece.remainder, core->fixed_bytes);
    uint32_t end = core->fixed_bytes;
    add_word(&sum, powers, rb_word_at(any->core.trace_id), 10);
    add_word(&sum, powers, rb_word_at(any->core.trace_id + 8), 18);
    add_word(&sum, powers, rb_word_at(any->core.span_id), SPAN_ID_END);
    add_word(&sum, powers, parent, SPAN_ID_END + core->state_bytes + ID_TAG_BYTES + 8); /* zero without one */
    add_word(&sum, powers, any->core.start_unix_nano, end - TIME_BYTES - 1);
    add_word(&sum, powers, any->core.end_unix_nano, end);
    for (uint32_t i = 0; i < layout->run_count; i++)
        if (__builtin_expect(!add_run(gzip, layout, &layout->runs[i], record, &parts, &sum), 0))
            return;

    uint32_t length_bytes = rb_varint_bytes(sum.bytes), prefix_bytes = 1 + length_bytes;
    uint64_t prefix = SCOPE_SPANS_SPAN | (uint64_t)rb_short_varint(sum.bytes, length_bytes) << 8;
    gzip->remainder = rb_crc_fold(rb_times(gzip->remainder, powers[prefix_bytes + sum.bytes]) ^
                                      rb_times(rb_crc_fold(sum.wide, powers), powers[sum.bytes]) ^
                                      rb_times(prefix << (64 - 8 * prefix_bytes), powers[4 + sum.bytes]),
                                  powers);
    gzip->plain_bytes += prefix_bytes + sum.bytes;
    gzip->spans++;

    prefix |= (uint64_t)(SPAN_TRACE_ID | TRACE_BYTES << 8) << 8 * prefix_bytes;
    put_met(tokens, &gzip->lengths[sum.bytes % RB_SPAN_LENGTHS], sum.bytes, 0, (const uint8_t *)&prefix,
            prefix_bytes + ID_TAG_BYTES);
    put_id(tokens, gzip->traces, RB_TRACES, any->core.trace_id, TRACE_BYTES);
    put_tag(tokens, SPAN_SPAN_ID);
    put_id(tokens, gzip->span_ids, RB_SPAN_IDS, any->core.span_id, 8);
    if (core->state_bytes)
        put_piece(tokens, &layout->state);
    if (parent) {
        put_tag(tokens, SPAN_PARENT_SPAN_ID);
        put_id(tokens, gzip->span_ids, RB_SPAN_IDS, any->core.parent_span_id, 8);
    }
    if (__builtin_expect(!rb_is_near(tokens->at, core->piece.at), 0))
        core->piece.data = bare_span(layout, core, record, &end) + end - core->piece.bytes - 2 * TIME_BYTES - 1;
    put_piece(tokens, &core->piece);
    rb_end_match(tokens);
    put_start(tokens, gzip, any->core.start_unix_nano);
    put_end(tokens, any->core.start_unix_nano, any->core.end_unix_nano, &parts);
    put_parts(tokens, &parts, any->core.end_unix_nano);
}

RB_FUNCTION uint64_t put_spans(rb_gzip *gzip, rb_gzip_layout *layout, const rb_code *code, rb_symbol_counts *counts,
                               const uint8_t *record, uint64_t count)
{
    const rb_plan *plan = layout->plan;
    rb_tokens tokens = {.bits = gzip->bits, .code = code, .counts = counts, .at = gzip->at};
    size_t room = RB_MOST_TOKEN_BYTES(plan->protobuf_bound);
    uint64_t taken = 0;
    for (; taken < count && (size_t)(gzip->out_end - tokens.bits.next) >= room; taken++, record += plan->slot_bytes) {
        const rb_any_record *any = (const rb_any_record *)record;
        if (__builtin_expect(!rb_is_core_sound(record, plan->span_name_count), 0))
            continue;
        gzip->at = tokens.at;
        if (__builtin_expect(any->core.start_unix_nano == 0 || any->core.end_unix_nano == 0, 0))
            rb_put_literals(&tokens, layout->plain, plain_span(gzip, layout, record));
        else
            put_span(&tokens, gzip, layout, record);
    }
    gzip->bits = tokens.bits;
    gzip->at = tokens.at;
    return taken;
}

/* Two loops, since each knows whether it counts. */
RB_TARGET uint64_t rb_write_spans(rb_gzip *gzip, rb_gzip_layout *layout, const rb_code *code, rb_symbol_counts *counts,
                                  const uint8_t *records, uint64_t count)
{
    return counts != NULL ? put_spans(gzip, layout, NULL, counts, records, count)
                          : put_spans(gzip, layout, code, NULL, records, count);
}
