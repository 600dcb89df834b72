/* What must not pass into the application: Python says what of a span is left out, and why. */
#include "site.h"

int rb_site_refuse(rb_py_site *site, PyObject *name)
{
    PyObject *type;
    PyObject *error;
    PyObject *traceback;
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *told = PyObject_CallFunctionObjArgs(site->refuse, name == NULL ? Py_None : name, error, NULL);
    int rv = 0;
    if (told == NULL) {
        PyObject *raised_type;
        PyObject *raised;
        PyObject *raised_traceback;
        PyErr_Fetch(&raised_type, &raised, &raised_traceback);
        PyErr_NormalizeException(&raised_type, &raised, &raised_traceback);
        /* To say it may fail in turn, say where the stack is at its end. */
        if (raised == error || !PyErr_GivenExceptionMatches(raised_type, PyExc_Exception)) {
            PyErr_Restore(raised_type, raised, raised_traceback);
            rv = -1;
        } else {
            Py_XDECREF(raised_type);
            Py_XDECREF(raised);
            Py_XDECREF(raised_traceback);
        }
    }
    Py_XDECREF(told);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return rv;
}
