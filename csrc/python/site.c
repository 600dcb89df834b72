/* ringbuf._site.Site: what is constant where spans are emitted, and the calls that emit them. */
#include <string.h>

#include "producer/producer_state.h"
#include "site.h"

/* ---- writing ---- */

/* What Python made of a value. 0, or -1 with an exception. */
static int put_converted(const rb_argument *argument, PyObject *converted, uint8_t *record, rb_tally *tally)
{
    const char *data;
    Py_ssize_t bytes;
    int was_cut;
    if (!PyArg_ParseTuple(converted, "y#p", &data, &bytes, &was_cut))
        return -1;
    if (bytes != (Py_ssize_t)argument->bytes) {
        PyErr_Format(PyExc_SystemError, "%U: %zd bytes where its record has %u", argument->name, bytes,
                     argument->bytes);
        return -1;
    }
    if (argument->type == RB_TYPE_LABEL && argument->role == RB_ROLE_VALUE) {
        uint64_t index = 0;
        memcpy(&index, data, argument->bytes);
        if (index < argument->label_count)
            rb_argument_put_label(argument, index, record);
    } else {
        memcpy(record + argument->offset, data, argument->bytes);
    }
    ((rb_record *)(void *)record)->present |= argument->present;
    tally->truncated += (uint64_t)was_cut;
    return 0;
}

/* The pending exception says why a value does not go into the record. A span cannot do without its name, or a time. */
static int leave_out(rb_py_site *site, const rb_argument *argument, uint8_t *record, rb_tally *tally,
                     enum rb_place place)
{
    int names_span = argument->role == RB_ROLE_NAME || argument->names != NULL;
    if (place == RB_IN_CALL && (names_span || PyErr_ExceptionMatches(PyExc_TypeError)))
        return -1;
    if (rb_site_refuse(site, argument->name) < 0)
        return -1;
    tally->invalid++;
    if (argument->role == RB_ROLE_START)
        tally->lacks_start = 1;
    if (argument->role == RB_ROLE_END)
        ((rb_record *)(void *)record)->end_unix_nano = rb_clock_unix_nano();
    return 0;
}

/* An end before the start is delivered as it is, and told of where the argument says so. */
static int check_order(rb_py_site *site, const rb_argument *argument, const uint8_t *record, rb_tally *tally)
{
    const rb_record *core = (const rb_record *)(const void *)record;
    if (core->start_unix_nano <= core->end_unix_nano)
        return 0;
    tally->invalid++;
    PyErr_Format(PyExc_ValueError, "%U: %llu lies before the start, %llu", argument->name,
                 (unsigned long long)core->end_unix_nano, (unsigned long long)core->start_unix_nano);
    return rb_site_refuse(site, argument->name);
}

int rb_site_put_other(rb_py_site *site, uint32_t argument, PyObject *value, uint8_t *record, rb_tally *tally,
                      enum rb_place place)
{
    const rb_argument *one = &site->arguments[argument];
    if (one->takes_forms && rb_id_form_put(site->module, one, value, record))
        return 0;
    PyObject *converted = PyObject_CallFunction(site->convert, "IO", argument, value);
    int rv = converted == NULL ? -1 : put_converted(one, converted, record, tally);
    Py_XDECREF(converted);
    if (rv < 0)
        return leave_out(site, one, record, tally, place);
    return one->in_order ? check_order(site, one, record, tally) : 0;
}

/* Make a ring where there is none. 1, 0, or -1 with an exception. */
static int recover(rb_py_site *site)
{
    PyObject *made = PyObject_CallNoArgs(site->recover);
    if (made == NULL)
        return rb_site_refuse(site, NULL);
    int is_made = made == Py_True;
    Py_DECREF(made);
    return is_made;
}

/* Do what the +2 of rb_emit asks for. 0, or -1 with an exception. */
static int attend(rb_py_site *site)
{
    PyObject *done = PyObject_CallNoArgs(site->attend);
    if (done == NULL)
        return rb_site_refuse(site, NULL);
    Py_DECREF(done);
    return 0;
}

/* The first span of a process that found no slot is worth a word. */
static int is_first_drop(rb_py_site *site)
{
    if (rb_dropped(site->producer) == 0)
        return 0;
    uint64_t process = rb_process_mark(site->producer);
    int is_first = site->dropped_in != process;
    site->dropped_in = process;
    return is_first;
}

