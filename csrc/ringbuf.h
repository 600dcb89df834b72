/*
 * ringbuf.h - the specification of a ring file, and the C API of both of its sides.
 *
 * A ring is one producer process's shared-memory file. It is the only thing that producer and drain share: a program
 * that follows this header can write a ring, or read one after the crash of both sides, without any other document.
 *
 *   file offset 0          header: struct rb_header, then the layout (JSON) and the resource (JSON)
 *               |          header_bytes in all, a multiple of 4096; immutable once the file has a name
 *   header_bytes           lane 0
 *   + lane_stride_bytes    lane 1 ... lane_count - 1; lane_stride_bytes is a multiple of 4096
 *   file_bytes             end of file == header_bytes + lane_count * lane_stride_bytes
 *
 *   lane:  +0    struct rb_lane, three 128-byte lines, each with one writer:
 *                 +0    producer   tail, closed
 *                 +128  producer   full, contended, unsampled, truncated, invalid_values
 *                 +256  drain      head, what became of the released records, consumer_state, sleeping, told_*
 *          +384  capacity_slots slots of slot_bytes: position p lives in slot p & (capacity_slots - 1)
 *
 *                 head            tail
 *          ........[###############).........      # published, not yet released
 *          <------------ capacity ------------>    tail - head <= capacity_slots, always
 *
 * All integers are little-endian. `tail` and `head` are positions: unbounded u64 counts that wrap modulo 2^64.
 *
 * The life of a ring, and who makes each step:
 *
 *   (no name) --linkat--> ALIVE --rb_close sets `closed` in every lane--> CLOSED --+--drain: copy the rest, deliver,
 *    producer             |  the mapping holds flock(LOCK_EX)                      |  unlink
 *                         +--producer dies: the kernel gives the flock up--> DEAD -+
 *   any of these --drain finds it unsound: consumer_state = DETACHED, file moved to quarantine/
 *
 * The life of a record: the producer, which alone may write its lane, fills slot `tail`, then stores tail + 1 with
 * release order. The drain loads `tail` with acquire order, copies the slot, delivers the copy, then stores `head` with
 * release order; the producer loads `head` with acquire order before it writes the slot again. A producer that is
 * killed at any instruction has either published the record or not: there is nothing to repair and no owner to find.
 *
 * What adds up (the conservation law):
 *
 *   producer  attempts = local + unsampled + full + contended + published
 *   ring      tail - first_position = pending + (head - first_position)
 *             head - first_position = delivered + spooled + rejected + dead_lettered + invalid
 *             (these words of a lane; of `delivered` its `sampled_out` were only counted, and are told apart elsewhere)
 *             (after a kill of the drain the outcome words may exceed head by the batches not yet released)
 */
#ifndef RINGBUF_H
#define RINGBUF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The layout, JSON in UTF-8:
 *
 *   {"scope_name": "grafos.dataplane", "scope_version": "219", "schema_url": "",
 *    "span_names": ["grafos.dataplane.fbmu", ...],            index: rb_record.name
 *    "slot_bytes": 128,
 *    "attributes": [{"key": "grafos.lease.id", "type": "hex", "offset": 72, "bytes": 16},
 *                   {"key": "grafos.outcome", "type": "label", "offset": 90, "bytes": 1,
 *                    "labels": ["ok", "hit", ...], "metric_label": true}, ...]}
 *
 * Attribute i has bit i of rb_record.present; `offset` and `bytes` are its place in the record, 64 or higher and
 * naturally aligned. Types: bool, i8 to i64, u8 to u64, f64; label: an index into `labels`, u8 for up to 256 of them,
 * else u16; hex: raw bytes, hex digits in OTLP; str and bytes: a u16 length, then at most `bytes` - 2 bytes; otlp and
 * scope, of which a layout may have one each: the same, and the bytes are OTLP protobuf, see enum rb_type. The scope
 * strings and metric_label may be left out, and error_labels, those of the labels with which producers make a span's
 * status ERROR, and resource_schema_url, that of the ResourceSpans; keys that are not listed here are ignored.
 *
 * The resource, JSON in UTF-8: an object of attributes, each a string, true, false or null, an integer of 64 bits, a
 * number with a point or exponent, or an array or object of these, within at most 15 others.
 *
 * The blocks marked [ABI], [HOT] and [COLD] are also read by cffi (csrc/ffi_build.py): types and constants, functions
 * that are called with Python's GIL kept, and functions that give it up.
 */

/* [ABI] */
#define RB_ABI_MAJOR 1 /* another major is another file format: not readable */
#define RB_ABI_MINOR 1 /* a higher minor adds what an older reader may ignore; 1: rb_header.root_threshold */

#define RB_PAGE_BYTES 4096
#define RB_LINE_BYTES 128 /* two cache lines: the adjacent-line prefetcher couples pairs */
#define RB_LANE_BYTES 384 /* the control lines before a lane's slots */
#define RB_CORE_BYTES 64  /* the part of a record that every layout has */

#define RB_MAX_LANES 64
#define RB_MIN_CAPACITY_SLOTS 4
#define RB_MAX_CAPACITY_SLOTS 16777216
#define RB_MAX_SLOT_BYTES 16384
#define RB_MAX_JSON_BYTES 262144 /* of the layout, and of the resource */
#define RB_MAX_ATTRIBUTES 32     /* bits of rb_record.present */

/*
 * Bit 31 of rb_record.present, in layouts of up to 31 attributes: this span is its whole trace. It is a root whose ids
 * were given to nobody, so that nothing can come that belongs to it. Since 1.1; readers of before ignore it, as they do
 * all bits without an attribute.
 */
#define RB_PRESENT_ALONE 2147483648
/*
 * Bit 30, in layouts of up to 30 attributes: the root of this span's trace, another span, was decided by a sampler of
 * the threshold that the header states (root_threshold), in this process or in one that it was forked of; it may be in
 * another ring. So what the span stands for is known, whatever else comes of its trace. A record that is copied out of
 * a ring has it for that ring alone. Since 1.1; readers of before ignore it, and writers of before never set it.
 */
#define RB_PRESENT_ROOT_THRESHOLD 1073741824
#define RB_MAX_PATH_BYTES 4096

/*
 * OpenTelemetry's consistent probability sampling: a trace is kept exactly if R >= T. R, its randomness, is the low 56
 * bits of its id (the last seven bytes, big-endian), or `rv` in its tracestate. T, the rejection threshold, is below
 * 2^56, and keeps a share of 1 - T / 2^56 of all traces; each that is kept stands for 2^56 / (2^56 - T).
 */
#define RB_THRESHOLDS 72057594037927936

