/* ringbuf._site.Span: its making, its values and its end; block.c has its block. */
#include <stddef.h>
#include <string.h>

#include "site.h"

/* ---- memory ---- */

/*
 * One span after the other has the same memory, which costs less than to return it and to ask for it. A site keeps one
 * spare; spans that are inside another of the same site have memory of their own.
 */
static rb_py_span *span_allocate(rb_py_site *site)
{
    rb_py_span *span = site->spare;
    if (span == NULL)
        return (rb_py_span *)PyType_GenericAlloc(site->span_type, site->value_count);
    site->spare = NULL;
    size_t head = offsetof(rb_py_span, site);
    memset((uint8_t *)span + head, 0, offsetof(rb_py_span, values) + site->value_count * sizeof(PyObject *) - head);
    PyObject_InitVar((PyVarObject *)span, site->span_type, site->value_count);
    PyObject_GC_Track(span);
    return span;
}

/* Of a span that refers to nothing any more; `site` may go with its last one. */
static void span_return(rb_py_span *span, rb_py_site *site)
{
#ifndef Py_GIL_DISABLED /* without it, two threads might be here */
    if (site->spare == NULL && Py_TYPE((PyObject *)span) == site->span_type) {
        site->spare = span;
        return;
    }
#else
    (void)site;
#endif
    PyObject_GC_Del(span); /* as PyType_GenericAlloc got it */
}

/* ---- making ---- */

/* What emit would refuse is refused here already, for the values that are of one type only (a lease). */
static int check_type(rb_py_site *site, uint32_t argument, PyObject *value)
{
    const rb_argument *one = &site->arguments[argument];
    if (one->only == NULL || Py_TYPE(value) == one->only)
        return 0;
    PyObject *converted = PyObject_CallFunction(site->convert, "IO", argument, value);
    if (converted == NULL)
        return -1;
    Py_DECREF(converted);
    return 0;
}

static int take_names(PyObject *const *arguments, Py_ssize_t count, PyObject *names, PyObject **header)
{
    *header = NULL;
    if (names == NULL)
        return 0;
    for (Py_ssize_t i = 0; i < PyTuple_Size(names); i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        if (PyUnicode_CompareWithASCIIString(name, "traceparent") != 0) {
            PyErr_Format(PyExc_TypeError, "span() got an unexpected keyword argument '%U'", name);
            return -1;
        }
        if (arguments[count + i] != Py_None)
            *header = arguments[count + i];
    }
    return 0;
}

PyObject *rb_span_new(rb_py_site *site, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    PyObject *header;
    if (take_names(arguments, count, names, &header) < 0)
        return NULL;
    if (count > (Py_ssize_t)site->positional_values) {
        PyErr_Format(PyExc_TypeError, "span() takes %u value%s, not %zd", site->positional_values,
                     site->positional_values == 1 ? "" : "s", count);
        return NULL;
    }
    for (uint32_t i = 0; i < site->value_count; i++) {
        uint32_t argument = site->value_arguments[i];
        if ((Py_ssize_t)i < count) {
            if (check_type(site, argument, arguments[i]) < 0)
                return NULL;
        } else if (site->arguments[argument].required && site->arguments[argument].only != NULL) {
            PyErr_Format(PyExc_TypeError, "span() missing required argument '%U'", site->arguments[argument].name);
            return NULL;
        }
    }
    PyObject *parent = NULL;
    if (header != NULL) {
        const rb_span *found;
        PyObject *keep;
        rb_span space;
        if (rb_parent_of(site, header, &found, &keep, &space) < 0)
            return NULL;
        parent = found == NULL ? Py_NewRef(Py_None) : rb_parent_new(site->module, found);
        Py_XDECREF(keep);
        if (parent == NULL)
            return NULL;
    }
    rb_py_span *span = span_allocate(site);
    if (span == NULL) {
        Py_XDECREF(parent);
        return NULL;
    }
    span->site = (rb_py_site *)Py_NewRef((PyObject *)site);
    span->parent = parent;
    for (Py_ssize_t i = 0; i < count; i++)
        span->values[i] = Py_NewRef(arguments[i]);
    return (PyObject *)span;
}

