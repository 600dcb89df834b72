/*
 * ringbuf._site.BlockMethod: __enter__ and __exit__ of a span, as a `with` statement calls them. Until Python 3.14 the
 * statement binds both, and a bound method of CPython's is made and freed each time; ours are used again. This file has no
 * other purpose: it goes, and BLOCK_METHODS with it, when 3.14 is the oldest Python that we support.
 */
#include "site.h"

#include <structmember.h>

/* Public since 3.12, and the same in all versions that have BlockMethods; in 3.11 not in the header of the stable ABI. */
enum { HAS_VECTORCALL = 1 << 11 };
typedef PyObject *(*vectorcall)(PyObject *callable, PyObject *const *arguments, size_t count_and_flag, PyObject *names);
#define COUNT_OF(count_and_flag) ((Py_ssize_t)((count_and_flag) & ~((size_t)1 << (8 * sizeof(size_t) - 1))))

enum { FIRST_THAT_BINDS_NONE = 0x030E0000 /* Python 3.14 */, MOST_SPARE = 16 };

/* BlockMethod: the descriptor, an attribute of the class. */
typedef struct rb_py_block_method {
    PyObject_HEAD PyObject *plain; /* the method of ringbuf._site.Span */
    vectorcall call;
    rb_site_module *module;
    PyObject *home;          /* the module whose state that is */
    PyTypeObject *seen_type; /* the last type that was found to be a span's, or NULL */
} rb_py_block_method;

/* BoundBlockMethod: what it is as an attribute of a span. */
typedef struct rb_py_bound {
    PyObject_HEAD vectorcall call;
    rb_py_block_method *method;
    rb_py_span *span;
    struct rb_py_bound *next_spare;
} rb_py_bound;

/* ---- calling ---- */

/* What CPython would have bound: what is not done here is done with that, in its words. */
static PyObject *bind_plain(const rb_py_bound *bound)
{
    descrgetfunc get = (descrgetfunc)PyType_GetSlot(Py_TYPE(bound->method->plain), Py_tp_descr_get);
    return get(bound->method->plain, (PyObject *)bound->span, (PyObject *)Py_TYPE((PyObject *)bound->span));
}

static PyObject *call_plain(PyObject *self, PyObject *arguments, PyObject *names)
{
    PyObject *plain = bind_plain((rb_py_bound *)self);
    PyObject *result = plain == NULL ? NULL : PyObject_Call(plain, arguments, names);
    Py_XDECREF(plain);
    return result;
}

/* The same for arguments that are not a tuple yet. */
static PyObject *call_otherwise(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t name_count = names == NULL ? 0 : PyTuple_Size(names);
    PyObject *positional = PyTuple_New(count);
    PyObject *by_name = name_count == 0 ? NULL : PyDict_New();
    int rv = positional == NULL || (name_count != 0 && by_name == NULL) ? -1 : 0;
    for (Py_ssize_t i = 0; rv == 0 && i < count; i++)
        rv = PyTuple_SetItem(positional, i, Py_NewRef(arguments[i]));
    for (Py_ssize_t i = 0; rv == 0 && i < name_count; i++)
        rv = PyDict_SetItem(by_name, PyTuple_GetItem(names, i), arguments[count + i]);
    PyObject *result = rv < 0 ? NULL : call_plain(self, positional, by_name);
    Py_XDECREF(positional);
    Py_XDECREF(by_name);
    return result;
}

static PyObject *call_enter(PyObject *self, PyObject *const *arguments, size_t count_and_flag, PyObject *names)
{
    Py_ssize_t count = COUNT_OF(count_and_flag);
    if (count != 0 || names != NULL)
        return call_otherwise(self, arguments, count, names);
    return rb_span_enter(((rb_py_bound *)self)->span, NULL);
}

static PyObject *call_exit(PyObject *self, PyObject *const *arguments, size_t count_and_flag, PyObject *names)
{
    Py_ssize_t count = COUNT_OF(count_and_flag);
    if (names != NULL)
        return call_otherwise(self, arguments, count, names);
    return rb_span_exit(((rb_py_bound *)self)->span, arguments, count);
}

/* ---- bound ---- */

static PyObject *bind(rb_py_block_method *method, rb_py_span *span)
{
    rb_site_module *module = method->module;
    rb_py_bound *bound = module->spare_bound;
    if (bound == NULL) {
        bound = (rb_py_bound *)PyType_GenericAlloc(module->bound, 0);
        if (bound == NULL)
            return NULL;
        PyObject_GC_UnTrack(bound);
    } else {
        module->spare_bound = bound->next_spare;
        module->spare_bound_count--;
        PyObject_Init((PyObject *)bound, module->bound);
    }
    bound->call = method->call;
    bound->method = (rb_py_block_method *)Py_NewRef((PyObject *)method);
    bound->span = (rb_py_span *)Py_NewRef((PyObject *)span);
    PyObject_GC_Track(bound);
    return (PyObject *)bound;
}

static void bound_free(PyObject *self)
{
    rb_py_bound *bound = (rb_py_bound *)self;
    PyTypeObject *type = Py_TYPE(self);
    rb_py_block_method *method = bound->method;
    rb_site_module *module = method->module;
    PyObject_GC_UnTrack(self);
    Py_DECREF((PyObject *)bound->span);
#ifndef Py_GIL_DISABLED /* without it, two threads might be here */
    if (module->spare_bound_count < MOST_SPARE) {
        bound->next_spare = module->spare_bound;
        module->spare_bound = bound;
        module->spare_bound_count++;
        bound = NULL;
    }
#endif
    if (bound != NULL)
        PyObject_GC_Del(bound);
    Py_DECREF((PyObject *)method);
    Py_DECREF(type);
}

