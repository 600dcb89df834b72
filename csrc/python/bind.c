/* Makes a ringbuf._site.Site of its parts, and refuses what would not lie in the record. */
#include <string.h>

#include "site.h"

static PyObject *or_null(PyObject *object) { return object == Py_None ? NULL : Py_NewRef(object); }

void rb_argument_release(rb_argument *argument)
{
    Py_XDECREF(argument->name);
    Py_XDECREF((PyObject *)argument->only);
    Py_XDECREF(argument->labels);
    Py_XDECREF(argument->statuses);
    Py_XDECREF(argument->names);
}

/*
 * A copy of the labels: a lookup in the caller's dict, whose keys may be anything, could run code that changes it.
 * *count: how many. NULL with an exception.
 */
static PyObject *copy_labels(PyObject *given, uint32_t *count)
{
    PyObject *key;
    PyObject *index;
    Py_ssize_t at = 0;
    PyObject *labels = PyDict_Check(given) ? PyDict_Copy(given) : NULL;
    while (labels != NULL && PyDict_Next(labels, &at, &key, &index)) {
        if (!PyUnicode_CheckExact(key) || !PyLong_CheckExact(index))
            Py_CLEAR(labels);
    }
    if (labels != NULL)
        *count = (uint32_t)PyDict_Size(labels);
    else if (!PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "labels are a dict from str to int");
    return labels;
}

static int take_labels(rb_argument *argument, PyObject *given)
{
    if (given == Py_None)
        return 0;
    if (argument->role == RB_ROLE_NAME && PyTuple_Check(given)) {
        argument->labels = Py_NewRef(given);
        argument->label_count = (uint32_t)PyTuple_Size(given);
        return 0;
    }
    argument->labels = copy_labels(given, &argument->label_count);
    return argument->labels == NULL ? -1 : 0;
}

/* What is written to the record: the bytes of a type, and as many as it takes of the record. */
static int has_sound_size(const rb_argument *argument, uint32_t slot_bytes)
{
    if (argument->bytes == 0 || argument->offset > slot_bytes || argument->bytes > slot_bytes - argument->offset)
        return 0;
    if (argument->type == RB_TYPE_F64)
        return argument->bytes == sizeof(double);
    return argument->type > RB_TYPE_LABEL || argument->bytes <= sizeof(uint64_t);
}

static int is_sound(const rb_argument *argument, uint32_t slot_bytes)
{
    if (argument->role == RB_ROLE_NAME)
        return argument->label_count > 0 && PyTuple_Check(argument->labels);
    if (!has_sound_size(argument, slot_bytes))
        return 0;
    if ((argument->type == RB_TYPE_LABEL) != (argument->labels != NULL))
        return 0;
    if (argument->only != NULL && (!PyType_Check((PyObject *)argument->only) ||
                                   (argument->type == RB_TYPE_HEX && !PyType_IsSubtype(argument->only, &PyBytes_Type))))
        return 0;
    if (argument->takes_forms && (argument->type != RB_TYPE_HEX || argument->bytes != 16))
        return 0;
    Py_ssize_t count = (Py_ssize_t)argument->label_count;
    return (argument->statuses == NULL ||
            (PyBytes_Check(argument->statuses) && PyBytes_Size(argument->statuses) >= count)) &&
           (argument->names == NULL || (PyBytes_Check(argument->names) && PyBytes_Size(argument->names) >= count));
}

static int read_argument(const rb_py_site *site, PyObject *description, rb_argument *argument)
{
    PyObject *name;
    PyObject *only;
    PyObject *labels;
    PyObject *statuses;
    PyObject *span_names;
    int required;
    int takes_none;
    int in_order;
    int is_keyword;
    int takes_forms;
    if (!PyArg_ParseTuple(description,
                          "UIIIIIOOOOppppp;an argument is (name, role, type, offset, bytes, present, only, "
                          "labels, statuses, names, required, takes_none, in_order, is_keyword, takes_forms)",
                          &name, &argument->role, &argument->type, &argument->offset, &argument->bytes,
                          &argument->present, &only, &labels, &statuses, &span_names, &required, &takes_none, &in_order,
                          &is_keyword, &takes_forms))
        return -1;
    argument->name = Py_NewRef(name);
    PyUnicode_InternInPlace(&argument->name);
    argument->only = (PyTypeObject *)or_null(only);
    argument->statuses = or_null(statuses);
    argument->names = or_null(span_names);
    argument->required = (uint8_t)required;
    argument->takes_none = (uint8_t)takes_none;
    argument->in_order = (uint8_t)in_order;
    argument->is_keyword = (uint8_t)is_keyword;
    argument->takes_forms = (uint8_t)takes_forms;
    argument->is_word = argument->type == RB_TYPE_U64 && argument->role < RB_ROLE_NAME && argument->bytes == 8 &&
                        argument->only == NULL;
    if (take_labels(argument, labels) < 0)
        return -1;
    if (!is_sound(argument, site->slot_bytes)) {
        PyErr_Format(PyExc_ValueError, "%U: no such argument", name);
        return -1;
    }
    return 0;
}

