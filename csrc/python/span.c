/* ringbuf._site.Span: the span of a `with` block, and its values. */
#include <stddef.h>
#include <string.h>

#include "site.h"

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
        PyErr_Format(PyExc_TypeError, "span() takes %u values, not %zd", site->positional_values, count);
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
    rb_py_span *span = (rb_py_span *)PyType_GenericAlloc(site->span_type, site->value_count);
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

/* ---- entering and leaving ---- */

/* Give the span its ids: under its header's span, or under the enclosing one. */
static int begin(rb_py_span *self)
{
    rb_py_site *site = self->site;
    const rb_span *parent = NULL;
    PyObject *keep = self->parent; /* our own: what begins a span may run code that has this one in its hands */
    self->parent = NULL;
    if (rb_span_current(site->module, &self->outer) < 0 && rb_site_refuse(site, NULL) < 0) {
        Py_XDECREF(keep);
        return -1;
    }
    if (self->outer != NULL)
        self->outer->open_inner++;
    if (keep == NULL) {
        if (rb_parent_outer(site->module, site, &parent, &keep) < 0)
            return -1;
        if (parent == NULL && self->outer != NULL && !rb_span_is_overruled(site->module, self->outer))
            parent = &self->outer->span; /* kept while this one is open, if not before */
    } else if (keep != Py_None) {
        parent = &((rb_py_parent *)keep)->span;
    }
    int rv = rb_site_begin(site, parent, &self->span);
    Py_XDECREF(keep);
    return rv;
}

/* A callable of the module may be replaced while it runs. */
static PyObject *call_with(PyObject *callable, PyObject *argument)
{
    Py_INCREF(callable);
    PyObject *result = PyObject_CallFunctionObjArgs(callable, argument, NULL);
    Py_DECREF(callable);
    return result;
}

static PyObject *span_enter(rb_py_span *self, PyObject *unused)
{
    (void)unused;
    rb_site_module *module = self->site->module;
    if (self->was_entered) {
        PyErr_SetString(PyExc_RuntimeError, "a span is entered once: make another with site.span(...)");
        return NULL;
    }
    self->was_entered = 1;
    int rv = begin(self);
    module->entered++;
    if (rv < 0)
        return NULL;
    self->process = rb_process_mark(self->site->producer);
    if (module->outer_enter != NULL) {
        self->outer_token = call_with(module->outer_enter, (PyObject *)self);
        if (self->outer_token == NULL && rb_site_refuse(self->site, NULL) < 0)
            return NULL;
        self->was_told = self->outer_token != NULL;
    }
    self->token = PyObject_CallFunctionObjArgs(module->set_current, (PyObject *)self, NULL);
    if (self->token == NULL && rb_site_refuse(self->site, NULL) < 0)
        return NULL;
    rb_span_start(&self->span);
    return Py_NewRef((PyObject *)self);
}

/* Spans from `inner` out to `self`, left before them, are current no more: their own end has nothing to reset. */
static void displace(PyObject *inner, const rb_py_span *self)
{
    if (!PyObject_TypeCheck(inner, self->site->module->span))
        return;
    for (rb_py_span *one = (rb_py_span *)inner; one != NULL && one != self; one = one->outer)
        one->is_displaced = 1;
}

/* Make current what was before. Whether it was done, or is not needed: not in another context; never an exception. */
static int reset_current(const rb_py_span *self, PyObject *token)
{
    const rb_site_module *module = self->site->module;
    if (self->is_displaced || token == NULL)
        return 1;
    PyObject *inner = self->open_inner == 0 ? NULL : PyObject_CallNoArgs(module->get_current);
    if (inner == NULL && self->open_inner != 0)
        PyErr_Clear();
    PyObject *done = PyObject_CallFunctionObjArgs(module->reset_current, token, NULL);
    if (done != NULL && inner != NULL)
        displace(inner, self);
    Py_XDECREF(inner);
    if (done != NULL) {
        Py_DECREF(done);
        return 1;
    }
    PyErr_Clear();
    return 0;
}

static void forget_outer(rb_py_span *self)
{
    if (self->outer != NULL && !self->was_left)
        self->outer->open_inner--;
    Py_CLEAR(self->outer);
}

/* Who looks for the current span goes past this one to the nearest that is not astray itself. */
static void go_astray(rb_py_span *self)
{
    self->is_astray = 1;
    while (self->outer != NULL && self->outer->is_astray) {
        rb_py_span *astray = self->outer;
        self->outer = (rb_py_span *)Py_XNewRef((PyObject *)astray->outer);
        Py_DECREF((PyObject *)astray);
    }
}

static int leave_context(rb_py_span *self)
{
    rb_site_module *module = self->site->module;
    PyObject *token = self->token;
    self->token = NULL; /* it refers to the span before, which may go now */
    self->was_left = 1;
    if (self->outer != NULL)
        self->outer->open_inner--;
    int was_reset = reset_current(self, token);
    Py_XDECREF(token);
    if (was_reset)
        Py_CLEAR(self->outer);
    else
        go_astray(self);
    PyObject *outer = self->outer_token;
    self->outer_token = NULL;
    if (outer != NULL && module->outer_leave != NULL && !self->is_displaced) {
        PyObject *done = call_with(module->outer_leave, outer);
        Py_DECREF(outer);
        if (done == NULL)
            return rb_site_refuse(self->site, NULL);
        Py_DECREF(done);
    } else {
        Py_XDECREF(outer);
    }
    return 0;
}

