/* A 16-byte id, such as a lease, in the forms that people have it in: bytes, an int, hex digits, a uuid.UUID. */
#include "site.h"

enum { ID_BYTES = 16 };

static int put_bytes(PyObject *value, uint8_t *to)
{
    char *data;
    Py_ssize_t bytes;
    if (PyBytes_AsStringAndSize(value, &data, &bytes) < 0 || bytes != ID_BYTES)
        return 0;
    memcpy(to, data, ID_BYTES);
    return 1;
}

static void put_big_endian(uint64_t word, uint8_t *to)
{
    word = __builtin_bswap64(word);
    memcpy(to, &word, sizeof word);
}

/* From 0 to 2**128 - 1, big-endian. */
static int put_int(PyObject *value, uint8_t *to)
{
    unsigned long high = (unsigned long)-1;
    PyObject *bits = PyLong_FromLong(64);
    PyObject *shifted = bits == NULL ? NULL : PyNumber_Rshift(value, bits);
    if (shifted != NULL)
        high = PyLong_AsUnsignedLong(shifted);
    Py_XDECREF(shifted);
    Py_XDECREF(bits);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    put_big_endian(high, to);
    put_big_endian(PyLong_AsUnsignedLongLongMask(value), to + 8);
    return 1;
}

/* -1 for what is no hex digit. */
static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    int letter = digit | 0x20;
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

static int put_hex(PyObject *value, uint8_t *to)
{
    Py_ssize_t bytes;
    const char *text = PyUnicode_AsUTF8AndSize(value, &bytes);
    if (text == NULL) { /* a lone surrogate */
        PyErr_Clear();
        return 0;
    }
    if (bytes != 2 * ID_BYTES)
        return 0;
    for (int i = 0; i < ID_BYTES; i++) {
        int both = digit_value(text[2 * i]) * 16 + digit_value(text[2 * i + 1]);
        if (digit_value(text[2 * i]) < 0 || digit_value(text[2 * i + 1]) < 0)
            return 0;
        to[i] = (uint8_t)both;
    }
    return 1;
}

/* uuid.UUID, borrowed; NULL while nobody has imported its module: then there is no UUID either. */
static PyTypeObject *uuid_type(rb_site_module *module)
{
    if (module->uuid != NULL)
        return module->uuid;
    PyObject *name = PyUnicode_FromString("uuid");
    PyObject *uuid = name == NULL ? NULL : PyImport_GetModule(name);
    PyObject *type = uuid == NULL ? NULL : PyObject_GetAttrString(uuid, "UUID");
    PyObject *number_name = PyUnicode_InternFromString("int");
    if (type != NULL && PyType_Check(type) && number_name != NULL) {
        module->uuid_number_name = Py_NewRef(number_name);
        module->uuid = (PyTypeObject *)Py_NewRef(type);
    }
    PyErr_Clear();
    Py_XDECREF(number_name);
    Py_XDECREF(type);
    Py_XDECREF(uuid);
    Py_XDECREF(name);
    return module->uuid;
}

static int put_uuid(const rb_site_module *module, PyObject *value, uint8_t *to)
{
    PyObject *number = PyObject_GetAttr(value, module->uuid_number_name);
    int rv = number != NULL && PyLong_CheckExact(number) && put_int(number, to);
    PyErr_Clear();
    Py_XDECREF(number);
    return rv;
}

int rb_id_form_put(rb_site_module *module, const rb_argument *argument, PyObject *value, uint8_t *record)
{
    uint8_t id[ID_BYTES];
    int is_put;
    if (PyBytes_CheckExact(value))
        is_put = put_bytes(value, id);
    else if (PyLong_CheckExact(value))
        is_put = put_int(value, id);
    else if (PyUnicode_CheckExact(value))
        is_put = put_hex(value, id);
    else
        is_put = Py_TYPE(value) == uuid_type(module) && put_uuid(module, value, id);
    if (!is_put)
        return 0;
    memcpy(record + argument->offset, id, ID_BYTES);
    ((rb_record *)(void *)record)->present |= argument->present;
    return 1;
}