static PyObject *span_refuse(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    (void)type, (void)arguments, (void)names;
    PyErr_SetString(PyExc_TypeError, "a span is made by site.span(...)");
    return NULL;
}

/* ---- looking ---- */

static int check_entered(const rb_py_span *self)
{
    if (self->process != 0)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "a span has ids from when its block is entered");
    return -1;
}

static PyObject *get_trace_id(rb_py_span *self, void *unused)
{
    (void)unused;
    return check_entered(self) < 0 ? NULL : PyBytes_FromStringAndSize((const char *)self->span.trace_id, 16);
}

static PyObject *get_span_id(rb_py_span *self, void *unused)
{
    (void)unused;
    return check_entered(self) < 0 ? NULL : PyBytes_FromStringAndSize((const char *)self->span.span_id, 8);
}

PyObject *rb_span_traceparent(const rb_span *span)
{
    char text[56];
    rb_traceparent(span, text);
    return PyUnicode_FromStringAndSize(text, sizeof text - 1);
}

static PyObject *get_traceparent(rb_py_span *self, void *unused)
{
    (void)unused;
    return check_entered(self) < 0 ? NULL : rb_span_traceparent(&self->span);
}

static PyObject *get_site(rb_py_span *self, void *unused)
{
    (void)unused;
    return Py_NewRef((PyObject *)self->site);
}

static PyObject *get_written_status(rb_py_span *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(self->status);
}

static PyObject *span_reduce(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    PyErr_SetString(PyExc_TypeError,
                    "a span belongs to the block that it times: to go on from it elsewhere, hand on its "
                    "`traceparent`");
    return NULL;
}

/* The index of the value that `key` names. -1 with an exception: there is none. */
static Py_ssize_t value_index(const rb_py_span *self, PyObject *key)
{
    const rb_py_site *site = self->site;
    for (uint32_t i = 0; i < site->value_count; i++) {
        PyObject *name = site->arguments[site->value_arguments[i]].name;
        if (name == key || (PyUnicode_Check(key) && PyUnicode_Compare(name, key) == 0))
            return (Py_ssize_t)i;
    }
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "%R is no varying attribute of this site", key);
    return -1;
}

/* span[key] = value */
static int span_set(rb_py_span *self, PyObject *key, PyObject *value)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "a value is taken away as span[key] = None");
        return -1;
    }
    Py_ssize_t index = value_index(self, key);
    if (index < 0)
        return -1;
    rb_span_set_value(self, index, value);
    return 0;
}

/* span[key]: as it was set; None where it was not. */
static PyObject *span_get(rb_py_span *self, PyObject *key)
{
    Py_ssize_t index = value_index(self, key);
    if (index < 0)
        return NULL;
    return Py_NewRef(self->values[index] == NULL ? Py_None : self->values[index]);
}

/* setdefault(key, value): the value, which is given where there is none. No Python code runs in between: of two threads
 * that come at once both get the one that is kept. */
static PyObject *span_setdefault(rb_py_span *self, PyObject *arguments)
{
    PyObject *key;
    PyObject *value;
    if (!PyArg_ParseTuple(arguments, "UO", &key, &value))
        return NULL;
    Py_ssize_t index = value_index(self, key);
    if (index < 0)
        return NULL;
    if (self->values[index] == NULL || self->values[index] == Py_None)
        rb_span_set_value(self, index, value);
    return Py_NewRef(self->values[index]);
}