/*
 * Whether an exception that passes is a failure: not where a generator, a task or the process ends in its turn. The
 * OpenTelemetry SDK records those that are an Exception; of these, the two that end an iteration are none.
 */
static int is_failure(PyObject *type)
{
    return type != Py_None && PyErr_GivenExceptionMatches(type, PyExc_Exception) &&
           !PyErr_GivenExceptionMatches(type, PyExc_StopIteration) &&
           !PyErr_GivenExceptionMatches(type, PyExc_StopAsyncIteration);
}

/* The first exception that is to pass when all is done: an interrupt, or what RINGBUF_STRICT raises. */
typedef struct kept_exception {
    PyObject *type;
    PyObject *value;
    PyObject *traceback;
} kept_exception;

static void keep_exception(kept_exception *kept)
{
    if (kept->type == NULL)
        PyErr_Fetch(&kept->type, &kept->value, &kept->traceback);
    else
        PyErr_Clear();
}

static void put_values(rb_py_span *self, uint8_t *record, rb_tally *tally, kept_exception *kept)
{
    rb_py_site *site = self->site;
    for (uint32_t i = 0; i < site->value_count; i++) {
        PyObject *value = self->values[i];
        if (value == NULL)
            continue;
        Py_INCREF(value); /* a conversion may run anything, a __setitem__ of this span too */
        if (rb_site_put(site, site->value_arguments[i], value, record, tally, RB_IN_BLOCK) < 0)
            keep_exception(kept);
        Py_DECREF(value);
    }
}

static void set_value(rb_py_span *self, Py_ssize_t index, PyObject *value)
{
    PyObject *before = self->values[index];
    self->values[index] = Py_NewRef(value);
    Py_XDECREF(before);
}

/* One pair of what the site's `failure` returned. 0, or -1 with an exception. */
static int put_failed_value(rb_py_span *self, PyObject *pair, uint8_t *record, rb_tally *tally)
{
    rb_py_site *site = self->site;
    Py_ssize_t index;
    PyObject *value;
    if (!PyArg_ParseTuple(pair, "nO", &index, &value))
        return -1;
    if (index < 0 || index >= Py_SIZE((PyObject *)self)) {
        PyErr_SetString(PyExc_IndexError, "failure: a span has no such value");
        return -1;
    }
    set_value(self, index, value);
    return rb_site_put(site, site->value_arguments[index], value, record, tally, RB_IN_BLOCK);
}

/* What an exception that passes makes of the record: an error, unless it says already how the operation ended. */
static void fail(rb_py_span *self, PyObject *exception, uint8_t *record, rb_tally *tally, kept_exception *kept)
{
    rb_py_site *site = self->site;
    rb_record *core = (rb_record *)(void *)record;
    if (core->status != RB_STATUS_UNSET)
        return;
    if (site->failure != NULL) {
        PyObject *pairs = PyObject_CallFunctionObjArgs(site->failure, (PyObject *)self, exception, NULL);
        Py_ssize_t count = pairs == NULL ? -1 : PyTuple_Size(pairs);
        int rv = count < 0 ? -1 : 0;
        for (Py_ssize_t i = 0; rv == 0 && i < count; i++)
            rv = put_failed_value(self, PyTuple_GetItem(pairs, i), record, tally);
        Py_XDECREF(pairs);
        if (rv < 0 && rb_site_refuse(site, NULL) < 0)
            keep_exception(kept);
    }
    core->status = RB_STATUS_ERROR;
}

/* `exception`: what passes, NULL where the operation did not fail. */
static void write_span(rb_py_span *self, uint64_t monotonic_nano, PyObject *exception, kept_exception *kept)
{
    rb_py_site *site = self->site;
    uint64_t words[RB_RECORD_WORDS(site)];
    uint8_t *record = (uint8_t *)words;
    rb_record *core = (rb_record *)(void *)record;
    rb_tally tally = {0, self->left_out, 0};
    memcpy(record, site->template, site->slot_bytes);
    put_values(self, record, &tally, kept);
    if (exception != NULL)
        fail(self, exception, record, &tally, kept);
    self->status = core->status;
    rb_span_end(&self->span, monotonic_nano, core);
    if (rb_site_write(site, record, &tally) >= 0)
        return;
    /* Of a ring with other records: the emitter was given another layout. */
    if (PyErr_ExceptionMatches(PyExc_ValueError))
        rb_count_local(site->producer, 1);
    if (rb_site_refuse(site, NULL) < 0)
        keep_exception(kept);
}