/*
 * File offset 0. `crc32` (the polynomial of zlib and gzip) covers all header_bytes with the field itself as zero.
 * The two clock readings are taken together: they place a CLOCK_MONOTONIC time of the producer on the calendar.
 */
typedef struct rb_header {
    uint8_t magic[8]; /* "ringbuf" and a zero byte */
    uint16_t abi_major;
    uint16_t abi_minor;
    uint32_t header_bytes;
    uint32_t slot_bytes; /* a multiple of 64 */
    uint32_t lane_count;
    uint32_t capacity_slots; /* per lane, a power of two */
    uint32_t flags;          /* enum rb_ring_flag */
    uint64_t lane_stride_bytes;
    uint64_t file_bytes;
    uint64_t first_position; /* tail and head of every lane at creation; zero but in tests of wrap-around */
    uint32_t pid;            /* in the producer's own PID namespace: for people, never for liveness */
    uint32_t crc32;
    uint8_t boot_id[16];
    uint64_t created_unix_nano;
    uint64_t clock_monotonic_nano;
    uint64_t clock_realtime_nano;
    uint32_t layout_offset; /* JSON, see above */
    uint32_t layout_bytes;
    uint32_t resource_offset; /* JSON, see above */
    uint32_t resource_bytes;
    uint64_t root_threshold; /* of the sampler of roots: 0 not known, else 1 + T, see RB_THRESHOLDS */
} rb_header;

enum rb_ring_flag {
    RB_FLAG_OVERWRITE = 1 /* reserved: the newest records displace the oldest. No 1.0 reader accepts it. */
};

enum rb_consumer_state {
    RB_CONSUMER_NONE = 0,     /* no drain, or one that stopped cleanly: the next goes on at `head` */
    RB_CONSUMER_ATTACHED = 1, /* a drain reads this ring, or was killed while it did */
    RB_CONSUMER_DETACHED = 2  /* set aside for good: the producer makes a new ring */
};

/* The control lines of a lane. Each 128-byte line has one writer; see the memory diagram above. */
typedef struct rb_lane {
    uint64_t tail;        /* release store by the producer after the slot; pairs with rb_copy's acquire load */
    uint64_t overwritten; /* reserved for RB_FLAG_OVERWRITE: positions below it are gone */
    uint32_t closed;      /* release store of 1 at a clean close, after the last tail */
    uint8_t pad0[108];

    uint64_t full; /* spans not written, by reason: relaxed atomic adds, any thread of the producer */
    uint64_t contended;
    uint64_t reserved; /* zero: no writer ever counted here */
    uint64_t unsampled;
    uint64_t truncated; /* values, not spans, cut to their field; counted whether or not the span was then written */
    uint64_t invalid_values; /* values left out of a span since they do not fit their attribute; counted as those */
    uint8_t pad1[80];

    uint64_t head;      /* release store by the drain after the copy was delivered; pairs with check-out's acquire */
    uint64_t delivered; /* outcome words: stored before `head`, so that head never exceeds their sum */
    uint64_t spooled;   /* durable in the drain's spool */
    uint64_t rejected;  /* refused by the backend in a partial success */
    uint64_t dead_lettered; /* refused by the backend for good, kept in the dead-letter folder */
    uint64_t invalid;       /* not deliverable as a span, see rb_record */
    uint32_t consumer_state;
    uint32_t sleeping; /* 1 while the drain waits on the doorbell: seq_cst exchange, pairs with the quarter crossing */
    /* Of the producer's counts, what drains have told their operators: the next one tells what is beyond. Since 1.1. */
    uint64_t told_full;
    uint64_t told_contended;
    uint64_t told_unsampled;
    uint64_t told_truncated;
    uint64_t told_invalid_values;
    uint64_t
        sampled_out; /* of `delivered`, and stored after it: only counted, since their head did not want them. 1.1 */
    uint8_t pad2[24];
} rb_lane;

/*
 * The core of a record; the attributes follow at the offsets that the layout gives. A record is invalid, and counted
 * so, when reserved is not zero, the trace or span id is zero, or a name, kind, status, label or length is out of
 * bounds, or the OTLP that it carries is not sound. An end before the start is delivered as it is.
 */
typedef struct rb_record {
    uint64_t start_unix_nano;
    uint64_t end_unix_nano;
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t parent_span_id[8]; /* zero: a root */
    uint32_t present;          /* bit i: attribute i is set; RB_PRESENT_ALONE, _ROOT_THRESHOLD */
    uint16_t name;             /* index into the layout's span names */
    uint8_t kind;              /* OTLP SpanKind, 0 to 5 */
    uint8_t status;            /* OTLP StatusCode, 0 to 2 */
    uint32_t flags;            /* OTLP Span.flags: enum rb_span_flag */
    uint32_t reserved;         /* zero */
} rb_record;

/* OTLP SpanKind: rb_record.kind. */
enum rb_span_kind {
    RB_KIND_UNSPECIFIED = 0,
    RB_KIND_INTERNAL = 1,
    RB_KIND_SERVER = 2,
    RB_KIND_CLIENT = 3,
    RB_KIND_PRODUCER = 4,
    RB_KIND_CONSUMER = 5
};

/* OTLP StatusCode: rb_record.status. */
enum rb_span_status { RB_STATUS_UNSET = 0, RB_STATUS_OK = 1, RB_STATUS_ERROR = 2 };

enum rb_span_flag {
    RB_SPAN_SAMPLED = 1, /* W3C trace flags are bits 0 to 7 */
    RB_SPAN_RANDOM = 2,  /* W3C level 2: the trace id is random; of a root: and its ring's sampler decided */
    RB_SPAN_HAS_IS_REMOTE = 256,
    RB_SPAN_IS_REMOTE = 512,
    RB_SPAN_FLAGS = 1023 /* all that a record has; above them OTLP's are reserved */
};

