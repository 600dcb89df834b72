/* ringbuf._site.SpanValue: a value of a span as an attribute of its class. */
#include "site.h"

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
    if (value_place(self, object) == NULL)
        return -1;
    rb_span_set_value((rb_py_span *)object, self->index, value);
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