int rb_site_begin(rb_py_site *site, const rb_span *parent, rb_span *span)
{
    if (rb_span_begin(site->producer, parent, span) == RB_OK)
        return 0;
    if (recover(site) < 0)
        return -1;
    rb_span_begin(site->producer, parent, span); /* without a ring, too, it has ids */
    return 0;
}

/* rb_emit copies as many bytes as a slot of the ring has: none may be behind those that the site's records have. */
static int emit_record(const rb_py_site *site, const uint8_t *record)
{
    if (site->producer->slot_bytes > site->slot_bytes)
        return RB_E_RECORD;
    return rb_emit(site->producer, (const rb_record *)(const void *)record);
}

static void count_values(const rb_py_site *site, const rb_tally *tally)
{
    if (tally->truncated != 0)
        rb_count_truncated(site->producer, tally->truncated);
    if (tally->invalid != 0)
        rb_count_invalid_values(site->producer, tally->invalid);
}

int rb_site_write(rb_py_site *site, uint8_t *record, const rb_tally *tally)
{
    rb_record *core = (rb_record *)(void *)record;
    if (tally->lacks_start)
        core->start_unix_nano = core->end_unix_nano;
    int rv = emit_record(site, record);
    if (rv == RB_NO_RING) {
        int made = recover(site);
        if (made < 0) {
            rb_count_local(site->producer, 1);
            return -1;
        }
        rv = made ? emit_record(site, record) : RB_NO_RING;
        if (rv == RB_NO_RING) {
            rb_count_local(site->producer, 1);
            return 0;
        }
    }
    if (rv < 0) {
        PyErr_SetString(PyExc_ValueError, rb_strerror(rv));
        return -1;
    }
    count_values(site, tally); /* behind the emit: there is a ring now that counts them */
    if ((rv > 1 || (rv == 0 && is_first_drop(site))) && attend(site) < 0)
        return -1;
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
                     rb_tally *tally)
{
    Py_ssize_t status = -1;
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
        if (site->arguments[argument].role == RB_ROLE_STATUS)
            status = i; /* after the labels, which have a say in it */
        else if (rb_site_put(site, (uint32_t)argument, values[i], record, tally, RB_IN_CALL) < 0)
            return -1;
    }
    if (status < 0)
        return 0;
    int argument = argument_named(site, PyTuple_GetItem(names, status));
    return rb_site_put(site, (uint32_t)argument, values[status], record, tally, RB_IN_CALL);
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
                rb_tally *tally)
{
    if (count > (Py_ssize_t)site->positional_count) {
        PyErr_Format(PyExc_TypeError, "emit() takes %u argument%s, not %zd", site->positional_count,
                     site->positional_count == 1 ? "" : "s", count);
        return -1;
    }
    rb_site_copy_template(site, record);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (rb_site_put(site, (uint32_t)i, arguments[i], record, tally, RB_IN_CALL) < 0)
            return -1;
    }
    if (names == NULL && count == (Py_ssize_t)site->positional_count)
        return 0;
    uint64_t given = (UINT64_C(1) << count) - 1;
    if (names != NULL && put_named(site, arguments + count, names, &given, record, tally) < 0)
        return -1;
    if (check_missing(site, given) < 0)
        return -1;
    /* An end that was left out is now, as one that is None. */
    for (uint32_t i = 0; i < site->argument_count; i++) {
        if (site->arguments[i].role == RB_ROLE_END && !(given >> i & 1))
            return rb_site_put(site, i, Py_None, record, tally, RB_IN_CALL);
    }
    return 0;
}

static PyObject *begin_and_write(rb_py_site *site, const rb_span *parent, uint8_t *record, const rb_tally *tally)
{
    rb_span span;
    if (rb_site_begin(site, parent, &span) < 0) {
        rb_count_local(site->producer, 1);
        return NULL;
    }
    rb_record *core = (rb_record *)(void *)record;
    rb_span_identify(&span, core);
    if (parent == NULL)
        core->present |= rb_present_alone(site->producer);
    int rv = rb_site_write(site, record, tally);
    if (rv < 0)
        return NULL;
    return Py_NewRef(rv ? Py_True : Py_False);
}

