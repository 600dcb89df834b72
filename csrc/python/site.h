/*
 * ringbuf._site: the Python types that emit. A site knows its layout, so each argument of a call goes straight from its
 * Python object into the record: the call costs a third of what a call through cffi does, which packs its arguments
 * into a tuple first. Only what is called per span is here; everything else goes through cffi.
 */
#ifndef RINGBUF_PY_SITE_H
#define RINGBUF_PY_SITE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "ringbuf.h"

/* ---- context.c ---- */

/* The ContextVar of the enclosing span, and how it is asked: by functions, or where `get` is NULL by methods. */
typedef struct rb_context {
    PyObject *variable;
    PyObject *get_method;
    PyObject *set_method;
    PyObject *reset_method;
    int (*get)(PyObject *variable, PyObject *otherwise, PyObject **value);
    PyObject *(*set)(PyObject *variable, PyObject *value);
    int (*reset)(PyObject *variable, PyObject *token);
} rb_context;

/* 0, or -1 with an exception. */
int rb_context_make(rb_context *context);

int rb_context_traverse(const rb_context *context, visitproc visit, void *arg);

/* The object that is current, None where none is. NULL with an exception, as the next. */
PyObject *rb_context_get(const rb_context *context);

/* The token that rb_context_reset takes. */
PyObject *rb_context_set(const rb_context *context, PyObject *span);

/* 0, or -1 with an exception: the token is of another context. */
int rb_context_reset(const rb_context *context, PyObject *token);

/* ---- module.c ---- */

typedef struct rb_site_module {
    PyTypeObject *site;
    PyTypeObject *span;
    PyTypeObject *span_value;
    PyTypeObject *parent;
    PyTypeObject *bound;
    rb_context context;
    PyObject *read_header; /* what to ask of a traceparent that is not of the plain form */
    PyTypeObject *uuid;    /* uuid.UUID, once one was seen; then, too, the name of its attribute `int` */
    PyObject *uuid_number_name;
    PyObject *outer_current; /* another tracing library's notion of the current span: set_context; NULL without one */
    PyObject *outer_enter;
    PyObject *outer_leave;
    /* Spans that were entered and still exist. While there are none, no context can hold one: it need not be asked. */
    Py_ssize_t entered;
    struct rb_py_bound *spare_bound; /* memory of bound methods that are gone, see block_method.c */
    Py_ssize_t spare_bound_count;
} rb_site_module;

/* ---- parent.c ---- */

/* What spans can go on from: ringbuf._site.Parent, the span of another process. */
typedef struct rb_py_parent {
    PyObject_HEAD rb_span span;
} rb_py_parent;

extern PyType_Spec rb_parent_spec;

/* A new Parent. NULL with an exception. */
PyObject *rb_parent_new(const rb_site_module *module, const rb_span *span);

struct rb_py_site;

/*
 * The span that `given` stands for (a Span, a Parent, a header, None), in *parent: NULL for a root. *keep: what the
 * caller must release when it is done with *parent. 0, or -1 with an exception.
 */
int rb_parent_of(struct rb_py_site *site, PyObject *given, const rb_span **parent, PyObject **keep, rb_span *space);

/*
 * The same for the enclosing span: another tracing library's, else the current one. `site` tells of what fails there;
 * it may be NULL.
 */
int rb_parent_enclosing(const rb_site_module *module, struct rb_py_site *site, const rb_span **parent, PyObject **keep);

/* What another tracing library says is around, if it says anything: as rb_parent_enclosing. */
int rb_parent_outer(const rb_site_module *module, struct rb_py_site *site, const rb_span **parent, PyObject **keep);

/* ---- argument.c ---- */

/* From RB_ROLE_NAME on: of the record's core, and put in its own way. */
enum rb_role { RB_ROLE_VALUE = 0, RB_ROLE_START = 1, RB_ROLE_END = 2, RB_ROLE_NAME = 3, RB_ROLE_STATUS = 4 };

/* One argument of `emit`: its name, and how its value gets into the record. */
typedef struct rb_argument {
    PyObject *name;     /* interned */
    PyTypeObject *only; /* the type whose instances are taken at once; NULL: the built-in one */
    PyObject *labels;   /* of a label: our own dict from str to int; of the name: tuple of what stands for each name */
    PyObject *statuses; /* of a label: bytes, the span's status by index, 0: it has no say; NULL: none has */
    PyObject *names;    /* of a label: bytes, the span name that it demands by index; NULL: any. After the name. */
    uint32_t role;      /* enum rb_role */
    uint32_t type;      /* enum rb_type */
    uint32_t offset;    /* in the record */
    uint32_t bytes;     /* in the record */
    uint32_t present;   /* bit of rb_record.present */
    uint32_t label_count;
    uint8_t required;
    uint8_t takes_none;  /* None: absent, or for the end: now */
    uint8_t in_order;    /* of the end, after the start: told of where it lies before it */
    uint8_t takes_forms; /* an id of 16 bytes that is taken in other forms than `only`, too: see id_form.c */
    uint8_t is_word;     /* derived: of the type u64 and no other, and of no role of its own way */
    uint8_t is_keyword;  /* given by its name alone; such arguments are the last */
} rb_argument;