enum rb_status {
    RB_OK = 0,
    RB_NO_RING = -1,        /* never opened, or this is a forked child: open one and call again */
    RB_CLOSED = -2,         /* the producer was closed */
    RB_BUSY = -3,           /* another thread opens or closes this producer */
    RB_E_ARGUMENT = -4,     /* a NULL, or a number outside its range */
    RB_E_SYSTEM = -5,       /* a system call failed: rb_error.os_errno */
    RB_E_ZERO_ID = -6,      /* a record with a zero trace or span id */
    RB_E_RECORD = -7,       /* a record whose core is out of bounds, or whose reserved word is not zero */
    RB_E_TRACEPARENT = -8,  /* not the plain form of a version 00 traceparent */
    RB_E_NOT_A_RING = -9,   /* not a regular file, shorter than a header, or another magic */
    RB_E_ABI_NEWER = -10,   /* a ring of a newer major version: sound, but not for this reader */
    RB_E_ABI_UNKNOWN = -11, /* a major version that never was */
    RB_E_FLAGS = -12,       /* a ring flag that this version does not know */
    RB_E_GEOMETRY = -13,    /* header sizes that disagree with each other, or exceed their limits */
    RB_E_FILE_SIZE = -14,   /* file_bytes is not the size of the file */
    RB_E_TOO_LARGE = -15,   /* larger than the reader allows */
    RB_E_SPARSE = -16,      /* holes in the file: reading would allocate them */
    RB_E_CRC = -17,         /* the header does not match its checksum */
    RB_E_JSON_BOUNDS = -18, /* layout or resource lies outside the header */
    RB_E_POSITION = -19,    /* tail behind what was read, or over a capacity ahead of head; outcome words unlike head,
                               or head behind the first position */
    RB_E_TRUNCATED = -20    /* the file lost pages while it was read (SIGBUS) */
};

typedef struct rb_error {
    int32_t status;
    int32_t os_errno;
    char detail[240]; /* a sentence part, e.g. "mmap: Cannot allocate memory" */
} rb_error;

/* ---- producer ---- */

/*
 * All process-private state of a producer: the ring's address, a try-flag per lane, id state. It lies in an anonymous
 * MADV_WIPEONFORK mapping whose address never changes, so that a forked child, whatever forked it, finds zeros ("no
 * ring") behind every handle that it inherited. Where the kernel has none (Linux before 4.14, gVisor) the state says
 * whose it is, and each span costs a getpid.
 */
typedef struct rb_producer rb_producer;

typedef struct rb_config {
    const char *ring_dir;      /* an existing directory */
    const char *service_name;  /* only for the file's name, percent-encoded */
    const char *layout_json;   /* layout_bytes bytes of UTF-8 */
    const char *resource_json; /* resource_bytes bytes of UTF-8 */
    uint32_t layout_bytes;
    uint32_t resource_bytes;
    uint32_t slot_bytes;
    uint32_t span_name_count;
    uint32_t lane_count;
    uint32_t capacity_slots;
    uint32_t file_mode;      /* 0600; 0660 in the group form; 0: as the directory is, setgid and sticky or not */
    uint32_t emit_unsampled; /* 1: unsampled spans are written too, with the sampled flag clear */
    uint32_t root_always;    /* 1: every root is sampled */
    /* What the layout leaves of rb_record.present: RB_PRESENT_ALONE (up to 31 attributes), _ROOT_THRESHOLD (up to 30). */
    uint32_t present_bits;
    uint64_t root_bound; /* else: a root is sampled when the low 64 bits of its trace id (big-endian) are below this */
    uint64_t root_threshold; /* neither of these, but 1 + T: a root is sampled when R >= T; 0: by the two above */
    uint64_t first_position;
} rb_config;

/* What a producer did since it was made in this process, over all rings that it had. */
typedef struct rb_producer_stats {
    uint64_t published;
    uint64_t full;
    uint64_t contended;
    uint64_t unsampled;
    uint64_t truncated;
    uint64_t invalid_values;
    uint64_t local;          /* no ring, or closed: only this process knows */
    uint64_t pending;        /* published in the present ring and not released */
    uint64_t capacity_slots; /* of all lanes of the present ring */
    uint32_t consumer_state;
    uint32_t is_open;
} rb_producer_stats;
/* [/ABI] */

/*
 * How the functions below are described. Each says what it does, what it Returns, and where it may be called:
 *
 *   Threads: any   any number of threads at once, on the same object
 *            one   one thread at a time for each object
 *   Signals: safe  also in a signal handler, whatever that interrupted (async-signal-safe); errno is left as it was
 *            no    not in a handler
 *   Forks:   what a forked child may do with an object of its parent. A producer finds "no ring" (RB_NO_RING) and opens
 *            one of its own; consumers and doorbells belong to the process that made them.
 *
 * Pointers must not be NULL unless that is said. A negative result is an enum rb_status; rb_strerror has its words.
 */

/*
 * Emitting. These never block, allocate or raise; they return
 *   1  written
 *   0  not written and counted (full, contended, unsampled, or local once closed)
 *   +2 added to either when something is to be done outside the hot path: rb_open, if the drain has set this ring aside
 *      (rb_is_set_aside) or somebody has removed its file (rb_is_removed), else rb_find_doorbell, if the drain sleeps and
 *      came after the ring was made (rb_lacks_doorbell). A ring that nobody reads asks so at most once a second.
 *   a negative rb_status: nothing written, nothing counted.
 * Any number of threads may call them at once. In a signal handler that interrupts an emit, the lane is busy: the span
 * goes to another lane or is counted as contended.
 *
 * Threads: any. Signals: safe. The only system call is the doorbell's futex, at most once per quarter of a lap and only
 * while the drain sleeps (and getrandom, once per process, where ids are made).
 */
/* [HOT] */
/*
 * rb_emit - write one record.
 *
 * `record` is the core of a whole record of rb_config.slot_bytes bytes, which is copied; ids and times are the caller's
 * (rb_new_ids, rb_clock_unix_nano). A record without RB_SPAN_SAMPLED in its flags is counted as unsampled, unless
 * rb_config.emit_unsampled is set. Attribute values are not looked at: what is out of bounds there is the drain's to
 * find (`invalid`).
 *
 * Returns: as above; RB_E_ZERO_ID for a zero trace or span id, RB_E_RECORD for a name, kind, status or reserved word
 * that cannot be, RB_NO_RING before rb_open and in a forked child.
 */
int rb_emit(rb_producer *producer, const rb_record *record);

/*
 * rb_emit_batch - write the longest prefix of `count` records that fits.
 *
 * The records lie one after the other, slot_bytes each. Those that fit one lane are published by one store; else in
 * runs, and the drain may see the first before the last is written. A record that rb_emit would refuse refuses all.
 *
 * Returns: how many were taken, 0 to `count` (unsampled ones are taken and counted without a slot); the rest is counted
 * as full or contended. RB_E_ZERO_ID, RB_E_RECORD, RB_NO_RING: nothing was written or counted. There is no +2: ask with
 * the functions below.
 */
int64_t rb_emit_batch(rb_producer *producer, const rb_record *records, uint64_t count);

