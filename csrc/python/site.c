/* ringbuf._site.Site: what is constant where spans are emitted, and the calls that emit them. */
#include <string.h>

#include "producer/producer_state.h"
#include "site.h"

enum { RAISED = -100 };

/* ---- writing ---- */

int rb_site_put(rb_py_site *site, uint32_t argument, PyObject *value, uint8_t *record, uint64_t *cuts)
{
    const rb_argument *one = &site->arguments[argument];
    if (rb_argument_put_plain(one, value, record))
        return 0;
    PyObject *converted = PyObject_CallFunction(site->convert, "IO", argument, value);
    const char *data;
    Py_ssize_t bytes;
    int was_cut;
    if (converted == NULL)
        return -1;
    if (!PyArg_ParseTuple(converted, "y#p", &data, &bytes, &was_cut)) {
        Py_DECREF(converted);
        return -1;
    }
    if (bytes != (Py_ssize_t)one->bytes) {
        PyErr_Format(PyExc_SystemError, "%U: %zd bytes where its record has %u", one->name, bytes, one->bytes);
        Py_DECREF(converted);
        return -1;
    }
    if (one->type == RB_TYPE_LABEL && one->role == RB_ROLE_VALUE) {
        uint64_t index = 0;
        memcpy(&index, data, one->bytes);
        if (index < one->label_count)
            rb_argument_put_label(one, index, record);
    } else {
        memcpy(record + one->offset, data, one->bytes);
    }
    ((rb_record *)(void *)record)->present |= one->present;
    *cuts += (uint64_t)was_cut;
    Py_DECREF(converted);
    return 0;
}

/* Make a ring where there is none. 1, 0, or RAISED. */
static int recover(const rb_py_site *site)
{
    PyObject *made = PyObject_CallNoArgs(site->recover);
    if (made == NULL)
        return RAISED;
    int is_made = made == Py_True;
    Py_DECREF(made);
    return is_made;
}

int rb_site_begin(rb_py_site *site, const rb_span *parent, rb_span *span)
{
    int rv = rb_span_begin(site->producer, parent, span);
    if (rv == RB_OK)
        return rv;
    rv = recover(site);
    return rv == RAISED ? RAISED : rb_span_begin(site->producer, parent, span);
}

/* rb_emit copies as many bytes as a slot of the ring has: none may be behind those that the site's records have. */
static int emit_record(const rb_py_site *site, const uint8_t *record)
{
    if (site->producer->slot_bytes > site->slot_bytes)
        return RB_E_RECORD;
    return rb_emit(site->producer, (const rb_record *)(const void *)record);
}

int rb_site_write(rb_py_site *site, const uint8_t *record, uint64_t cuts)
{
    if (cuts != 0)
        rb_count_truncated(site->producer, cuts);
    int rv = emit_record(site, record);
    if (rv == 1 || rv == 0)
        return rv;
    if (rv == RB_NO_RING) {
        rv = recover(site);
        if (rv == RAISED)
            return -1;
        rv = rv ? emit_record(site, record) : RB_NO_RING;
        if (rv == RB_NO_RING) {
            rb_count_local(site->producer, 1);
            return 0;
        }
    }
    if (rv < 0) {
        PyErr_SetString(PyExc_ValueError, rb_strerror(rv));
        return -1;
    }
    if (rv > 1) {
        PyObject *done = PyObject_CallNoArgs(site->attend);
        if (done == NULL)
            return -1;
        Py_DECREF(done);
    }
    return rv & 1;
}

/* ---- emit ---- */

static int argument_named(const rb_py_site *site, PyObject *name)
{
    for (uint32_t i = 0; i < site->argument_count; i++) {
        if (site->arguments[i].name == name)
            return (int)i;
    }
    for (uint32_t i = 0; i < site->argument_count; i++) {
        if (PyUnicode_Compare(site->arguments[i].name, name) == 0)
            return (int)i;
    }
    PyErr_Format(PyExc_TypeError, "emit() got an unexpected keyword argument '%U'", name);
    return -1;
}

static int put_named(rb_py_site *site, PyObject *const *values, PyObject *names, uint64_t *given, uint8_t *record,
                     uint64_t *cuts)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(names); i++) {
        int argument = argument_named(site, PyTuple_GetItem(names, i));
        if (argument < 0)
            return -1;
        if (*given >> argument & 1) {
            PyErr_Format(PyExc_TypeError, "emit() got multiple values for argument '%U'",
                         site->arguments[argument].name);
            return -1;
        }
        *given |= UINT64_C(1) << argument;
        if (rb_site_put(site, (uint32_t)argument, values[i], record, cuts) < 0)
            return -1;
    }
    return 0;
}

