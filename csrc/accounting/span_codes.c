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

static int is_tally(const rb_span_tally *tally)
{
    return tally != NULL && tally->places != NULL && tally->room < UINT32_MAX &&
           (tally->room == 0 ||
            (tally->codes != NULL && tally->nanos != NULL && tally->counts != NULL && tally->last != NULL));
}

int64_t rb_tally_spans(const rb_span_form *form, const void *records, uint64_t count, rb_span_tally *tally)
{
    if (!is_form(form) || !is_tally(tally) || count >= UINT32_MAX || (count && records == NULL))
        return RB_E_ARGUMENT;
    uint64_t cells = (uint64_t)form->bound_count + 1, found = 0, i = 0;
    const uint8_t *record = records;
    for (; i < count; i++, record += form->slot_bytes) {
        int64_t code = code_of(form, record);
        if (code < 0)
            continue;
        if ((uint64_t)code >= tally->code_count)
            break;
        uint64_t place = tally->places[code];
        if (place == 0) {
            if (found == tally->room)
                break;
            tally->codes[found] = code;
            tally->nanos[found] = 0;
            memset(tally->counts + found * cells, 0, cells * sizeof *tally->counts);
            memset(tally->last + found * cells, 0, cells * sizeof *tally->last);
            tally->places[code] = (uint32_t)(place = ++found);
        }
        uint64_t lasted = nanos_of(record);
        uint64_t at = (place - 1) * cells + cell_of(form, lasted);
        uint32_t flags;
        memcpy(&flags, record + offsetof(rb_record, flags), sizeof flags);
        tally->counts[at]++;
        tally->nanos[place - 1] += (double)lasted;
        tally->last[at] = (flags & tally->flags) == tally->flags ? (uint32_t)i + 1 : tally->last[at];
    }
    for (uint64_t k = 0; k < found; k++)
        tally->places[tally->codes[k]] = 0;
    tally->found = found;
    return (int64_t)i;
}

/* `last` is below the number of records. */
static rb_exemplar exemplar_of(const rb_span_form *form, const uint8_t *records, uint32_t last, int64_t place)
{
    const uint8_t *at = records + (uint64_t)last * form->slot_bytes;
    rb_record record;
    memcpy(&record, at, sizeof record);
    rb_exemplar made = {.place = place, .end_unix_nano = record.end_unix_nano, .nanos = (double)nanos_of(at)};
    memcpy(made.trace_id, record.trace_id, sizeof made.trace_id);
    memcpy(made.span_id, record.span_id, sizeof made.span_id);
    return made;
}

int64_t rb_list_tally(const rb_span_form *form, const void *records, uint64_t count, const rb_span_tally *tally,
                      const int64_t *rows, int64_t buckets, const int64_t *bucket_of_cell, rb_tally_cells *out)
{
    if (!is_form(form) || !is_tally(tally) || out == NULL || tally->found > tally->room ||
        (tally->found && (records == NULL || rows == NULL || !out->at || !out->cells || !out->counts)))
        return RB_E_ARGUMENT;
    uint64_t cells = (uint64_t)form->bound_count + 1, written = 0;
    out->exemplar_count = 0;
    for (uint64_t k = 0; k < tally->found; k++) {
        const uint32_t *counts = tally->counts + k * cells, *lasts = tally->last + k * cells;
        for (uint64_t cell = 0, bucket_last = 0; cell < cells; cell++) {
            if (counts[cell]) {
                out->at[written] = (int64_t)k;
                out->cells[written] = (int64_t)cell;
                out->counts[written++] = counts[cell];
            }
            bucket_last = lasts[cell] > bucket_last ? lasts[cell] : bucket_last;
            int64_t bucket = bucket_of_cell ? bucket_of_cell[cell] : (int64_t)cell;
            if (bucket_last == 0 || (bucket_of_cell && cell + 1 < cells && bucket_of_cell[cell + 1] == bucket))
                continue;
            if (out->exemplars && bucket_last <= count)
                out->exemplars[out->exemplar_count++] =
                    exemplar_of(form, records, (uint32_t)bucket_last - 1, rows[k] * buckets + bucket);
            bucket_last = 0;
        }
    }
    return (int64_t)written;
}