/*
 * rb_is_set_aside, rb_lacks_doorbell, rb_is_unread - what the +2 above stands for; who emits in batches asks after a
 * batch.
 *
 * Returns: 1 or 0. Set aside: the drain has given this ring up (RB_CONSUMER_DETACHED), spans go nowhere until rb_open
 * has made another. Lacks the doorbell: a drain sleeps that came after the ring was made; without rb_find_doorbell it
 * looks by itself after at most 40 ms, or 100 where it lets more gather. Unread: spans of a second ago are in the ring
 * still, as there is no drain, or it is far behind, or the file was removed: ask rb_is_removed. It says 1 at most once a
 * second.
 */
int rb_is_set_aside(const rb_producer *producer);
int rb_lacks_doorbell(const rb_producer *producer);
int rb_is_unread(rb_producer *producer);
/*
 * rb_wake_drain - ring the doorbell once, for a program that waits until its spans are taken. A drain with sampling rules
 * that has just read many records lets more gather, for 100 ms at most; a ring of the doorbell ends that.
 *
 * Returns: 1; 0 where there is no doorbell to ring (rb_lacks_doorbell), or no ring.
 */
int rb_wake_drain(const rb_producer *producer);

/*
 * rb_new_ids - make a trace id and a span id: random, never zero, unique in this process.
 *
 * For records whose sampling is decided elsewhere; a span that begins here takes rb_span_begin. A forked child has a
 * seed of its own, so that it does not repeat its parent's ids. Seeds come from getrandom; where that gives none, from
 * clock, process and address.
 */
void rb_new_ids(rb_producer *producer, uint8_t trace_id[16], uint8_t span_id[8]);

/*
 * rb_present_alone - what a door sets in `present` of a root that it writes whole, and whose ids it gives to nobody.
 *
 * Returns: RB_PRESENT_ALONE where the ring's layout leaves it (rb_config.present_bits), else 0, also without a ring.
 */
uint32_t rb_present_alone(const rb_producer *producer);

/*
 * rb_fill_ids - give ids to the records of an array that have none.
 *
 * A zero span id is replaced; a zero trace id, too, which starts a trace. `stride_bytes` is the size of a record.
 */
void rb_fill_ids(rb_producer *producer, rb_record *records, uint64_t count, uint32_t stride_bytes);

/*
 * rb_count_local, rb_count_truncated, rb_count_invalid_values - count what no door can count by itself.
 *
 * `count` attempts that found no ring (after RB_NO_RING, once the caller gives up), and `count` values, not spans, that
 * were cut to their field, or left out since they do not fit it. They show in rb_stats, and the values in the ring and in
 * the drain's metrics, where there is a ring.
 */
void rb_count_local(rb_producer *producer, uint64_t count);
void rb_count_truncated(rb_producer *producer, uint64_t count);
void rb_count_invalid_values(rb_producer *producer, uint64_t count);

/* rb_dropped - how many spans found no slot in the present ring: full and contended. 0 without a ring. */
uint64_t rb_dropped(const rb_producer *producer);

/* rb_clock_unix_nano, rb_clock_monotonic_nano - CLOCK_REALTIME and CLOCK_MONOTONIC in nanoseconds. */
uint64_t rb_clock_unix_nano(void);
uint64_t rb_clock_monotonic_nano(void);
/* [/HOT] */

/*
 * A span that has begun, here or in another process: what its own record and its children need. Filled by the functions
 * below, or by hand or from a header for a remote parent (then trace_id, span_id and child_flags suffice). There is one
 * way: begin, start where the library reads the clocks, and end, or identify where the caller gives the times.
 * ringbuf_site.h has it as macros.
 *
 * The bits of child_flags above RB_SPAN_FLAGS are the library's: from a root on they say which threshold it was decided
 * by, so that a child in a ring of the same threshold can say RB_PRESENT_ROOT_THRESHOLD. By hand they are zero.
 */
typedef struct rb_span {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t parent_span_id[8];
    uint32_t flags;       /* of its own record */
    uint32_t child_flags; /* of its children's records: RB_SPAN_IS_REMOTE when this span lives in another process */
    uint64_t start_unix_nano;
    uint64_t start_monotonic_nano; /* what the duration is counted from: the time of day may be set meanwhile */
} rb_span;

/*
 * rb_span_begin - give a span its ids and flags, under `parent` (NULL: a root, which the sampler is asked about).
 *
 * A child is sampled exactly if its parent is. rb_emit counts what is not sampled as such.
 *
 * Returns: RB_OK, or RB_NO_RING: the ids are good, but the sampler is not known yet, and a root counts as sampled.
 * Threads: any. Signals: safe.
 */
int rb_span_begin(rb_producer *producer, const rb_span *parent, rb_span *span);

/* rb_span_start - a span that has begun starts now. Threads: any. Signals: safe. */
void rb_span_start(rb_span *span);

/*
 * rb_span_end - put ids, flags and times into the record of a span that was started and ends at `monotonic_nano`, a
 * reading of rb_clock_monotonic_nano; and RB_PRESENT_ROOT_THRESHOLD into `present`, where that is true. Threads: any.
 * Signals: safe.
 */
void rb_span_end(const rb_span *span, uint64_t monotonic_nano, rb_record *record);

/*
 * rb_span_identify - the same without the times, which are the caller's: nanoseconds since 1970. Threads: any.
 * Signals: safe.
 */
void rb_span_identify(const rb_span *span, rb_record *record);

/*
 * rb_parent_from_traceparent - the span that a W3C `traceparent` header of `bytes` bytes names, as a parent in another
 * process. Only the plain form is read here (version 00, 55 characters).
 *
 * Returns: RB_OK, or RB_E_TRACEPARENT for any other text: look closer, or start a trace. Threads: any. Signals: safe.
 */
int rb_parent_from_traceparent(const char *text, size_t bytes, rb_span *parent);

/*
 * rb_traceparent - write the `traceparent` header that makes other processes' spans children of this one, with a zero
 * behind it. Threads: any. Signals: safe.
 */
void rb_traceparent(const rb_span *span, char header[56]);

/*
 * rb_process_mark - a number that this process has and the one that forked it has not: who began a span in here can
 * tell so. Threads: any. Signals: safe.
 */
uint64_t rb_process_mark(rb_producer *producer);

/* [COLD] */
/*
 * The life of a producer. These make system calls.
 *
 * Threads: any, but for rb_producer_free. Signals: no. rb_open and rb_find_doorbell hold signals and pthread_cancel back
 * while they are at work, and may be called by fork handlers; rb_close and rb_stats wait at most a second for another
 * thread that opens, or holds lanes.
 */

/*
 * rb_producer_new - make a producer without a ring: a few pages of private memory.
 *
 * Returns: the producer; NULL with errno when memory is short.
 */
rb_producer *rb_producer_new(void);