static PyObject *span_exit(rb_py_span *self, PyObject *const *arguments, Py_ssize_t count)
{
    uint64_t now = rb_clock_monotonic_nano();
    kept_exception kept = {NULL, NULL, NULL};
    if (self->process == 0 || self->was_left) { /* a second time would write the same ids again */
        PyErr_SetString(PyExc_RuntimeError, "the block of this span was not entered, or was left already");
        return NULL;
    }
    if (leave_context(self) < 0)
        keep_exception(&kept);
    /* Who entered the block writes its span: a forked child that leaves it, too, would write it again. */
    if (self->process == rb_process_mark(self->site->producer)) {
        PyObject *exception = NULL;
        if (count > 0 && is_failure(arguments[0]))
            exception = count > 1 && arguments[1] != Py_None ? arguments[1] : arguments[0];
        write_span(self, now, exception, &kept);
    }
    if (kept.type == NULL)
        Py_RETURN_NONE;
    PyErr_Restore(kept.type, kept.value, kept.traceback);
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
    set_value(self, index, value);
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
    forget_outer(span);
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
    Py_XDECREF((PyObject *)span->site);
    PyObject_GC_Del(span); /* as PyType_GenericAlloc got it */
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
    {"__enter__", (PyCFunction)(void (*)(void))span_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))span_exit, METH_FASTCALL, NULL},
    {"__reduce__", span_reduce, METH_NOARGS, NULL},
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

/* ---- values as attributes ---- */

/* SpanValue(index, default): an attribute of a class of spans that stands for the value at `index`. */
typedef struct rb_py_span_value {
    PyObject_HEAD Py_ssize_t index;
    PyObject *unset;
    PyTypeObject *span_type; /* whose instances have values */
    PyTypeObject *seen_type; /* the last type that was found to inherit from it, or NULL */
} rb_py_span_value;

static PyObject *span_value_make(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    Py_ssize_t index;
    PyObject *unset;
    if (names != NULL && PyDict_Size(names) != 0) {
        PyErr_SetString(PyExc_TypeError, "SpanValue takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "nO", &index, &unset))
        return NULL;
    PyObject *home;
    const rb_site_module *module = rb_module_of(type, &home);
    if (module == NULL || index < 0) {
        PyErr_SetString(PyExc_ValueError, "SpanValue needs the index of a value");
        return NULL;
    }
    rb_py_span_value *made = (rb_py_span_value *)PyType_GenericAlloc(type, 0);
    if (made != NULL) {
        made->index = index;
        made->unset = Py_NewRef(unset);
        made->span_type = (PyTypeObject *)Py_NewRef((PyObject *)module->span);
    }
    return (PyObject *)made;
}

static int is_span(rb_py_span_value *self, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == self->seen_type)
        return 1;
    if (!PyType_IsSubtype(type, self->span_type))
        return 0;
    PyTypeObject *before = self->seen_type;
    self->seen_type = (PyTypeObject *)Py_NewRef((PyObject *)type);
    Py_XDECREF((PyObject *)before);
    return 1;
}

/* Where `object` keeps the value. NULL with an exception: it is no span, or one without such a value. */
static PyObject **value_place(rb_py_span_value *self, PyObject *object)
{
    if (!is_span(self, object)) {
        PyErr_SetString(PyExc_TypeError, "only a span has values");
        return NULL;
    }
    if (self->index >= Py_SIZE(object)) {
        PyErr_SetString(PyExc_AttributeError, "the spans of this site have no such value");
        return NULL;
    }
    return &((rb_py_span *)object)->values[self->index];
}

static PyObject *span_value_get(rb_py_span_value *self, PyObject *object, PyObject *type)
{
    (void)type;
    if (object == NULL)
        return Py_NewRef((PyObject *)self);
    PyObject **place = value_place(self, object);
    return place == NULL ? NULL : Py_NewRef(*place == NULL ? self->unset : *place);
}

static int span_value_set(rb_py_span_value *self, PyObject *object, PyObject *value)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a value of a span cannot be deleted");
        return -1;
    }
    PyObject **place = value_place(self, object);
    if (place == NULL)
        return -1;
    PyObject *before = *place;
    *place = Py_NewRef(value);
    Py_XDECREF(before);
    return 0;
}

static int span_value_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((rb_py_span_value *)self)->unset);
    Py_VISIT((PyObject *)((rb_py_span_value *)self)->span_type);
    Py_VISIT((PyObject *)((rb_py_span_value *)self)->seen_type);
    return 0;
}

static void span_value_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((rb_py_span_value *)self)->unset);
    Py_XDECREF((PyObject *)((rb_py_span_value *)self)->span_type);
    Py_XDECREF((PyObject *)((rb_py_span_value *)self)->seen_type);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyType_Slot span_value_slots[] = {
    {Py_tp_new, span_value_make},          {Py_tp_descr_get, span_value_get}, {Py_tp_descr_set, span_value_set},
    {Py_tp_traverse, span_value_traverse}, {Py_tp_dealloc, span_value_free},  {0, NULL},
};

PyType_Spec rb_span_value_spec = {
    .name = "ringbuf._site.SpanValue",
    .basicsize = sizeof(rb_py_span_value),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = span_value_slots,
};