/*
 * Put a value into the record. 1: done; 0: it is not of the plain kind, or out of order: Python must look at it;
 * never an exception.
 */
int rb_argument_put_plain(const rb_argument *argument, PyObject *value, uint8_t *record);

/* Put a label by its index, with the status that it stands for, if any. */
void rb_argument_put_label(const rb_argument *argument, uint64_t index, uint8_t *record);

/* ---- id_form.c ---- */

/* Put an id in one of its forms. 1: done; 0: Python must look at it; never an exception. */
int rb_id_form_put(rb_site_module *module, const rb_argument *argument, PyObject *value, uint8_t *record);

/* ---- bind.c, site.c ---- */

/* What became of the values of a span. */
typedef struct rb_tally {
    uint64_t truncated;
    uint64_t invalid;
    int lacks_start; /* it did not fit: it becomes the end */
} rb_tally;

/* The attributes and the status; with them start, end and name. */
enum { RB_MAX_VALUES = RB_MAX_ATTRIBUTES + 1, RB_MAX_ARGUMENTS = RB_MAX_VALUES + 3 };

typedef struct rb_py_site {
    PyObject_HEAD rb_site_module *module;
    PyObject *home;  /* the module whose state that is: a span that outlives it still asks it for the context */
    PyObject *owner; /* of the producer, a capsule: kept until we are gone, see site_free */
    rb_producer *producer;
    PyObject *convert; /* convert(argument index, value) -> (bytes, cut): for values that are not of the plain kind */
    PyObject *refuse;  /* refuse(argument name or None, exception): say what was left out; raises it to be strict */
    PyObject *recover; /* recover() -> bool: make a ring where there is none */
    PyObject *attend;  /* attend(): what the +2 of rb_emit asks for */
    PyTypeObject *span_type;
    PyObject *origin;  /* (callable, arguments): what binds the site anew, where it is unpickled */
    PyObject *failure; /* failure(span, exception, end) -> ((index of a value, value), ...): what one sets */
    uint32_t argument_count;
    uint32_t positional_count; /* of them, those that a call may give without their names: the first */
    uint32_t value_count;      /* what a span has: attributes, and the status */
    uint32_t positional_values;
    uint32_t slot_bytes;
    uint64_t dropped_in; /* rb_process_mark of the process whose first drop was told of */
    rb_argument arguments[RB_MAX_ARGUMENTS];
    uint8_t value_arguments[RB_MAX_VALUES]; /* the argument of each value */
    struct rb_py_span *spare;               /* memory of a span that is gone, for the next; see span.c */
    uint8_t *template;                      /* slot_bytes: the record of a span without its ids, times and values */
} rb_py_site;

extern PyType_Spec rb_site_spec;

/* tp_new of it. */
PyObject *rb_site_make(PyTypeObject *type, PyObject *arguments, PyObject *names);

void rb_argument_release(rb_argument *argument);

/* Words of a record on the stack: as many as the slot has, since the stack may be a small thread's. */
#define RB_RECORD_WORDS(site) ((site)->slot_bytes / sizeof(uint64_t))

/* The capsules that own a producer have this name. */
#define RB_PRODUCER_CAPSULE "ringbuf.producer"

/* The state of our module that made `type` or a base of it, and the module in *home (borrowed). NULL: there is none. */
rb_site_module *rb_module_of(PyTypeObject *type, PyObject **home);

/* What all its records have, in blocks of 64 bytes, as a slot is made of: so it is no call of memcpy. */
static inline void rb_site_copy_template(const rb_py_site *site, uint8_t *record)
{
    for (uint32_t at = 0; at < site->slot_bytes; at += 64)
        memcpy(record + at, site->template + at, 64);
}

/* ---- refuse.c ---- */

/*
 * An exception is pending that must not pass into the application: something of the span is left out, and Python told why.
 * `name` is the argument's, NULL where it is none. 0; -1 when an exception is to pass all the same: an interrupt, or
 * any where tests want to see them (RINGBUF_STRICT).
 */