/*
 * rb_ring_bytes - how many bytes the file of a ring would have.
 *
 * Returns: that, or RB_E_ARGUMENT, as rb_open. Threads: any.
 */
int64_t rb_ring_bytes(const rb_config *config);

/*
 * rb_open - make a ring and let the producer write it.
 *
 * `config` and what it points to are read during the call only. On an open producer the new ring takes the old one's
 * place, whose records stay for the drain: call it when rb_is_set_aside says so, and in a forked child after RB_NO_RING.
 * The new ring must have the layout, the lanes and the size of the old one, since threads are writing such records; its
 * sampler (emit_unsampled, root_always, root_bound, root_threshold) holds from then on. Writes the file's path to `path` (RB_MAX_PATH_BYTES); `error` may be NULL. The ring
 * directory must exist and be on a file system with O_TMPFILE and shared mappings: a tmpfs. Never blocks but for the
 * system calls that make the file (0.5 ms for 1 MiB).
 *
 * Returns: RB_OK; RB_E_ARGUMENT (error->detail names it), RB_E_SYSTEM (error->os_errno: ENOSPC is a full tmpfs),
 * RB_BUSY when another thread opens or closes this producer, RB_CLOSED after rb_close. On an error the producer is as
 * it was.
 */
int rb_open(rb_producer *producer, const rb_config *config, char *path, rb_error *error);

/*
 * rb_find_doorbell - map the doorbell that a drain has made since the ring was opened.
 *
 * Returns: RB_OK, RB_E_SYSTEM when there is none, RB_BUSY.
 */
int rb_find_doorbell(rb_producer *producer, const char *ring_dir);

/*
 * rb_is_removed - whether the path of the present ring leads to that ring no more: no drain will find it, and what was
 * in it is lost. rb_open makes another. (A relative rb_config.ring_dir leads elsewhere after a chdir.)
 *
 * Returns: 1 or 0; 0 without a ring, and while another thread opens or closes.
 */
int rb_is_removed(rb_producer *producer);

/*
 * rb_close - end the ring: take every lane for good, then set `closed`; the drain removes the file when it is empty.
 *
 * Threads that still emit get 0, and their spans count as local. Closing again does what is left to do.
 *
 * Returns: RB_OK; RB_BUSY when lanes stay held for 1 s (by rb_lane_hold, or by a thread that a debugger stopped): those
 * are not closed. Call it again, or the drain learns of the end when the process ends.
 */
int rb_close(rb_producer *producer);

/*
 * rb_producer_free - unmap ring and private state; NULL is ignored. Without rb_close before it, the ring is as after a
 * kill: the drain delivers what was published.
 *
 * Threads: one, and no other may use the producer any more.
 */
void rb_producer_free(rb_producer *producer);

/*
 * rb_stats - what this process did with the producer, over all rings that it had: the producer's side of the law.
 *
 * Returns: RB_OK, or RB_BUSY. attempts = local + unsampled + full + contended + published.
 */
int rb_stats(rb_producer *producer, rb_producer_stats *stats);

/*
 * rb_strerror - a status in words, a constant string; of any number.
 *
 * Threads: any. Signals: safe.
 */
const char *rb_strerror(int status);
/* [/COLD] */

/*
 * A lane that one thread holds, for native producers that emit in runs: rb_lane_emit is one copy and one store, the
 * check-out is paid once. Not for Python, and not across a fork: give the lane back before one.
 *
 * rb_lane_hold - take a lane. Returns: the lane, NULL when there is no ring or others hold all of them.
 * rb_lane_emit - write a record to it. The record is not checked: an id that is zero or a name out of bounds is counted
 * by
 *   the drain as invalid. Returns: 0 to 3, as rb_emit.
 * rb_lane_give_back - let others have it. rb_open and rb_close wait a second for it, then say RB_BUSY.
 *
 * Threads: any for rb_lane_hold; one for a held lane. Signals: safe, but for the lane that the handler interrupts.
 */
typedef struct rb_held_lane rb_held_lane;
rb_held_lane *rb_lane_hold(rb_producer *producer);
int rb_lane_emit(rb_producer *producer, rb_held_lane *lane, const rb_record *record);
void rb_lane_give_back(rb_held_lane *lane);

/* ---- consumer ---- */

/* [ABI] */
enum rb_access {
    RB_OBSERVE = 0, /* maps read-only, writes nothing */
    RB_CONSUME = 1
};

typedef struct rb_consumer rb_consumer;

/* A producer's counts of a lane: spans that were not written, and values that were cut or left out. */
typedef struct rb_counts {
    uint64_t full;
    uint64_t contended;
    uint64_t unsampled;
    uint64_t truncated;
    uint64_t invalid_values;
} rb_counts;

/* One lane as last seen by rb_poll: the producer's words, the drain's words, and this consumer's own positions. */
typedef struct rb_lane_view {
    uint64_t tail;
    uint64_t released; /* this consumer's `head`; never re-read from the file after attach */
    uint64_t read;     /* copied so far: released <= read <= tail */
    uint64_t full;
    uint64_t contended;
    uint64_t unsampled;
    uint64_t truncated;
    uint64_t invalid_values;
    uint64_t delivered;
    uint64_t spooled;
    uint64_t rejected;
    uint64_t dead_lettered;
    uint64_t invalid;
    uint64_t sampled_out; /* not among those of `delivered`, as elsewhere than in the lane */
    uint64_t repeated;    /* rb_release although an earlier drain had already counted them */
    uint32_t closed;
    uint32_t consumer_state;
} rb_lane_view;

typedef struct rb_outcome {
    uint64_t delivered;
    uint64_t spooled;
    uint64_t rejected;
    uint64_t dead_lettered;
    uint64_t invalid;
    uint64_t sampled_out; /* counted in the span metrics and not delivered: their head did not want them */
} rb_outcome;
/* [/ABI] */

/*
 * A ring is untrusted input: the header is copied once and checked, no size is read again, records are copied out
 * before anybody looks at them. One thread at a time may use a consumer. A file that is truncated while it is mapped
 * gives RB_E_TRUNCATED, not a signal, once rb_guard_install was called.
 *
 * Threads: one (different consumers, different threads). Signals: no. Every function that reads or writes a ring may
 * return RB_E_TRUNCATED; then the ring is done for. RB_E_ARGUMENT: no such lane, or not the access that it needs.
 */
/* [COLD] */
/*
 * rb_guard_install - install the process-wide SIGBUS guard (drain and tools, never a producer).
 *
 * A SIGBUS that is not the guard's goes to the handler that was there before. Who replaces the handler later (Python's
 * faulthandler does) is replaced again at the next call on a consumer.
 *
 * Returns: RB_OK, or RB_E_SYSTEM with errno. Threads: any.
 */