static int bound_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)((rb_py_bound *)self)->method);
    Py_VISIT((PyObject *)((rb_py_bound *)self)->span);
    return 0;
}

static PyObject *bound_attribute(PyObject *self, PyObject *name)
{
    PyObject *plain = bind_plain((rb_py_bound *)self);
    PyObject *found = plain == NULL ? NULL : PyObject_GetAttr(plain, name);
    Py_XDECREF(plain);
    return found;
}

static PyObject *bound_repr(PyObject *self)
{
    PyObject *plain = bind_plain((rb_py_bound *)self);
    PyObject *text = plain == NULL ? NULL : PyObject_Repr(plain);
    Py_XDECREF(plain);
    return text;
}

static Py_hash_t bound_hash(PyObject *self)
{
    return (Py_hash_t)((uintptr_t)((rb_py_bound *)self)->span >> 4 ^ (uintptr_t)((rb_py_bound *)self)->method >> 5);
}

static PyObject *bound_compare(PyObject *self, PyObject *other, int operation)
{
    if (Py_TYPE(other) != Py_TYPE(self) || (operation != Py_EQ && operation != Py_NE))
        return Py_NewRef(Py_NotImplemented);
    const rb_py_bound *one = (const rb_py_bound *)self;
    const rb_py_bound *two = (const rb_py_bound *)other;
    int is_same = one->span == two->span && one->method == two->method;
    return Py_NewRef(is_same == (operation == Py_EQ) ? Py_True : Py_False);
}

static PyMemberDef bound_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(rb_py_bound, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot bound_slots[] = {
    {Py_tp_call, call_plain},         {Py_tp_members, bound_members}, {Py_tp_getattro, bound_attribute},
    {Py_tp_repr, bound_repr},         {Py_tp_hash, bound_hash},       {Py_tp_richcompare, bound_compare},
    {Py_tp_traverse, bound_traverse}, {Py_tp_dealloc, bound_free},    {0, NULL},
};

static PyType_Spec bound_spec = {
    .name = "ringbuf._site.BoundBlockMethod",
    .basicsize = sizeof(rb_py_bound),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             HAS_VECTORCALL,
    .slots = bound_slots,
};

/* ---- descriptor ---- */

static int is_span(rb_py_block_method *method, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == method->seen_type)
        return 1;
    if (!PyType_IsSubtype(type, method->module->span))
        return 0;
    PyTypeObject *before = method->seen_type;
    method->seen_type = (PyTypeObject *)Py_NewRef((PyObject *)type);
    Py_XDECREF((PyObject *)before);
    return 1;
}

static PyObject *method_get(PyObject *self, PyObject *object, PyObject *type)
{
    rb_py_block_method *method = (rb_py_block_method *)self;
    if (object != NULL && is_span(method, object))
        return bind(method, (rb_py_span *)object);
    descrgetfunc get = (descrgetfunc)PyType_GetSlot(Py_TYPE(method->plain), Py_tp_descr_get);
    return get(method->plain, object, type); /* the class's, or TypeError */
}

static int method_traverse(PyObject *self, visitproc visit, void *arg)
{
    const rb_py_block_method *method = (const rb_py_block_method *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(method->plain);
    Py_VISIT(method->home);
    Py_VISIT((PyObject *)method->seen_type);
    return 0;
}

static void method_free(PyObject *self)
{
    rb_py_block_method *method = (rb_py_block_method *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(method->plain);
    Py_XDECREF((PyObject *)method->seen_type);
    Py_XDECREF(method->home);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot method_slots[] = {
    {Py_tp_descr_get, method_get},
    {Py_tp_traverse, method_traverse},
    {Py_tp_dealloc, method_free},
    {0, NULL},
};

static PyType_Spec block_method_spec = {
    .name = "ringbuf._site.BlockMethod",
    .basicsize = sizeof(rb_py_block_method),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = method_slots,
};

/* ---- module ---- */

static int add_method(rb_site_module *module, PyObject *home, PyTypeObject *type, PyObject *methods, const char *name,
                      vectorcall call)
{
    rb_py_block_method *method = (rb_py_block_method *)PyType_GenericAlloc(type, 0);
    if (method == NULL)
        return -1;
    method->plain = PyObject_GetAttrString((PyObject *)module->span, name);
    method->call = call;
    method->module = module;
    method->home = Py_NewRef(home);
    int rv = method->plain == NULL ? -1 : PyDict_SetItemString(methods, name, (PyObject *)method);
    Py_DECREF((PyObject *)method);
    return rv;
}

int rb_block_methods_add(rb_site_module *module, PyObject *home)
{
    PyObject *methods = PyDict_New();
    int rv = methods == NULL ? -1 : 0;
    if (rv == 0 && Py_Version < FIRST_THAT_BINDS_NONE) {
        PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(home, &block_method_spec, NULL);
        module->bound = (PyTypeObject *)PyType_FromModuleAndSpec(home, &bound_spec, NULL);
        if (type == NULL || module->bound == NULL ||
            add_method(module, home, type, methods, "__enter__", call_enter) < 0 ||
            add_method(module, home, type, methods, "__exit__", call_exit) < 0)
            rv = -1;
        Py_XDECREF((PyObject *)type);
    }
    if (rv == 0)
        rv = PyModule_AddObjectRef(home, "BLOCK_METHODS", methods);
    Py_XDECREF(methods);
    return rv;
}
