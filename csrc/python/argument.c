/* One Python value into its place in a record. */
#include <string.h>

#include "site.h"

/*
 * Numbers are read as `long`, which has 64 bits here: CPython's functions for `long long` take an int of more than 30 bits,
 * as a time is, apart into bytes, three times as slowly.
 */
_Static_assert(sizeof(long) == sizeof(int64_t), "");

/* An int, or a member of an IntEnum; a bool is neither. */
static int is_int(PyObject *value) { return PyLong_CheckExact(value) || (PyLong_Check(value) && !PyBool_Check(value)); }

static int put_unsigned(PyObject *value, uint32_t bytes, uint8_t *to)
{
    if (!is_int(value))
        return 0;
    unsigned long number = PyLong_AsUnsignedLong(value);
    if (number == (unsigned long)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    if (bytes < 8 && number >> (8 * bytes) != 0)
        return 0;
    memcpy(to, &number, bytes); /* little-endian, as the record */
    return 1;
}

static int put_signed(PyObject *value, uint32_t bytes, uint8_t *to)
{
    if (!is_int(value))
        return 0;
    long number = PyLong_AsLong(value);
    if (number == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    long sign = number >> (8 * bytes - 1);
    if (sign != 0 && sign != -1)
        return 0;
    memcpy(to, &number, bytes);
    return 1;
}

static int put_float(PyObject *value, uint8_t *to)
{
    if (!PyFloat_CheckExact(value))
        return 0;
    double number = PyFloat_AsDouble(value);
    memcpy(to, &number, sizeof number);
    return 1;
}

void rb_argument_put_label(const rb_argument *argument, uint64_t index, uint8_t *record)
{
    memcpy(record + argument->offset, &index, argument->bytes);
    if (argument->statuses == NULL)
        return;
    uint8_t status = (uint8_t)PyBytes_AsString(argument->statuses)[index];
    if (status != RB_STATUS_UNSET) /* else it would take back what another label, or a constant, has said */
        ((rb_record *)(void *)record)->status = status;
}

/* A string that is a label, or an int (a member of an IntEnum is one) that is the index of a label. */
static int put_label(const rb_argument *argument, PyObject *value, uint8_t *record)
{
    PyObject *index = value;
    if (argument->only == NULL && PyUnicode_CheckExact(value)) {
        index = PyDict_GetItemWithError(argument->labels, value);
        if (index == NULL) {
            PyErr_Clear();
            return 0;
        }
    } else if (!is_int(value)) {
        return 0;
    }
    long number = PyLong_AsLong(index);
    if (number == -1 && PyErr_Occurred())
        PyErr_Clear();
    if (number < 0 || number >= argument->label_count)
        return 0;
    if (argument->names != NULL &&
        (uint8_t)PyBytes_AsString(argument->names)[number] != ((const rb_record *)(const void *)record)->name)
        return 0;
    rb_argument_put_label(argument, (uint64_t)number, record);
    return 1;
}

static int put_exactly(const rb_argument *argument, PyObject *value, uint8_t *to)
{
    if (argument->only == NULL && !PyBytes_CheckExact(value))
        return 0;
    char *data;
    Py_ssize_t bytes;
    if (PyBytes_AsStringAndSize(value, &data, &bytes) < 0 || bytes != (Py_ssize_t)argument->bytes)
        return 0;
    memcpy(to, data, argument->bytes);
    return 1;
}

/* A length of two bytes, then the data: `bytes` is the room for both. */
static int put_with_length(const char *data, Py_ssize_t length, uint32_t bytes, uint8_t *to)
{
    if (length > (Py_ssize_t)bytes - 2)
        return 0;
    uint16_t stored = (uint16_t)length;
    memcpy(to, &stored, sizeof stored);
    memcpy(to + sizeof stored, data, (size_t)length);
    return 1;
}

static int put_str(const rb_argument *argument, PyObject *value, uint8_t *to)
{
    Py_ssize_t length;
    if (!PyUnicode_CheckExact(value))
        return 0;
    const char *data = PyUnicode_AsUTF8AndSize(value, &length);
    if (data == NULL) { /* a lone surrogate */
        PyErr_Clear();
        return 0;
    }
    return put_with_length(data, length, argument->bytes, to);
}

static int put_bytes(const rb_argument *argument, PyObject *value, uint8_t *to)
{
    if (!PyBytes_CheckExact(value))
        return 0;
    return put_with_length(PyBytes_AsString(value), PyBytes_Size(value), argument->bytes, to);
}

static int put_bool(PyObject *value, uint8_t *to)
{
    if (value != Py_True && value != Py_False)
        return 0;
    *to = value == Py_True;
    return 1;
}

/* The span's name, by the identity of what stands for it. */
static int put_name(const rb_argument *argument, PyObject *value, uint8_t *record)
{
    for (uint16_t i = 0; i < argument->label_count; i++) {
        if (PyTuple_GetItem(argument->labels, i) == value) {
            ((rb_record *)(void *)record)->name = i;
            return 1;
        }
    }
    return 0;
}

static int put_status(PyObject *value, uint8_t *record)
{
    if (!is_int(value))
        return 0;
    long status = PyLong_AsLong(value);
    if (status == -1 && PyErr_Occurred())
        PyErr_Clear();
    if (status < RB_STATUS_UNSET || status > RB_STATUS_ERROR)
        return 0;
    ((rb_record *)(void *)record)->status = (uint8_t)status;
    return 1;
}

static int put_value(const rb_argument *argument, PyObject *value, uint8_t *record)
{
    uint8_t *to = record + argument->offset;
    switch ((enum rb_type)argument->type) {
    case RB_TYPE_BOOL:
        return put_bool(value, to);
    case RB_TYPE_I8:
    case RB_TYPE_I16:
    case RB_TYPE_I32:
    case RB_TYPE_I64:
        return put_signed(value, argument->bytes, to);
    case RB_TYPE_U8:
    case RB_TYPE_U16:
    case RB_TYPE_U32:
    case RB_TYPE_U64:
        return put_unsigned(value, argument->bytes, to);
    case RB_TYPE_F64:
        return put_float(value, to);
    case RB_TYPE_LABEL:
        return put_label(argument, value, record);
    case RB_TYPE_HEX:
        return put_exactly(argument, value, to);
    case RB_TYPE_STR:
        return put_str(argument, value, to);
    default: /* bytes, and what is like them */
        return put_bytes(argument, value, to);
    }
}

/* An int in all of its 64 bits: a time, or a u64. */
static int put_word(const rb_argument *argument, PyObject *value, uint8_t *record)
{
    if (!PyLong_CheckExact(value))
        return 0;
    unsigned long number = PyLong_AsUnsignedLong(value);
    if (number == (unsigned long)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    memcpy(record + argument->offset, &number, sizeof number);
    return 1;
}

int rb_argument_put_plain(const rb_argument *argument, PyObject *value, uint8_t *record)
{
    rb_record *core = (rb_record *)(void *)record;
    if (argument->is_word && put_word(argument, value, record)) {
        core->present |= argument->present;
        return !argument->in_order || core->start_unix_nano <= core->end_unix_nano;
    }
    if (value == Py_None) {
        if (!argument->takes_none)
            return 0;
        if (argument->role == RB_ROLE_END)
            core->end_unix_nano = rb_clock_unix_nano();
        return 1;
    }
    if (argument->only != NULL && Py_TYPE(value) != argument->only)
        return 0;
    if (argument->role >= RB_ROLE_NAME)
        return argument->role == RB_ROLE_NAME ? put_name(argument, value, record) : put_status(value, record);
    if (!put_value(argument, value, record))
        return 0;
    core->present |= argument->present;
    return !argument->in_order || core->start_unix_nano <= core->end_unix_nano;
}