int rb_guard_install(void);

/*
 * rb_crash_note - from now on write "crashed by signal NN" and a newline to `fd` at `offset` when this process dies of a
 * fault (SIGSEGV, SIGABRT, SIGILL, SIGFPE, SIGBUS, SIGTRAP, SIGSYS); fd -1: write nothing any more. Drain only.
 *
 * A kill from outside leaves no note. Handlers that were there before run after it. Call it before rb_guard_install.
 *
 * Returns: RB_OK, or RB_E_SYSTEM with errno. Threads: one at a time.
 */
int rb_crash_note(int fd, uint64_t offset);

/*
 * rb_attach - map a ring and check it.
 *
 * `fd` is an open ring, O_RDWR to consume; it may be closed afterwards. `access` is RB_OBSERVE or RB_CONSUME: of the
 * latter there must be one at a time (drain.lock sees to that, not this function). max_file_bytes 0: no bound. `error`
 * may be NULL; its detail says what is wrong in numbers.
 *
 * Returns: RB_OK, and the consumer in *consumer; RB_E_NOT_A_RING, RB_E_ABI_NEWER, RB_E_ABI_UNKNOWN, RB_E_FLAGS,
 * RB_E_GEOMETRY, RB_E_FILE_SIZE, RB_E_TOO_LARGE, RB_E_SPARSE, RB_E_CRC, RB_E_JSON_BOUNDS, RB_E_POSITION, RB_E_SYSTEM.
 */
int rb_attach(int fd, uint32_t access, uint64_t max_file_bytes, rb_consumer **consumer, rb_error *error);
/* rb_consumer_free - unmap a ring without a word in it; NULL is ignored. */
void rb_consumer_free(rb_consumer *consumer);

/* rb_consumer_header - the private, checked copy of the header with layout and resource: header_bytes bytes. */
const rb_header *rb_consumer_header(const rb_consumer *consumer);

/*
 * rb_consumer_trim - give back the memory of layout and resource, up to 512 KiB, once the caller has read them.
 *
 * What rb_consumer_header returned before is gone; what it returns now has neither, and says so.
 */
void rb_consumer_trim(rb_consumer *consumer);

/*
 * rb_poll - look at every lane: fills lane_count views.
 *
 * Returns: how many records are ready in all; RB_E_POSITION when a tail cannot be, an observer's head neither (the views
 * are filled all the same).
 */
int64_t rb_poll(rb_consumer *consumer, rb_lane_view *views);

/*
 * rb_copy - copy at most max_records ready records of a lane to `records`, and advance `read` (RB_CONSUME only).
 *
 * `records` has room for max_records times slot_bytes; nothing in them was checked.
 *
 * Returns: how many, 0 when none is ready; RB_E_POSITION.
 */
int64_t rb_copy(rb_consumer *consumer, uint32_t lane, void *records, uint64_t max_records);

/*
 * rb_peek - look at records without taking them, beside producer and drain (RB_OBSERVE only; nothing is written).
 *
 * Copies at most max_records published records of a lane, from *position on, and keeps those that the drain had not
 * released when they were copied: their slots were not written again.
 *
 * Returns: how many were kept; they begin at `records`, with none missing between them and the new *position. *missed
 * is how many the drain was done with before they were looked at or copied: positions passed = kept + missed. Begin at
 * a lane's view.released, or at view.tail for what is to come. RB_E_POSITION: tail and head are more than a capacity
 * apart, or *position lies beyond tail.
 */
int64_t rb_peek(rb_consumer *consumer, uint32_t lane, uint64_t *position, void *records, uint64_t max_records,
                uint64_t *missed);

/*
 * rb_release - say what became of the oldest sum(outcome) read records of a lane: add to the outcome words, then move
 * head, so that the producer may write their slots again (RB_CONSUME only).
 *
 * Returns: RB_OK; RB_E_ARGUMENT when they are more than were copied and not released.
 */
int rb_release(rb_consumer *consumer, uint32_t lane, const rb_outcome *outcome);

/*
 * rb_release_stored - the same for records that an earlier drain has put into a store of its own, from which they go on:
 * those that it had counted here, too, are not handled a second time, and so are not `repeated`. Returns: as above.
 */
int rb_release_stored(rb_consumer *consumer, uint32_t lane, const rb_outcome *outcome);

/*
 * rb_told - read how much of a lane's counts of spans and values drains have told; what a file says above the counts
 * themselves is the caller's to bound.
 *
 * Returns: RB_OK; RB_E_ARGUMENT when there is no such lane; RB_E_TRUNCATED.
 */
int rb_told(rb_consumer *consumer, uint32_t lane, rb_counts *told);

/* rb_tell - note how much of a lane's counts is told now (RB_CONSUME only). Returns: as above. */
int rb_tell(rb_consumer *consumer, uint32_t lane, const rb_counts *told);

/* rb_set_consumer_state - store an enum rb_consumer_state in every lane (RB_CONSUME only). Returns: RB_OK. */
int rb_set_consumer_state(rb_consumer *consumer, uint32_t state);

/*
 * rb_set_sleeping - set `sleeping` in every lane, and look at the tails once more (RB_CONSUME only).
 *
 * Returns: 1 when records are ready (do not sleep), else 0.
 */
int rb_set_sleeping(rb_consumer *consumer, uint32_t sleeping);

/*
 * rb_scan - which of `count` consumers have something for rb_poll: records that were not copied, a close, a fault.
 *
 * Writes their indices to `with_news`, room for `count`, in order. Costs a few loads a lane.
 *
 * Returns: how many have.
 */
uint32_t rb_scan(rb_consumer *const *consumers, uint32_t count, uint32_t *with_news);

/*
 * rb_producer_alive - whether the producer of the ring behind `fd` lives: asks for its lock, and takes none.
 *
 * Returns: 1 while it does, 0 when not, RB_E_SYSTEM. Threads: any.
 */
int rb_producer_alive(int fd);

/*
 * The doorbell: a futex word in <ring dir>/doorbell that the drain creates and waits on, and that a producer rings
 * with FUTEX_WAKE_OP. Both touch the word only through the kernel.
 */
typedef struct rb_doorbell rb_doorbell;
/* rb_doorbell_open - create or open it. Returns: RB_OK and *doorbell, or RB_E_SYSTEM with error->os_errno. */
int rb_doorbell_open(const char *path, uint32_t file_mode, rb_doorbell **doorbell, rb_error *error);
/* rb_doorbell_fd - which file it is. Returns: a descriptor, which stays the doorbell's. */
int rb_doorbell_fd(const rb_doorbell *doorbell);
/*
 * rb_doorbell_follow - let a doorbell, just opened, heed the rings of another, too: of one whose file was removed, which
 * producers have mapped. That one is freed with it. Beyond eight in a row the oldest are freed.
 */
