/*
 * The current span as a context variable, by CPython's own functions where they are those that we know. They are
 * documented and public since 3.7, but no part of the stable ABI: a later Python may change them, and gets the methods of
 * the variable, which cost a call each.
 */
#include <dlfcn.h>
#include <string.h>

#include "site.h"

enum { FIRST_UNKNOWN = 0x030F0000 }; /* Python 3.15: what they take is not settled */

/* Of the process. 1, or 0 where it has none of that name. */
static int find(const char *name, void *function)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    memcpy(function, &found, sizeof found); /* ISO C has no conversion */
    return found != NULL;
}

static void find_functions(rb_context *context)
{
    if (Py_Version >= FIRST_UNKNOWN || !find("PyContextVar_Get", &context->get) ||
        !find("PyContextVar_Set", &context->set) || !find("PyContextVar_Reset", &context->reset))
        context->get = NULL;
}

int rb_context_make(rb_context *context)
{
    PyObject *contextvars = PyImport_ImportModule("contextvars");
    if (contextvars == NULL)
        return -1;
    PyObject *type = PyObject_GetAttrString(contextvars, "ContextVar");
    Py_DECREF(contextvars);
    PyObject *arguments = Py_BuildValue("(s)", "ringbuf.current_span");
    PyObject *names = Py_BuildValue("{s:O}", "default", Py_None);
    if (type != NULL && arguments != NULL && names != NULL)
        context->variable = PyObject_Call(type, arguments, names);
    Py_XDECREF(type);
    Py_XDECREF(arguments);
    Py_XDECREF(names);
    if (context->variable == NULL)
        return -1;
    context->get_method = PyObject_GetAttrString(context->variable, "get");
    context->set_method = PyObject_GetAttrString(context->variable, "set");
    context->reset_method = PyObject_GetAttrString(context->variable, "reset");
    if (context->get_method == NULL || context->set_method == NULL || context->reset_method == NULL)
        return -1;
    find_functions(context);
    return 0;
}

int rb_context_traverse(const rb_context *context, visitproc visit, void *arg)
{
    Py_VISIT(context->variable);
    Py_VISIT(context->get_method);
    Py_VISIT(context->set_method);
    Py_VISIT(context->reset_method);
    return 0;
}

PyObject *rb_context_get(const rb_context *context)
{
    PyObject *found = NULL;
    if (context->get == NULL)
        return PyObject_CallNoArgs(context->get_method);
    return context->get(context->variable, NULL, &found) < 0 ? NULL : found;
}

PyObject *rb_context_set(const rb_context *context, PyObject *span)
{
    if (context->get == NULL)
        return PyObject_CallFunctionObjArgs(context->set_method, span, NULL);
    return context->set(context->variable, span);
}

int rb_context_reset(const rb_context *context, PyObject *token)
{
    if (context->get != NULL)
        return context->reset(context->variable, token);
    PyObject *done = PyObject_CallFunctionObjArgs(context->reset_method, token, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}