/* leave_out(name, error): what was to be added to the span does not fit. */
static PyObject *span_leave_out(rb_py_span *self, PyObject *arguments)
{
    PyObject *name;
    PyObject *error;
    if (!PyArg_ParseTuple(arguments, "UO", &name, &error))
        return NULL;
    self->left_out++;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    if (rb_site_refuse(self->site, name) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- life ---- */

static int span_traverse(PyObject *self, visitproc visit, void *arg)
{
    rb_py_span *span = (rb_py_span *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)span->site);
    Py_VISIT(span->parent);
    Py_VISIT((PyObject *)span->outer);
    Py_VISIT(span->token);
    Py_VISIT(span->outer_token);
    for (Py_ssize_t i = 0; i < Py_SIZE(self); i++)
        Py_VISIT(span->values[i]);
    return 0;
}

/* The site stays, as every method needs it; cycles lead through tokens and values. */
static int span_clear(PyObject *self)
{
    rb_py_span *span = (rb_py_span *)self;
    Py_CLEAR(span->parent);
    rb_span_forget_outer(span);
    Py_CLEAR(span->token);
    Py_CLEAR(span->outer_token);
    for (Py_ssize_t i = 0; i < Py_SIZE(self); i++)
        Py_CLEAR(span->values[i]);
    return 0;
}

static void free_one(rb_py_span *span)
{
    PyTypeObject *type = Py_TYPE((PyObject *)span);
    if (span->was_entered)
        span->site->module->entered--;
    span_clear((PyObject *)span);
    rb_py_site *site = span->site;
    span_return(span, site);
    Py_DECREF((PyObject *)site);
    Py_DECREF(type);
}

/*
 * A span may be the last to hold another (as a value, or as the one that it will make current again), and that one the
 * next: beyond some depth they wait for their turn, lest a long chain take more stack than there is.
 */
enum { MAX_FREE_DEPTH = 50 };

static _Thread_local struct {
    unsigned depth;
    rb_py_span *waiting;
} freeing __attribute__((tls_model("initial-exec")));

static void span_free(PyObject *self)
{
    rb_py_span *span = (rb_py_span *)self;
    PyObject_GC_UnTrack(self);
    if (freeing.depth == MAX_FREE_DEPTH) {
        span->free_next = freeing.waiting;
        freeing.waiting = span;
        return;
    }
    freeing.depth++;
    free_one(span);
    freeing.depth--;
    while (freeing.depth == 0 && freeing.waiting != NULL) {
        rb_py_span *next = freeing.waiting;
        freeing.waiting = next->free_next;
        freeing.depth++;
        free_one(next);
        freeing.depth--;
    }
}

static PyMethodDef span_methods[] = {
    {"__enter__", (PyCFunction)(void (*)(void))rb_span_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))rb_span_exit, METH_FASTCALL, NULL},
    {"__reduce__", span_reduce, METH_NOARGS, NULL},
    {"setdefault", (PyCFunction)(void (*)(void))span_setdefault, METH_VARARGS,
     "setdefault(key, value)\n\nReturn the value of a key, having set it where there was none."},
    {"leave_out", (PyCFunction)(void (*)(void))span_leave_out, METH_VARARGS,
     "leave_out(name, error)\n\nCount a value that does not fit, and tell of the first."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef span_getters[] = {
    {"traceparent", (getter)get_traceparent, NULL,
     "The W3C header that makes the next hop's spans children of this one; valid inside the block and after it.", NULL},
    {"trace_id", (getter)get_trace_id, NULL, "16 bytes.", NULL},
    {"span_id", (getter)get_span_id, NULL, "8 bytes.", NULL},
    {"site", (getter)get_site, NULL, "The site that made it.", NULL},
    {"written_status", (getter)get_written_status, NULL, "Its OTLP status code, 0 before the end of its block.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot span_slots[] = {
    {Py_tp_doc,
     "The span of a `with` block: made as site.span(...); span[key] = value sets what becomes known inside."},
    {Py_tp_new, span_refuse},
    {Py_tp_methods, span_methods},
    {Py_tp_getset, span_getters},
    {Py_mp_subscript, span_get},
    {Py_mp_ass_subscript, span_set},
    {Py_tp_traverse, span_traverse},
    {Py_tp_clear, span_clear},
    {Py_tp_dealloc, span_free},
    {0, NULL},
};

PyType_Spec rb_span_spec = {
    .name = "ringbuf._site.Span",
    .basicsize = offsetof(rb_py_span, values),
    .itemsize = sizeof(PyObject *),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = span_slots,
};