void rb_doorbell_follow(rb_doorbell *doorbell, rb_doorbell *before);
/* rb_doorbell_value - the word, 0 where the file was truncated: read it before the last look at the rings. */
uint32_t rb_doorbell_value(rb_doorbell *doorbell);
/*
 * rb_doorbell_wait - wait until the word differs from `value`, a signal comes or the time is over.
 *
 * Returns: 0 when the time is over, else 1.
 */
int rb_doorbell_wait(rb_doorbell *doorbell, uint32_t value, uint64_t timeout_nano);
/*
 * rb_sleep - the drain's sleep: rb_set_sleeping for all, then rb_doorbell_wait with a look at all of them (as rb_scan)
 * after each nap, for producers that had no reason to ring; then they are told that nobody sleeps. All have RB_CONSUME.
 *
 * Returns: 1 when there is something to see to, or a signal came; 0 when the time is over.
 */
int rb_sleep(rb_doorbell *doorbell, uint32_t value, rb_consumer *const *consumers, uint32_t count, uint64_t nap_nano,
             uint64_t timeout_nano);
/*
 * rb_gather - as rb_sleep, where records may wait and more of them are wanted at once: nothing ends it before its time but
 * a ring of the doorbell, a signal, a lane of which a quarter is ready, a producer that closed, or a file that is lost.
 * Producers ring at the quarter; for those that cannot, it looks every 20 ms.
 *
 * Returns: as rb_sleep.
 */
int rb_gather(rb_doorbell *doorbell, uint32_t value, rb_consumer *const *consumers, uint32_t count,
              uint64_t timeout_nano);
/* rb_doorbell_ring - ring it from another thread of the drain, whose work is done. Threads: any. Signals: safe. */
void rb_doorbell_ring(rb_doorbell *doorbell);
/* rb_doorbell_free - unmap and close it and those that it follows; the files stay. */
void rb_doorbell_free(rb_doorbell *doorbell);
/* [/COLD] */

/* ---- encoder ---- */

/* [ABI] */
enum rb_type {
    RB_TYPE_BOOL = 0,
    RB_TYPE_I8 = 1,
    RB_TYPE_I16 = 2,
    RB_TYPE_I32 = 3,
    RB_TYPE_I64 = 4,
    RB_TYPE_U8 = 5,
    RB_TYPE_U16 = 6,
    RB_TYPE_U32 = 7,
    RB_TYPE_U64 = 8,
    RB_TYPE_F64 = 9,
    RB_TYPE_LABEL = 10, /* u8 or u16 index into `labels` */
    RB_TYPE_HEX = 11,   /* `size` raw bytes */
    RB_TYPE_STR = 12,   /* u16 length, at most `size`, then the bytes: str and bytes */
    RB_TYPE_BYTES = 13,
    /*
     * u16 length, at most `size`, then fields of a protobuf message, which the drain takes over as they are:
     * otlp: of Span trace_state, name, attributes, dropped_attributes_count, events, dropped_events_count, links,
     *   dropped_links_count, and status with its message alone. A name takes the place of the record's; attributes come
     *   behind those of the layout.
     * scope: of ScopeSpans scope and schema_url, which take the place of the layout's.
     * Sound is a value that parses, whose fields (in all messages) are known, come in the order of their numbers and,
     * unless repeated, once; strings are UTF-8, a link has both ids, an AnyValue lies in at most 15 others.
     */
    RB_TYPE_OTLP = 14,
    RB_TYPE_SCOPE = 15
};

/* UTF-8, which may hold any byte; not zero-terminated. */
typedef struct rb_text {
    const char *data;
    uint32_t bytes;
    uint32_t pad;
} rb_text;

typedef struct rb_plan_attribute {
    rb_text key;
    const rb_text *labels;
    uint32_t label_count;
    uint32_t type;   /* enum rb_type */
    uint32_t offset; /* of the value, in the record */
    uint32_t size;   /* label: 1 or 2, the bytes of the index; hex, str, bytes, otlp, scope: see there; else unused */
} rb_plan_attribute;

/* A layout, as the encoder needs it. Attribute i is bit i of rb_record.present. */
typedef struct rb_plan_config {
    const rb_text *span_names;
    const rb_plan_attribute *attributes;
    uint32_t span_name_count;
    uint32_t attribute_count;
    uint32_t slot_bytes;
    uint32_t pad;
    uint64_t root_threshold; /* of the ring's header: `th` of sampled roots, and of RB_PRESENT_ROOT_THRESHOLD */
} rb_plan_config;

typedef struct rb_plan rb_plan;

/* A writer of gzip, and what it knows of one layout. */
typedef struct rb_gzip rb_gzip;
typedef struct rb_gzip_layout rb_gzip_layout;

/* What lies around the spans of a ring: whole protobuf fields, each may be empty. */
typedef struct rb_gzip_around {
    rb_text resource;         /* of ResourceSpans */
    rb_text scope;            /* of ScopeSpans */
    rb_text scope_schema_url; /* of ScopeSpans */
    rb_text schema_url;       /* of ResourceSpans */
} rb_gzip_around;
/* [/ABI] */

/*
 * Records to OTLP, by a plan that is made once per layout. A plan is immutable: any number of threads may use it. The
 * records are private memory (rb_copy's); they may hold any bytes. Text that is not UTF-8 is mended with U+FFFD, since
 * one such string makes a receiver refuse the whole request.
 */
/* [COLD] */
/*
 * rb_plan_new - compile a layout: checks that every attribute lies in the slot, and copies all it needs. What surrounds
 * the spans is the caller's: records with a scope of their own are given apart, by scope.
 *
 * Returns: RB_OK and *plan; RB_E_ARGUMENT, RB_E_TOO_LARGE when the plan would exceed 16 MiB, RB_E_SYSTEM without
 * memory.
 * Threads: any.
 */
int rb_plan_new(const rb_plan_config *config, rb_plan **plan, rb_error *error);
/* rb_plan_free - free it; NULL is ignored. Threads: one, and no other may use it any more. */
void rb_plan_free(rb_plan *plan);

/*
 * rb_plan_protobuf_bound, rb_plan_json_bound - the most bytes that one record takes, and the least room that the
 * functions below work with. Threads: any.
 */
uint64_t rb_plan_protobuf_bound(const rb_plan *plan);
uint64_t rb_plan_json_bound(const rb_plan *plan);

