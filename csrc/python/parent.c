/* ringbuf._site.Parent: a span that others go on from, and which span it is that a given object stands for. */
#include <string.h>

#include "site.h"

PyObject *rb_parent_new(const rb_site_module *module, const rb_span *span)
{
    PyObject *made = PyType_GenericAlloc(module->parent, 0);
    if (made != NULL)
        ((rb_py_parent *)made)->span = *span;
    return made;
}

static PyObject *parent_make(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    static char *keywords[] = {"trace_id", "span_id", "child_flags", NULL};
    const char *trace_id;
    const char *span_id;
    Py_ssize_t trace_bytes;
    Py_ssize_t span_bytes;
    unsigned int child_flags;
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "y#y#I", keywords, &trace_id, &trace_bytes, &span_id,
                                     &span_bytes, &child_flags))
        return NULL;
    if (trace_bytes != 16 || span_bytes != 8) {
        PyErr_SetString(PyExc_ValueError, "a trace id has 16 bytes, a span id 8");
        return NULL;
    }
    PyObject *made = PyType_GenericAlloc(type, 0);
    if (made != NULL) {
        rb_span *span = &((rb_py_parent *)made)->span;
        memcpy(span->trace_id, trace_id, 16);
        memcpy(span->span_id, span_id, 8);
        span->child_flags = child_flags & RB_SPAN_FLAGS; /* who made the root, nobody says by these */
    }
    return made;
}

/* Pickled, and copied, as what makes it again. */
static PyObject *parent_reduce(PyObject *self, PyObject *unused)
{
    const rb_span *span = &((rb_py_parent *)self)->span;
    (void)unused;
    return Py_BuildValue("O(y#y#I)", (PyObject *)Py_TYPE(self), (const char *)span->trace_id, (Py_ssize_t)16,
                         (const char *)span->span_id, (Py_ssize_t)8, span->child_flags & RB_SPAN_FLAGS);
}

static PyMethodDef parent_methods[] = {
    {"__reduce__", parent_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static void parent_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyType_Slot parent_slots[] = {
    {Py_tp_doc, "Parent(trace_id: bytes, span_id: bytes, child_flags: int)\n\nA span of another process.\n\n"
                "A span id of zeros: the trace exists, and a span under this Parent is its root."},
    {Py_tp_new, parent_make},
    {Py_tp_methods, parent_methods},
    {Py_tp_dealloc, parent_free},
    {0, NULL},
};

PyType_Spec rb_parent_spec = {
    .name = "ringbuf._site.Parent",
    .basicsize = sizeof(rb_py_parent),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = parent_slots,
};

/* What Python says of a header that is not of the plain form: a Parent, or None. */
static int ask_python(rb_py_site *site, PyObject *header, const rb_span **parent, PyObject **keep)
{
    const rb_site_module *module = site->module;
    if (module->read_header == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "ringbuf.sites.span is not imported");
        return -1;
    }
    PyObject *reader = Py_NewRef(module->read_header); /* it may be replaced while it runs */
    PyObject *found = PyObject_CallFunctionObjArgs(reader, header, NULL);
    Py_DECREF(reader);
    if (found == NULL)
        return rb_site_refuse(site, NULL);
    if (Py_TYPE(found) == module->parent)
        *parent = &((rb_py_parent *)found)->span;
    *keep = found;
    return 0;
}

int rb_parent_of(rb_py_site *site, PyObject *given, const rb_span **parent, PyObject **keep, rb_span *space)
{
    const rb_site_module *module = site->module;
    *parent = NULL;
    *keep = NULL;
    if (given == Py_None)
        return 0;
    if (Py_TYPE(given) == module->parent) {
        *parent = &((rb_py_parent *)given)->span;
        return 0;
    }
    if (PyObject_TypeCheck(given, module->span)) {
        const rb_py_span *span = (const rb_py_span *)given;
        if (span->process == 0) {
            PyErr_SetString(PyExc_RuntimeError, "a span has ids from when its block is entered");
            return -1;
        }
        *parent = &span->span;
        return 0;
    }
    if (PyUnicode_CheckExact(given)) {
        Py_ssize_t bytes;
        const char *text = PyUnicode_AsUTF8AndSize(given, &bytes);
        if (text == NULL) {
            PyErr_Clear(); /* a lone surrogate: no header */
            return 0;
        }
        if (rb_parent_from_traceparent(text, (size_t)bytes, space) == RB_OK) {
            *parent = space;
            return 0;
        }
    }
    return ask_python(site, given, parent, keep);
}

int rb_span_current(const rb_site_module *module, rb_py_span **current)
{
    *current = NULL;
    if (module->entered == 0)
        return 0;
    PyObject *found = rb_context_get(&module->context);
    if (found == NULL)
        return -1;
    if (found != Py_None && PyObject_TypeCheck(found, module->span) && ((rb_py_span *)found)->process != 0)
        *current = (rb_py_span *)found;
    else
        Py_DECREF(found);
    while (*current != NULL && (*current)->is_astray) {
        rb_py_span *astray = *current;
        *current = (rb_py_span *)Py_XNewRef((PyObject *)astray->outer);
        Py_DECREF((PyObject *)astray);
    }
    return 0;
}

/* An exception is pending that is no fault of the caller's. 0; -1 when it is to pass all the same. */
static int go_on(rb_py_site *site)
{
    if (site != NULL)
        return rb_site_refuse(site, NULL);
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_Clear();
    return 0;
}

int rb_parent_outer(const rb_site_module *module, rb_py_site *site, const rb_span **parent, PyObject **keep)
{
    *parent = NULL;
    *keep = NULL;
    PyObject *ask = module->outer_current;
    if (ask == NULL)
        return 0;
    Py_INCREF(ask); /* it may be replaced while it runs */
    PyObject *found = PyObject_CallNoArgs(ask);
    Py_DECREF(ask);
    if (found == NULL)
        return go_on(site);
    if (Py_TYPE(found) == module->parent)
        *parent = &((rb_py_parent *)found)->span;
    else if (PyObject_TypeCheck(found, module->span) && ((rb_py_span *)found)->process != 0)
        *parent = &((rb_py_span *)found)->span;
    *keep = found;
    return 0;
}

int rb_span_is_overruled(const rb_site_module *module, const rb_py_span *current)
{
    return module->outer_current != NULL && current->was_told;
}

int rb_parent_enclosing(const rb_site_module *module, rb_py_site *site, const rb_span **parent, PyObject **keep)
{
    rb_py_span *current;
    if (rb_parent_outer(module, site, parent, keep) < 0)
        return -1;
    if (*parent != NULL)
        return 0;
    Py_CLEAR(*keep);
    if (rb_span_current(module, &current) < 0)
        return go_on(site);
    if (current != NULL && rb_span_is_overruled(module, current))
        Py_CLEAR(current);
    if (current != NULL) {
        *parent = &current->span;
        *keep = (PyObject *)current;
    }
    return 0;
}