static PyObject *site_emit(rb_py_site *site, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    uint64_t words[RB_RECORD_WORDS(site)];
    uint8_t *record = (uint8_t *)words;
    rb_tally tally = {0, 0, 0};
    const rb_span *parent;
    PyObject *keep;
    if (fill(site, arguments, count, names, record, &tally) < 0 ||
        rb_parent_enclosing(site->module, site, &parent, &keep) < 0)
        return NULL;
    PyObject *result = begin_and_write(site, parent, record, &tally);
    Py_XDECREF(keep);
    return result;
}

static PyObject *site_emit_under(rb_py_site *site, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    uint64_t words[RB_RECORD_WORDS(site)];
    uint8_t *record = (uint8_t *)words;
    rb_tally tally = {0, 0, 0};
    const rb_span *parent;
    PyObject *keep;
    rb_span space;
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "emit_under() missing its first argument, the parent");
        return NULL;
    }
    if (fill(site, arguments + 1, count - 1, names, record, &tally) < 0 ||
        rb_parent_of(site, arguments[0], &parent, &keep, &space) < 0)
        return NULL;
    PyObject *result = begin_and_write(site, parent, record, &tally);
    Py_XDECREF(keep);
    return result;
}

static PyObject *site_span(rb_py_site *site, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    return rb_span_new(site, arguments, count, names);
}

/* ---- life ---- */

static int site_traverse(PyObject *self, visitproc visit, void *arg)
{
    const rb_py_site *site = (const rb_py_site *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(site->home);
    Py_VISIT(site->owner);
    Py_VISIT(site->convert);
    Py_VISIT(site->refuse);
    Py_VISIT(site->origin);
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
    if (site->spare != NULL)
        PyObject_GC_Del(site->spare); /* while there is its type, which says where it begins */
    for (uint32_t i = 0; i < site->argument_count; i++)
        rb_argument_release(&site->arguments[i]);
    Py_XDECREF(site->convert);
    Py_XDECREF(site->refuse);
    Py_XDECREF(site->origin);
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

/* Pickled as what binds it anew: with the emitter, which may be another process's then. */
static PyObject *site_reduce(rb_py_site *site, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(site->origin);
}

static PyObject *get_name(rb_py_site *site, void *unused)
{
    (void)unused;
    return PyObject_GetAttrString(site->refuse, "place");
}

static PyGetSetDef site_getters[] = {
    {"name", (getter)get_name, NULL, "Of its spans, for people.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef site_methods[] = {
    {"__reduce__", (PyCFunction)(void (*)(void))site_reduce, METH_NOARGS, NULL},
    {"emit", (PyCFunction)(void (*)(void))site_emit, METH_FASTCALL | METH_KEYWORDS,
     "Write a span under the enclosing one, or a root, and return whether it was written."},
    {"emit_under", (PyCFunction)(void (*)(void))site_emit_under, METH_FASTCALL | METH_KEYWORDS,
     "emit_under(parent, *arguments)\n\nDo what `emit` does under a given span: a Span, a traceparent header, a "
     "Parent, or None for a root."},
    {"span", (PyCFunction)(void (*)(void))site_span, METH_FASTCALL | METH_KEYWORDS,
     "Return a span for a `with` block: it times the block, and writes itself at the end."},
    {NULL, NULL, 0, NULL},
};

PyObject *rb_site_described(const rb_site_module *module, const char *name, const char *doc)
{
    for (const PyMethodDef *method = site_methods; method->ml_name != NULL; method++) {
        if (strcmp(method->ml_name, name) != 0)
            continue;
        /* Kept for ever, as the docstrings of classes are: the descriptor only points to it. */
        size_t bytes = strlen(doc) + 1;
        PyMethodDef *copy = PyMem_Malloc(sizeof *copy + bytes);
        if (copy == NULL)
            return PyErr_NoMemory();
        *copy = *method;
        copy->ml_doc = memcpy(copy + 1, doc, bytes);
        return PyDescr_NewMethod(module->site, copy);
    }
    PyErr_Format(PyExc_ValueError, "a site has no method %s", name);
    return NULL;
}

static PyType_Slot site_slots[] = {
    {Py_tp_doc, "A place that emits spans of one name. Made by Emitter.site."},
    {Py_tp_new, rb_site_make},
    {Py_tp_methods, site_methods},
    {Py_tp_getset, site_getters},
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
