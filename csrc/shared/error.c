#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "shared/error.h"

int rb_fail(rb_error *error, int status, int os_errno, const char *format, ...)
{
    if (error != NULL) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        error->os_errno = os_errno;
        errno = os_errno; /* for %m */
        vsnprintf(error->detail, sizeof error->detail, format, arguments);
        va_end(arguments);
    }
    return status;
}