static int check_missing(const rb_py_site *site, uint64_t given)
{
    for (uint32_t i = 0; i < site->argument_count; i++) {
        if (site->arguments[i].required && !(given >> i & 1)) {
            PyErr_Format(PyExc_TypeError, "emit() missing required argument '%U'", site->arguments[i].name);
            return -1;
        }
    }
    return 0;
}

/* The record of a call's arguments, all but its ids. 0, or -1 with an exception; nothing was counted then. */
static int fill(rb_py_site *site, PyObject *const *arguments, Py_ssize_t count, PyObject *names, uint8_t *record,
                uint64_t *cuts)
{
    if (count > (Py_ssize_t)site->argument_count) {
        PyErr_Format(PyExc_TypeError, "emit() takes %u arguments, not %zd", site->argument_count, count);
        return -1;
    }
    memcpy(record, site->template, site->slot_bytes);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (rb_site_put(site, (uint32_t)i, arguments[i], record, cuts) < 0)
            return -1;
    }
    if (names == NULL && count == (Py_ssize_t)site->argument_count)
        return 0;
    uint64_t given = (UINT64_C(1) << count) - 1;
    if (names != NULL && put_named(site, arguments + count, names, &given, record, cuts) < 0)
        return -1;
    if (check_missing(site, given) < 0)
        return -1;
    /* An end that was left out is now, as one that is None. */
    for (uint32_t i = 0; i < site->argument_count; i++) {
        if (site->arguments[i].role == RB_ROLE_END && !(given >> i & 1))
            return rb_site_put(site, i, Py_None, record, cuts);
    }
    return 0;
}

static PyObject *begin_and_write(rb_py_site *site, const rb_span *parent, uint8_t *record, uint64_t cuts)
{
    rb_span span;
    int rv = rb_site_begin(site, parent, &span);
    if (rv == RAISED)
        return NULL;
    rb_span_identify(&span, (rb_record *)(void *)record);
    rv = rb_site_write(site, record, cuts);
    if (rv < 0)
        return NULL;
    return Py_NewRef(rv ? Py_True : Py_False);
}

static PyObject *site_emit(rb_py_site *site, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    uint64_t words[RB_RECORD_WORDS(site)];
    uint8_t *record = (uint8_t *)words;
    uint64_t cuts = 0;
    const rb_span *parent;
    PyObject *keep;
    if (fill(site, arguments, count, names, record, &cuts) < 0 || rb_parent_enclosing(site->module, &parent, &keep) < 0)
        return NULL;
    PyObject *result = begin_and_write(site, parent, record, cuts);
    Py_XDECREF(keep);
    return result;
}

static PyObject *site_emit_under(rb_py_site *site, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    uint64_t words[RB_RECORD_WORDS(site)];
    uint8_t *record = (uint8_t *)words;
    uint64_t cuts = 0;
    const rb_span *parent;
    PyObject *keep;
    rb_span space;
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "emit_under() missing its first argument, the parent");
        return NULL;
    }
    if (fill(site, arguments + 1, count - 1, names, record, &cuts) < 0 ||
        rb_parent_of(site->module, arguments[0], &parent, &keep, &space) < 0)
        return NULL;
    PyObject *result = begin_and_write(site, parent, record, cuts);
    Py_XDECREF(keep);
    return result;
}

static PyObject *site_span(rb_py_site *site, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    return rb_span_new(site, arguments, count, names);
}

/* ---- making ---- */

static PyObject *or_null(PyObject *object) { return object == Py_None ? NULL : Py_NewRef(object); }

static void release_argument(rb_argument *argument)
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
    if (!PyArg_ParseTuple(description,
                          "UIIIIIOOOOppp;an argument is (name, role, type, offset, bytes, present, only, "
                          "labels, statuses, names, required, takes_none, in_order)",
                          &name, &argument->role, &argument->type, &argument->offset, &argument->bytes,
                          &argument->present, &only, &labels, &statuses, &span_names, &required, &takes_none,
                          &in_order))
        return -1;
    argument->name = Py_NewRef(name);
    PyUnicode_InternInPlace(&argument->name);
    argument->only = (PyTypeObject *)or_null(only);
    argument->statuses = or_null(statuses);
    argument->names = or_null(span_names);
    argument->required = (uint8_t)required;
    argument->takes_none = (uint8_t)takes_none;
    argument->in_order = (uint8_t)in_order;
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
    if (count > RB_MAX_ATTRIBUTES + 3) {
        PyErr_SetString(PyExc_ValueError, "too many arguments");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        rb_argument argument;
        memset(&argument, 0, sizeof argument);
        if (read_argument(site, PyTuple_GetItem(descriptions, i), &argument) < 0) {
            release_argument(&argument);
            return -1;
        }
        /* All at once, at the end: the collector shows a site that is being made to whoever asks it. */
        site->arguments[i] = argument;
        site->argument_count++;
        if (argument.role == RB_ROLE_VALUE && site->value_count < RB_MAX_ATTRIBUTES)
            site->value_arguments[site->value_count++] = (uint8_t)i;
    }
    return 0;
}

