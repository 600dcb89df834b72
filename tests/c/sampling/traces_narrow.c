/*
 * traces_narrow.c - the same with a hash of four bits: all traces meet in a few places of the table, and none is taken
 * for another.
 */
#define RINGBUF_NARROW_HASH
#include "sampling/look.c"

#include "traces.c"
