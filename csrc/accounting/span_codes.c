/*
 * span_codes.c - records by name, labels and duration.
 */
#include "accounting/span_codes.h"

#include <string.h>

#define LONGEST_NANO (UINT64_C(1) << 62)

static int is_form(const rb_span_form *form)
{
    if (form == NULL || form->slot_bytes < RB_CORE_BYTES || form->slot_bytes > RB_MAX_SLOT_BYTES ||
        (form->label_count && form->labels == NULL) || (form->bound_count && form->bounds_nano == NULL))
        return 0;
    for (uint32_t i = 0; i < form->label_count; i++) {
        const rb_span_label *label = &form->labels[i];
        if (label->bytes < 1 || label->bytes > 2 || label->offset > form->slot_bytes - label->bytes)
            return 0;
    }
    return 1;
}

/* Records of a caller's buffer may lie at any address. */
static inline uint64_t word_at(const uint8_t *record, size_t offset)
{
    uint64_t word;
    memcpy(&word, record + offset, sizeof word);
    return word;
}

static inline uint32_t label_of(const rb_span_label *label, const uint8_t *record, uint32_t present)
{
    if (!(present & label->bit))
        return 0;
    uint32_t value = record[label->offset];
    if (label->is_bool)
        return 1 + (value != 0);
    if (label->bytes == 2)
        value |= (uint32_t)record[label->offset + 1] << 8;
    return value < label->values ? 1 + value : 0;
}

static inline int64_t code_of(const rb_span_form *form, const uint8_t *record)
{
    uint16_t name;
    uint32_t present;
    memcpy(&name, record + offsetof(rb_record, name), sizeof name);
    memcpy(&present, record + offsetof(rb_record, present), sizeof present);
    if (name >= form->names)
        return -1;
    int64_t code = name;
    for (uint32_t i = 0; i < form->label_count; i++)
        code = code * ((int64_t)form->labels[i].values + 1) + label_of(&form->labels[i], record, present);
    return code;
}

/* A span that ends before it begins lasted for no time: a negative sum would look like a counter that began again. */
static inline uint64_t nanos_of(const uint8_t *record)
{
    uint64_t start = word_at(record, offsetof(rb_record, start_unix_nano));
    uint64_t end = word_at(record, offsetof(rb_record, end_unix_nano));
    uint64_t nanos = end > start ? end - start : 0;
    return nanos < LONGEST_NANO ? nanos : LONGEST_NANO;
}

/* Halves what is left without a branch that durations could be mispredicted at. */
static inline uint32_t cell_of(const rb_span_form *form, uint64_t nanos)
{
    const uint64_t *from = form->bounds_nano;
    uint32_t left = form->bound_count;
    while (left > 1) {
        uint32_t half = left / 2;
        from += from[half - 1] < nanos ? half : 0;
        left -= half;
    }
    return (uint32_t)(from - form->bounds_nano) + (left && *from < nanos);
}

int rb_code_spans(const rb_span_form *form, const void *records, uint64_t count, int64_t *codes, int64_t *cells,
                  double *nanos)
{
    if (!is_form(form) || (count && (records == NULL || codes == NULL || cells == NULL || nanos == NULL)))
        return RB_E_ARGUMENT;
    const uint8_t *record = records;
    for (uint64_t i = 0; i < count; i++, record += form->slot_bytes) {
        uint64_t lasted = nanos_of(record);
        codes[i] = code_of(form, record);
        cells[i] = cell_of(form, lasted);
        nanos[i] = (double)lasted;
    }
    return RB_OK;
}

int64_t rb_count_spans(const rb_span_form *form, const void *records, uint64_t count, const rb_span_series *series)
{
    if (!is_form(form) || series == NULL || series->rows == NULL || series->blocks == NULL || series->counts == NULL ||
        series->nanos == NULL || (count && records == NULL))
        return RB_E_ARGUMENT;
    uint64_t blocks = (uint64_t)form->bound_count / RB_BLOCK_CELLS + 1;
    const uint8_t *record = records;
    for (uint64_t i = 0; i < count; i++, record += form->slot_bytes) {
        int64_t code = code_of(form, record);
        if (code < 0)
            continue;
        if ((uint64_t)code >= series->code_count)
            return RB_E_ARGUMENT;
        int32_t row = series->rows[code];
        if (row < 0)
            return (int64_t)i;
        if ((uint64_t)row >= series->row_count)
            return RB_E_ARGUMENT;
        uint64_t lasted = nanos_of(record);
        uint32_t cell = cell_of(form, lasted);
        int32_t block = series->blocks[(uint64_t)row * blocks + cell / RB_BLOCK_CELLS];
        if (block == 0)
            return (int64_t)i;
        if (block < 0 || (uint64_t)block >= series->block_count)
            return RB_E_ARGUMENT;
        series->counts[(uint64_t)block * RB_BLOCK_CELLS + cell % RB_BLOCK_CELLS]++;
        series->nanos[row] += (double)lasted;
    }
    return (int64_t)count;
}