static int read_arguments(rb_py_site *site, PyObject *descriptions)
{
    Py_ssize_t count = PyTuple_Size(descriptions);
    if (count > RB_MAX_ARGUMENTS) {
        PyErr_SetString(PyExc_ValueError, "too many arguments");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        rb_argument argument;
        memset(&argument, 0, sizeof argument);
        int rv = read_argument(site, PyTuple_GetItem(descriptions, i), &argument);
        if (rv == 0 && !argument.is_keyword && (Py_ssize_t)site->positional_count < i) {
            PyErr_SetString(PyExc_ValueError, "what is given by name alone comes last");
            rv = -1;
        }
        if (rv < 0) {
            rb_argument_release(&argument);
            return -1;
        }
        /* All at once, at the end: the collector shows a site that is being made to whoever asks it. */
        site->arguments[i] = argument;
        site->argument_count++;
        int is_value = argument.role == RB_ROLE_VALUE || argument.role == RB_ROLE_STATUS;
        if (is_value && site->value_count < RB_MAX_VALUES)
            site->value_arguments[site->value_count++] = (uint8_t)i;
        if (argument.is_keyword)
            continue;
        site->positional_count++;
        site->positional_values = site->value_count;
    }
    return 0;
}

/* Site(owner of the producer, template, arguments, failure, convert, refuse, recover, attend, span type, origin) */
PyObject *rb_site_make(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    PyObject *owner;
    const char *template;
    Py_ssize_t template_bytes;
    PyObject *descriptions;
    PyObject *failure;
    PyObject *convert;
    PyObject *refuse;
    PyObject *recover;
    PyObject *attend;
    PyObject *span_type;
    PyObject *origin;
    if (names != NULL && PyDict_Size(names) != 0) {
        PyErr_SetString(PyExc_TypeError, "Site takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "Oy#O!OOOOOO!O!", &owner, &template, &template_bytes, &PyTuple_Type, &descriptions,
                          &failure, &convert, &refuse, &recover, &attend, &PyType_Type, &span_type, &PyTuple_Type,
                          &origin))
        return NULL;
    rb_producer *producer = PyCapsule_GetPointer(owner, RB_PRODUCER_CAPSULE);
    if (producer == NULL)
        return NULL;
    PyObject *home;
    rb_site_module *module = rb_module_of(type, &home);
    if (module == NULL || !PyType_IsSubtype((PyTypeObject *)span_type, module->span)) {
        PyErr_SetString(PyExc_TypeError, "Site needs the type of its spans");
        return NULL;
    }
    if (template_bytes < RB_CORE_BYTES || template_bytes > RB_MAX_SLOT_BYTES || template_bytes % 64 != 0) {
        PyErr_SetString(PyExc_ValueError, "the template is no record");
        return NULL;
    }
    rb_py_site *site = (rb_py_site *)PyType_GenericAlloc(type, 0);
    if (site == NULL)
        return NULL;
    site->module = module;
    site->home = Py_NewRef(home);
    site->owner = Py_NewRef(owner);
    site->producer = producer;
    site->convert = Py_NewRef(convert);
    site->refuse = Py_NewRef(refuse);
    site->origin = Py_NewRef(origin);
    site->failure = or_null(failure);
    site->recover = Py_NewRef(recover);
    site->attend = Py_NewRef(attend);
    site->span_type = (PyTypeObject *)Py_NewRef(span_type);
    site->slot_bytes = (uint32_t)template_bytes;
    site->template = PyMem_Malloc((size_t)template_bytes);
    if (site->template == NULL) {
        Py_DECREF(site);
        return PyErr_NoMemory();
    }
    memcpy(site->template, template, (size_t)template_bytes);
    if (read_arguments(site, descriptions) < 0) {
        Py_DECREF(site);
        return NULL;
    }
    return (PyObject *)site;
}
