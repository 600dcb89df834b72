/* The one table of hex digits. */
#ifndef RINGBUF_HEX_H
#define RINGBUF_HEX_H

static inline char rb_hex_digit(unsigned nibble) { return "0123456789abcdef"[nibble & 15]; }

#endif