static int read_failure(rb_py_site *site, PyObject *failure)
{
    if (failure == Py_None)
        return 0;
    PyObject *value;
    if (!PyArg_ParseTuple(failure, "IIO", &site->failure_argument, &site->failure_label, &value))
        return -1;
    if (site->failure_argument >= site->argument_count ||
        site->arguments[site->failure_argument].role != RB_ROLE_VALUE ||
        site->failure_label >= site->arguments[site->failure_argument].label_count) {
        PyErr_SetString(PyExc_ValueError, "failure: no such label");
        return -1;
    }
    site->failure = Py_NewRef(value);
    return 0;
}

/* Site(owner of the producer, template, arguments, failure, convert, recover, attend, span type) */
static PyObject *site_make(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    PyObject *owner;
    const char *template;
    Py_ssize_t template_bytes;
    PyObject *descriptions;
    PyObject *failure;
    PyObject *convert;
    PyObject *recover_ring;
    PyObject *attend;
    PyObject *span_type;
    if (names != NULL && PyDict_Size(names) != 0) {
        PyErr_SetString(PyExc_TypeError, "Site takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "Oy#O!OOOOO!", &owner, &template, &template_bytes, &PyTuple_Type, &descriptions,
                          &failure, &convert, &recover_ring, &attend, &PyType_Type, &span_type))
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
    site->recover = Py_NewRef(recover_ring);
    site->attend = Py_NewRef(attend);
    site->span_type = (PyTypeObject *)Py_NewRef(span_type);
    site->slot_bytes = (uint32_t)template_bytes;
    site->template = PyMem_Malloc((size_t)template_bytes);
    if (site->template == NULL) {
        Py_DECREF(site);
        return PyErr_NoMemory();
    }
    memcpy(site->template, template, (size_t)template_bytes);
    if (read_arguments(site, descriptions) < 0 || read_failure(site, failure) < 0) {
        Py_DECREF(site);
        return NULL;
    }
    return (PyObject *)site;
}

static int site_traverse(PyObject *self, visitproc visit, void *arg)
{
    const rb_py_site *site = (const rb_py_site *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(site->home);
    Py_VISIT(site->owner);
    Py_VISIT(site->convert);
    Py_VISIT(site->recover);
    Py_VISIT(site->attend);
    Py_VISIT((PyObject *)site->span_type);
    Py_VISIT(site->failure);
    return 0;
}

/*
 * There is no tp_clear. A finalizer may emit while the collector takes a cycle apart: then the producer must be there
 * still, and the callables too. Cycles through a site lead through the emitter's or the class's dict, which is cleared.
 */
static void site_free(PyObject *self)
{
    rb_py_site *site = (rb_py_site *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    for (uint32_t i = 0; i < site->argument_count; i++)
        release_argument(&site->arguments[i]);
    Py_XDECREF(site->convert);
    Py_XDECREF(site->recover);
    Py_XDECREF(site->attend);
    Py_XDECREF((PyObject *)site->span_type);
    Py_XDECREF(site->failure);
    Py_XDECREF(site->owner);
    Py_XDECREF(site->home);
    PyMem_Free(site->template);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef site_methods[] = {
    {"emit", (PyCFunction)(void (*)(void))site_emit, METH_FASTCALL | METH_KEYWORDS,
     "Write a span under the enclosing one, or a root, and return whether it was written."},
    {"emit_under", (PyCFunction)(void (*)(void))site_emit_under, METH_FASTCALL | METH_KEYWORDS,
     "emit_under(parent, *arguments)\n\nDo what `emit` does under a given span: a Span, a traceparent header, a "
     "Parent, or None for a root."},
    {"span", (PyCFunction)(void (*)(void))site_span, METH_FASTCALL | METH_KEYWORDS,
     "Return a span for a `with` block: it times the block, and writes itself at the end."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot site_slots[] = {
    {Py_tp_doc, "A place that emits spans of one name. Made by Emitter.site."},
    {Py_tp_new, site_make},
    {Py_tp_methods, site_methods},
    {Py_tp_traverse, site_traverse},
    {Py_tp_dealloc, site_free},
    {0, NULL},
};

PyType_Spec rb_site_spec = {
    .name = "ringbuf._site.Site",
    .basicsize = sizeof(rb_py_site),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = site_slots,
};
