/* The `with` block of a span: how it becomes current and ceases to be, and what is written at its end. */
#include <string.h>

#include "site.h"

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

PyObject *rb_span_enter(rb_py_span *self, PyObject *unused)
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
    self->token = rb_context_set(&module->context, (PyObject *)self);
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
    PyObject *inner = self->open_inner == 0 ? NULL : rb_context_get(&module->context);
    if (inner == NULL && self->open_inner != 0)
        PyErr_Clear();
    int was_reset = rb_context_reset(&module->context, token) == 0;
    if (!was_reset)
        PyErr_Clear();
    else if (inner != NULL)
        displace(inner, self);
    Py_XDECREF(inner);
    return was_reset;
}

void rb_span_forget_outer(rb_py_span *self)
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
    rb_span_set_value(self, index, value);
    return rb_site_put(site, site->value_arguments[index], value, record, tally, RB_IN_BLOCK);
}

/*
 * What an exception that passes makes of the record, which has its end: an error that says why, also where the block has
 * made it one. An OK is final.
 */
static void fail(rb_py_span *self, PyObject *exception, uint8_t *record, rb_tally *tally, kept_exception *kept)
{
    rb_py_site *site = self->site;
    rb_record *core = (rb_record *)(void *)record;
    if (core->status == RB_STATUS_OK)
        return;
    if (site->failure != NULL) {
        PyObject *end = PyLong_FromUnsignedLongLong(core->end_unix_nano);
        PyObject *pairs =
            end == NULL ? NULL : PyObject_CallFunctionObjArgs(site->failure, (PyObject *)self, exception, end, NULL);
        Py_ssize_t count = pairs == NULL ? -1 : PyTuple_Size(pairs);
        int rv = count < 0 ? -1 : 0;
        for (Py_ssize_t i = 0; rv == 0 && i < count; i++)
            rv = put_failed_value(self, PyTuple_GetItem(pairs, i), record, tally);
        Py_XDECREF(pairs);
        Py_XDECREF(end);
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
    rb_tally tally = {0, 0, 0};
    rb_site_copy_template(site, record);
    put_values(self, record, &tally, kept);
    rb_span_end(&self->span, monotonic_nano, core);
    if (exception != NULL)
        fail(self, exception, record, &tally, kept);
    tally.invalid += self->left_out; /* last: what records the exception may leave out something, too */
    self->status = core->status;
    if (rb_site_write(site, record, &tally) >= 0)
        return;
    /* Of a ring with other records: the emitter was given another layout. */
    if (PyErr_ExceptionMatches(PyExc_ValueError))
        rb_count_local(site->producer, 1);
    if (rb_site_refuse(site, NULL) < 0)
        keep_exception(kept);
}

PyObject *rb_span_exit(rb_py_span *self, PyObject *const *arguments, Py_ssize_t count)
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
