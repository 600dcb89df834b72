/* What a call that failed tells its caller. */
#ifndef RINGBUF_ERROR_H
#define RINGBUF_ERROR_H

#include "ringbuf.h"

/*
 * Fills `error`, unless it is NULL, and returns `status`. In `format` %m is the text of os_errno: unlike strerror it is
 * safe beside threads.
 */
__attribute__((format(printf, 4, 5))) int rb_fail(rb_error *error, int status, int os_errno, const char *format, ...);

#endif