int rb_site_refuse(rb_py_site *site, PyObject *name);

/* ---- site.c: values, and records written ---- */

/* Where a value is put: what the signature forbids raises in a call, but never at the end of a block. */
enum rb_place { RB_IN_CALL, RB_IN_BLOCK };

/* Put a value that is not of the plain kind, or leave it out when it does not fit. 0, or -1 with an exception. */
int rb_site_put_other(rb_py_site *site, uint32_t argument, PyObject *value, uint8_t *record, rb_tally *tally,
                      enum rb_place place);

/* The same for a value of any kind. */
static inline int rb_site_put(rb_py_site *site, uint32_t argument, PyObject *value, uint8_t *record, rb_tally *tally,
                              enum rb_place place)
{
    if (rb_argument_put_plain(&site->arguments[argument], value, record))
        return 0;
    return rb_site_put_other(site, argument, value, record, tally, place);
}

/*
 * Write a finished record. 1 written, 0 not and counted; -1 with an exception: ValueError, and nothing counted, for a
 * record that cannot be; else it was interrupted, and counted.
 */
int rb_site_write(rb_py_site *site, uint8_t *record, const rb_tally *tally);

/* The method of that name as a descriptor with a docstring of its own: what `emit` takes, a subclass says. */
PyObject *rb_site_described(const rb_site_module *module, const char *name, const char *doc);

/* rb_span_begin, once more when a ring could be made. 0, or -1 with an exception. */
int rb_site_begin(rb_py_site *site, const rb_span *parent, rb_span *span);

/* ---- span.c ---- */

typedef struct rb_py_span {
    PyObject_VAR_HEAD rb_py_site *site;
    PyObject *parent;         /* a header's, else NULL: the enclosing span */
    struct rb_py_span *outer; /* the span that was current when this one became it; kept while open or astray */
    Py_ssize_t open_inner;    /* how many were entered under it, in any context, and not left */
    PyObject *token;
    PyObject *outer_token;
    rb_span span;
    uint64_t process; /* rb_process_mark at the start, 0 before: then there are no ids either */
    struct rb_py_span *free_next;
    uint32_t left_out;   /* values that were to be added, and do not fit */
    uint8_t was_entered; /* from the first instruction of __enter__ on: what that calls may enter it again */
    uint8_t was_left;
    uint8_t was_told;     /* outer_enter was called for it */
    uint8_t is_displaced; /* one that it was entered under was left before it: it is current no more */
    /*
     * It was left in another context than the one that it was entered in (a generator is closed anywhere), and is still
     * current there: no span begins under it any more. One that was left in its own context, however, stays the parent in
     * the contexts that were copied inside its block: of the tasks that it started.
     */
    uint8_t is_astray;
    uint8_t status; /* as it was written */
    PyObject *values[];
} rb_py_span;

/* A value takes the place of another, whose end may run anything: it is out of the span by then. */
static inline void rb_span_set_value(rb_py_span *span, Py_ssize_t index, PyObject *value)
{
    PyObject *before = span->values[index];
    span->values[index] = Py_NewRef(value);
    Py_XDECREF(before);
}

/*
 * The span that is current in this context, in *current: a new reference, or NULL. Spans that went astray are passed
 * over. 0, or -1 with an exception.
 */
int rb_span_current(const rb_site_module *module, rb_py_span **current);

/*
 * Whether `current`, which is current here, is not what encloses a new span: another tracing library was told of it, and
 * says that there is none around. Its context was set later then.
 */
int rb_span_is_overruled(const rb_site_module *module, const rb_py_span *current);

/* The W3C header that makes the next hop's spans children of this one: str. NULL with an exception. */
PyObject *rb_span_traceparent(const rb_span *span);

/* ---- block.c ---- */

/* The methods __enter__ and __exit__ of a span. */
PyObject *rb_span_enter(rb_py_span *self, PyObject *unused);
PyObject *rb_span_exit(rb_py_span *self, PyObject *const *arguments, Py_ssize_t count);

/* ---- block_method.c ---- */

/* Add BLOCK_METHODS to the module: what takes the place of these methods in a class, by name. 0, or -1. */
int rb_block_methods_add(rb_site_module *module, PyObject *home);

/* Let go of the span that was current before this one. */
void rb_span_forget_outer(rb_py_span *self);

/* ---- span.c, span_value.c ---- */

extern PyType_Spec rb_span_spec;
extern PyType_Spec rb_span_value_spec;

/* site.span(*values, traceparent=None) */
PyObject *rb_span_new(rb_py_site *site, PyObject *const *arguments, Py_ssize_t count, PyObject *names);

#endif
