/*
 * layout.h - a layout as the gzip writer reads it: its constant pieces, and where each stood before. Private.
 *
 * A run is some attributes that follow each other. Its bytes depend on few bytes of the record, its key; where that very
 * key was met before and stands in the window still, the run is one match. Tables compare whole keys, so what they say
 * is exact; in the place of one entry comes the next that falls there. A run that rarely is in the window goes by the
 * pieces of its attributes alone.
 */
#ifndef RINGBUF_GZIP_LAYOUT_H
#define RINGBUF_GZIP_LAYOUT_H

#include "otlp/gzip/code.h"
#include "otlp/pieces.h"

/* Larger spans go another way: the powers of x that their CRC needs would be many. */
#define RB_GZIP_MAX_SPAN_BYTES 4096

enum {
    RB_KEY_WORDS = 4,
    RB_MAX_RUNS = RB_MAX_ATTRIBUTES + 1,
    RB_MET_RUNS = 512,
    RB_TAILS = 16,
    RB_TAIL_BYTES = 10,
    RB_CORES = 256
};

/* Bytes that come again and again, and where they stood last; position 0 is in no window. */
typedef struct rb_gzip_piece {
    const uint8_t *data; /* NULL: those of attributes, or of a core */
    uint64_t remainder;  /* see crc.h; perhaps not wholly reduced */
    uint64_t at;
    uint64_t end_unix_nano; /* where it stood, this end time stood just before; 0: something else did */
    uint32_t bytes;
} rb_gzip_piece;

/* What was met with a key; all zeros is that of a key of zeros, nowhere. */
typedef struct rb_met_run {
    uint64_t key[RB_KEY_WORDS];
    rb_gzip_piece piece;
} rb_met_run;

typedef struct rb_run {
    uint32_t attributes; /* bits of rb_record.present */
    uint32_t words;
    uint32_t offsets[RB_KEY_WORDS];
    uint64_t masks[RB_KEY_WORDS];
    int is_last;         /* with the tail */
    int is_keyed;        /* 0: by its attributes, since it seldom comes again */
    uint32_t near_count; /* how often it stood in the window, where that is counted */
    rb_met_run *met;
} rb_run;

/* Status and flags. */
typedef struct rb_met_tail {
    uint64_t key; /* both, which are not both zero */
    rb_gzip_piece piece;
    uint8_t bytes[RB_TAIL_BYTES];
} rb_met_tail;

/* What lies between the ids and the start, name [kind] tag, and all else that does not vary with them. */
typedef struct rb_met_core {
    uint32_t key;         /* 1 + name, kind, whether there are a tracestate and a parent */
    uint32_t state_bytes; /* of the tracestate, between the ids; 0: none */
    uint32_t fixed_bytes; /* from the tag of the trace id to the end time */
    rb_gzip_piece piece;  /* its remainder is that of all of these, ids and times as zeros */
} rb_met_core;

struct rb_gzip_layout {
    rb_gzip *gzip;
    const rb_plan *plan;
    uint32_t run_count;
    uint64_t spans;      /* since a code was learnt */
    uint64_t next_learn; /* after so many more */
    uint64_t mean_bytes; /* of a span, in the last segment */
    uint8_t *plain;      /* room for one span */
    rb_gzip_piece *pieces;
    rb_gzip_piece state; /* the tracestate */
    rb_code code;
    rb_met_core cores[RB_CORES];
    rb_met_tail tails[RB_TAILS];
    rb_gzip_piece *first[RB_MAX_ATTRIBUTES]; /* the pieces of each attribute */
    rb_run runs[RB_MAX_RUNS];
};

#endif
