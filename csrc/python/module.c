/* The module ringbuf._site: its types, the clock, and what Python tells it once. */
#include "site.h"

static PyObject *unix_nano(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyLong_FromUnsignedLongLong(rb_clock_unix_nano());
}

static void replace(PyObject **place, PyObject *object)
{
    PyObject *before = *place;
    *place = object == Py_None ? NULL : Py_NewRef(object);
    Py_XDECREF(before);
}

static PyObject *enclosing_traceparent(PyObject *module, PyObject *unused)
{
    (void)unused;
    const rb_span *span;
    PyObject *keep;
    if (rb_parent_enclosing(PyModule_GetState(module), NULL, &span, &keep) < 0)
        return NULL;
    PyObject *text = span == NULL ? Py_NewRef(Py_None) : rb_span_traceparent(span);
    Py_XDECREF(keep);
    return text;
}

static PyObject *current_span(PyObject *module, PyObject *unused)
{
    (void)unused;
    rb_py_span *span;
    if (rb_span_current(PyModule_GetState(module), &span) < 0)
        return NULL;
    return span == NULL ? Py_NewRef(Py_None) : (PyObject *)span;
}

static PyObject *outer_context(PyObject *module, PyObject *unused)
{
    (void)unused;
    const rb_site_module *state = PyModule_GetState(module);
    PyObject *const parts[] = {state->outer_current, state->outer_enter, state->outer_leave};
    PyObject *context = PyTuple_New(3);
    for (Py_ssize_t i = 0; context != NULL && i < 3; i++)
        PyTuple_SetItem(context, i, Py_NewRef(parts[i] == NULL ? Py_None : parts[i]));
    return context;
}

static PyObject *set_header_reader(PyObject *module, PyObject *reader)
{
    rb_site_module *state = PyModule_GetState(module);
    replace(&state->read_header, reader);
    Py_RETURN_NONE;
}

static PyObject *set_outer_context(PyObject *module, PyObject *arguments)
{
    rb_site_module *state = PyModule_GetState(module);
    PyObject *current;
    PyObject *enter;
    PyObject *leave;
    if (!PyArg_ParseTuple(arguments, "OOO", &current, &enter, &leave))
        return NULL;
    replace(&state->outer_current, current);
    replace(&state->outer_enter, enter);
    replace(&state->outer_leave, leave);
    Py_RETURN_NONE;
}

static void free_producer(PyObject *owner) { rb_producer_free(PyCapsule_GetPointer(owner, RB_PRODUCER_CAPSULE)); }

/* A capsule: gone with its last reference. cffi's gc would free it where a collector begins with a cycle. */
static PyObject *own_producer(PyObject *module, PyObject *address)
{
    (void)module;
    void *producer = PyLong_AsVoidPtr(address);
    return PyErr_Occurred() ? NULL : PyCapsule_New(producer, RB_PRODUCER_CAPSULE, free_producer);
}

static PyObject *described(PyObject *module, PyObject *arguments)
{
    const char *name;
    const char *doc;
    return PyArg_ParseTuple(arguments, "ss", &name, &doc) ? rb_site_described(PyModule_GetState(module), name, doc)
                                                          : NULL;
}

static PyMethodDef functions[] = {
    {"described", described, METH_VARARGS,
     "described(name, doc) -> descriptor\n\nA method of Site with a docstring of its own, for a subclass."},
    {"own_producer", own_producer, METH_O,
     "own_producer(address) -> object\n\nWhat frees a producer when nobody refers to it any more, and not before: "
     "finalizers of the same cycle may still emit."},
    {"unix_nano", unix_nano, METH_NOARGS, "unix_nano() -> int\n\nNanoseconds since 1970, from CLOCK_REALTIME."},
    {"enclosing_traceparent", enclosing_traceparent, METH_NOARGS,
     "enclosing_traceparent() -> str | None\n\nThe header of the span under which a new one would begin here."},
    {"current_span", current_span, METH_NOARGS,
     "current_span() -> Span | None\n\nThe innermost span of a `with` block around the caller."},
    {"outer_context", outer_context, METH_NOARGS,
     "outer_context() -> (current, enter, leave)\n\nWhat set_outer_context was given, None for what it was not."},
    {"set_header_reader", set_header_reader, METH_O,
     "set_header_reader(read)\n\nread(header) -> Parent | None is asked about headers that are not of the plain form."},
    {"set_outer_context", set_outer_context, METH_VARARGS,
     "set_outer_context(current, enter, leave)\n\nNest with another tracing library: current() -> Parent | Span | None "
     "says under which span a new one begins, enter(span) -> token and leave(token) tell of `with` blocks. None: no "
     "more."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

static int fill_module(PyObject *module)
{
    rb_site_module *state = PyModule_GetState(module);
    state->parent = add_type(module, &rb_parent_spec);
    state->site = add_type(module, &rb_site_spec);
    state->span = add_type(module, &rb_span_spec);
    state->span_value = add_type(module, &rb_span_value_spec);
    if (state->parent == NULL || state->site == NULL || state->span == NULL || state->span_value == NULL ||
        rb_block_methods_add(state, module) < 0)
        return -1;
    if (rb_context_make(&state->context) < 0)
        return -1;
    return PyModule_AddObjectRef(module, "CURRENT", state->context.variable);
}

static int traverse_module(PyObject *module, visitproc visit, void *arg)
{
    rb_site_module *state = PyModule_GetState(module);
    Py_VISIT((PyObject *)state->site);
    Py_VISIT((PyObject *)state->span);
    Py_VISIT((PyObject *)state->span_value);
    Py_VISIT((PyObject *)state->parent);
    Py_VISIT((PyObject *)state->bound);
    Py_VISIT(state->read_header);
    Py_VISIT((PyObject *)state->uuid);
    Py_VISIT(state->outer_current);
    Py_VISIT(state->outer_enter);
    Py_VISIT(state->outer_leave);
    return rb_context_traverse(&state->context, visit, arg);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill_module},
    {0, NULL},
};

/* No m_clear: a span that outlives the module still asks it for the context. */
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ringbuf._site",
    .m_doc = "Sites and their spans. See csrc/python/site.h.",
    .m_size = sizeof(rb_site_module),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse_module,
};

rb_site_module *rb_module_of(PyTypeObject *type, PyObject **home)
{
    /* Python's subclasses have no module of this kind, and those of other extensions have one that is not ours. */
    for (; type != NULL; type = (PyTypeObject *)PyType_GetSlot(type, Py_tp_base)) {
        if (!(PyType_GetFlags(type) & Py_TPFLAGS_HEAPTYPE))
            continue;
        *home = PyType_GetModule(type);
        if (*home != NULL && PyModule_GetDef(*home) == &definition)
            return PyModule_GetState(*home);
        PyErr_Clear();
    }
    return NULL;
}

PyMODINIT_FUNC PyInit__site(void) { return PyModuleDef_Init(&definition); }
