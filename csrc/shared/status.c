/* What a status means, in words. */
#include "ringbuf.h"

const char *rb_strerror(int status)
{
    switch ((enum rb_status)status) {
    case RB_OK:
        return "ok";
    case RB_NO_RING:
        return "no ring in this process";
    case RB_CLOSED:
        return "the producer is closed";
    case RB_BUSY:
        return "another thread opens or closes this producer";
    case RB_E_ARGUMENT:
        return "an argument is out of range";
    case RB_E_SYSTEM:
        return "a system call failed";
    case RB_E_ZERO_ID:
        return "a trace or span id is zero";
    case RB_E_RECORD:
        return "a record's name, kind, status or reserved word is out of bounds";
    case RB_E_NOT_A_RING:
        return "not a ring";
    case RB_E_ABI_NEWER:
        return "written by a newer major version of ringbuf";
    case RB_E_ABI_UNKNOWN:
        return "a format version that never was";
    case RB_E_FLAGS:
        return "a ring flag that this version does not know";
    case RB_E_GEOMETRY:
        return "sizes in the header that disagree or exceed their limits";
    case RB_E_FILE_SIZE:
        return "the file has another size than its header says";
    case RB_E_TOO_LARGE:
        return "larger than the reader allows";
    case RB_E_SPARSE:
        return "the file has holes";
    case RB_E_CRC:
        return "the header does not match its checksum";
    case RB_E_JSON_BOUNDS:
        return "layout or resource lies outside the header";
    case RB_E_POSITION:
        return "lane positions that cannot be";
    case RB_E_TRUNCATED:
        return "the file was truncated while it was read";
    case RB_E_TRACEPARENT:
        return "not the plain form of a version 00 traceparent";
    }
    return "unknown status";
}
