/*
 * member.h - one gzip member while it is written, and what all layouts in it share. Private.
 */
#ifndef RINGBUF_GZIP_MEMBER_H
#define RINGBUF_GZIP_MEMBER_H

#include "otlp/gzip/layout.h"

enum { RB_TRACES = 256, RB_SPAN_IDS = 512, RB_SPAN_LENGTHS = 512, RB_MOST_HEAD = 65535 };

/* Bytes that a key stands for, and where they stood last. */
typedef struct rb_met {
    uint64_t key[2];
    uint64_t at;
} rb_met;

/*
 * Positions are bytes of all members of this writer, one after the other, from RB_FIRST_POSITION on, with gaps so wide
 * that nothing of one member is in the window of the next.
 */
#define RB_FIRST_POSITION 65536

struct rb_gzip {
    uint8_t *out;
    uint8_t *out_end; /* RB_BITS_SLACK bytes lie behind it */
    int is_whole;     /* 0: no member, or memory was short in the middle of one */
    rb_bits bits;
    uint64_t remainder;   /* of the spans since this was zero: see crc.h */
    uint64_t plain_bytes; /* of the spans likewise */
    uint64_t spans;       /* likewise */
    uint64_t at;          /* the position */
    uint64_t start_at;    /* where the last start time stood */
    uint64_t start_unix_nano;
    uint32_t crc;          /* of the member's segments */
    uint64_t member_bytes; /* likewise, not compressed */
    rb_code fixed;
    uint8_t head[RB_MOST_HEAD]; /* what stands before the spans of a segment */
    rb_met traces[RB_TRACES];
    rb_met span_ids[RB_SPAN_IDS];
    rb_met lengths[RB_SPAN_LENGTHS];
    uint64_t powers[2 * RB_GZIP_MAX_SPAN_BYTES + 1]; /* see rb_crc_powers; from the negative ones on */
};

/*
 * Write spans by `code`; with `counts` only count their tokens. Stops early where room is short. Returns how many
 * records it took; those that are spans are added to gzip->spans.
 */
uint64_t rb_write_spans(rb_gzip *gzip, rb_gzip_layout *layout, const rb_code *code, rb_symbol_counts *counts,
                        const uint8_t *records, uint64_t count);

#endif