/*
 * rb_encode_protobuf, rb_encode_json - encode records until they are all taken or the next one might not fit.
 *
 * Writes protobuf `ScopeSpans.spans` fields, tag and length included, or JSON `Span` objects with commas between them.
 * *spans + *invalid is how many records were taken. Bytes of `out` behind the result may be overwritten. Nothing is ever
 * written behind `out_bytes`, nor does one record take more than the plan's bound: it would be an invalid one.
 *
 * Returns: the bytes written, 0 when `out` has less room than the plan's bound; RB_E_ARGUMENT. Threads: any, on the
 * same plan.
 */
int64_t rb_encode_protobuf(const rb_plan *plan, const void *records, uint64_t count, void *out, uint64_t out_bytes,
                           uint64_t *spans, uint64_t *invalid);
int64_t rb_encode_json(const rb_plan *plan, const void *records, uint64_t count, void *out, uint64_t out_bytes,
                       uint64_t *spans, uint64_t *invalid);

/*
 * rb_protobuf_bytes - how many bytes rb_encode_protobuf makes of records, for layouts without str, bytes, otlp and scope.
 *
 * *spans + *invalid is `count`. Returns: the bytes; RB_E_ARGUMENT, also for other layouts. Threads: any, on the same plan.
 */
int64_t rb_protobuf_bytes(const rb_plan *plan, const void *records, uint64_t count, uint64_t *spans, uint64_t *invalid);

/*
 * rb_record_check - whether a record's core can be a span's; of a whole record rb_find_spans says it.
 *
 * Returns: RB_OK; RB_E_ZERO_ID for a zero trace or span id, RB_E_RECORD for a name, kind, status or reserved word that
 * cannot be. Threads: any.
 */
int rb_record_check(const void *record, uint32_t span_name_count);

/*
 * rb_find_spans - which records are spans: those that the functions above encode, and whose `scope` is sound, too.
 *
 * are_spans[i] becomes 1 or 0. Returns: how many are; RB_E_ARGUMENT. Threads: any, on the same plan.
 */
int64_t rb_find_spans(const rb_plan *plan, const void *records, uint64_t count, uint8_t *are_spans);

/*
 * rb_rendezvous - to which of several destinations each record's trace belongs: to that of the highest weight.
 *
 * The weight of a trace at a destination is mix(mix(first ^ seed) + last), where first and last are the two halves of
 * the trace id as little-endian numbers and mix is the finalizer of SplitMix64; of equal weights the lower seed wins. So
 * the order of the destinations says nothing, and when one comes or goes only its own traces move.
 *
 * destinations[i] becomes the index of a seed. Returns: RB_OK; RB_E_ARGUMENT. Threads: any.
 */
int rb_rendezvous(const void *records, uint64_t count, uint32_t slot_bytes, const uint64_t *seeds, uint32_t seed_count,
                  uint16_t *destinations);

/*
 * rb_group - records in the order of their destinations, each destination's in the order that they had.
 *
 * `out` has room for all records. Those of destination d end at index ends[d], where those of d + 1 begin. Returns:
 * RB_OK; RB_E_ARGUMENT, also for a destination that is not below destination_count. Threads: any.
 */
int rb_group(const void *records, uint64_t count, uint32_t slot_bytes, const uint16_t *destinations,
             uint32_t destination_count, void *out, uint64_t *ends);

/*
 * Records straight to gzip: the member holds what rb_encode_protobuf makes of them, with what surrounds it, but those
 * bytes are never written: since a layout says which parts of a span are constant, they need not be found again. For
 * layouts without str, bytes, otlp, scope and hex of more than 24 bytes.
 *
 *   rb_gzip_begin, rb_gzip_segment for the records of each ring, rb_gzip_finish: one member, a TracesData.
 *
 * A writer and its layouts belong to one thread at a time. What is known of a layout (what came before, a Huffman code)
 * is kept from member to member.
 */

/* rb_gzip_is_supported - whether this processor has what the writer needs, carry-less products. Returns: 1 or 0. Threads:
 * any. */
int rb_gzip_is_supported(void);
/* rb_gzip_new - Returns: RB_OK and *gzip; RB_E_ARGUMENT, also where it is not supported; RB_E_SYSTEM. Threads: any. */
int rb_gzip_new(rb_gzip **gzip, rb_error *error);
/* rb_gzip_free - free it; NULL is ignored. Its layouts are of no use then. Threads: one. */
void rb_gzip_free(rb_gzip *gzip);
/*
 * rb_gzip_layout_new - get a layout ready for this writer; the plan must live as long.
 *
 * Returns: RB_OK and *layout; RB_E_ARGUMENT for one with other attributes, RB_E_TOO_LARGE when a span may take
 * more than 4 KiB or it has more than some 4,000 labels, RB_E_SYSTEM without memory. Threads: any.
 */
int rb_gzip_layout_new(rb_gzip *gzip, const rb_plan *plan, rb_gzip_layout **layout, rb_error *error);
/* rb_gzip_layout_free - free it; NULL is ignored. Threads: one. */
void rb_gzip_layout_free(rb_gzip_layout *layout);

/* rb_gzip_begin - begin a member; one that was not finished is forgotten. Threads: one. */
void rb_gzip_begin(rb_gzip *gzip);
/*
 * rb_gzip_segment - add a ring's records. Without a single span among them the member stays as it is.
 *
 * *spans + *invalid is `count`. Returns: RB_OK; RB_E_ARGUMENT, also without a member or for another writer's layout;
 * RB_E_TOO_LARGE when resource and scope take more than 65,513 bytes; RB_E_SYSTEM without memory, after which the member is
 * of no use. Threads: one.
 */
int rb_gzip_segment(rb_gzip *gzip, rb_gzip_layout *layout, const rb_gzip_around *around, const void *records,
                    uint64_t count, uint64_t *spans, uint64_t *invalid);
/*
 * rb_gzip_finish - end the member. *data is good until the next begins; *plain_bytes is what it decompresses to.
 *
 * Returns: RB_OK; RB_E_ARGUMENT without a member, RB_E_SYSTEM without memory. Threads: one.
 */
int rb_gzip_finish(rb_gzip *gzip, const uint8_t **data, uint64_t *bytes, uint64_t *plain_bytes);

/* rb_otlp_is_sound - whether these are a sound value of RB_TYPE_OTLP or _SCOPE. Returns: 1 or 0. Threads: any. */
int rb_otlp_is_sound(uint32_t type, const void *data, uint64_t bytes);
/* [/COLD] */

#ifdef __cplusplus
}
#endif

#endif
