/*
 * kept.c - the table of what is written of spans that were kept, made ready to be copied.
 */
#include "otlp/json.h"
#include "otlp/kept/pieces.h"
#include "otlp/protobuf.h"
#include "shared/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_ROWS 65536 /* what a record's u16 can name */
#define MOST_STATE (sizeof "ot=th:0123456789abcd;rv:0123456789abcd")

enum { STATE, RULE, PIECES_OF_A_ROW }; /* of one encoding */

static const char rule_key[] = "ringbuf.sampling.rule";
static const char late_key[] = "ringbuf.sampling.late";

static size_t state_of(const rb_kept_row *row, const rb_kept_pieces *pieces, char state[MOST_STATE])
{
    if (row->stated == 0)
        return 0;
    int bytes = snprintf(state, MOST_STATE, "ot=th:%.*s", (int)pieces->digit_count, pieces->digits);
    if (row->random != 0)
        bytes += snprintf(state + bytes, MOST_STATE - (size_t)bytes, ";rv:%014llx",
                          (unsigned long long)(row->random - 1) & 0xffffffffffffff);
    return (size_t)bytes;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* First `late`, false and true for either encoding, then the rows. */
static void build(rb_builder *builder, const rb_kept_row *rows, uint32_t count, rb_kept *kept)
{
    const rb_plan_attribute late = {.key = {late_key, sizeof late_key - 1, 0}, .type = RB_TYPE_BOOL};
    uint64_t protobuf_late = rb_build_protobuf_attribute(builder, &late);
    uint64_t json_late = rb_build_json_attribute(builder, &late);
    for (uint32_t i = 0; i < count && builder->status == RB_OK; i++) {
        const rb_plan_attribute rule = {.key = {rule_key, sizeof rule_key - 1, 0},
                                        .labels = &rows[i].rule,
                                        .label_count = 1,
                                        .type = RB_TYPE_LABEL,
                                        .size = 1};
        char state[MOST_STATE];
        kept->rows[i].digit_count =
            rows[i].stated != 0 ? rb_threshold_text(rows[i].stated - 1, kept->rows[i].digits) : 0;
        size_t bytes = state_of(&rows[i], &kept->rows[i], state);
        if (bytes != 0)
            rb_build_protobuf_state(builder, state, bytes);
        else
            rb_build_piece(builder);
        kept->protobuf_bound = larger(kept->protobuf_bound, rb_build_protobuf_attribute(builder, &rule));
        if (bytes != 0)
            rb_build_json_state(builder, state, bytes);
        else
            rb_build_piece(builder);
        kept->json_bound = larger(kept->json_bound, rb_build_json_attribute(builder, &rule));
    }
    /* A tracestate that is carried grows by its own bound, which is above that of an `rv`. */
    kept->protobuf_bound += protobuf_late + RB_THRESHOLD_GROWTH;
    kept->json_bound += json_late + RB_THRESHOLD_GROWTH;
    rb_build_slack(builder);
}

static rb_piece piece_at(const rb_builder *builder, uint32_t number)
{
    uint32_t start = number != 0 ? builder->ends[number - 1] : 0;
    return (rb_piece){builder->bytes + start, builder->ends[number] - start};
}

static void settle(const rb_builder *builder, const rb_kept_row *rows, rb_kept *kept)
{
    enum { PROTOBUF_LATE = 1, JSON_LATE = 3, FIRST_ROW = 4 };
    for (uint32_t i = 0; i < kept->count; i++) {
        rb_row_pieces *encodings[2] = {&kept->rows[i].protobuf, &kept->rows[i].json};
        for (uint32_t j = 0; j < 2; j++) {
            uint32_t first = FIRST_ROW + (2 * i + j) * PIECES_OF_A_ROW;
            encodings[j]->state = piece_at(builder, first + STATE);
            encodings[j]->rule = piece_at(builder, first + RULE);
            encodings[j]->late = piece_at(builder, j == 0 ? PROTOBUF_LATE : JSON_LATE);
            if (!rows[i].is_alone)
                encodings[j]->late.bytes = 0;
        }
    }
}

int rb_kept_new(const rb_kept_row *rows, uint32_t count, rb_kept **kept_out, rb_error *error)
{
    if (rows == NULL || count < 1 || count > MOST_ROWS || kept_out == NULL)
        return rb_fail(error, RB_E_ARGUMENT, 0, "%u rows: not between 1 and %d", count, MOST_ROWS);
    for (uint32_t i = 0; i < count; i++)
        if (rows[i].rule.bytes > RB_MAX_JSON_BYTES || rows[i].stated > RB_THRESHOLDS || rows[i].random > RB_THRESHOLDS)
            return rb_fail(error, RB_E_ARGUMENT, 0, "row %u: out of bounds", i);
    rb_kept *kept = calloc(1, sizeof *kept + count * sizeof kept->rows[0]);
    rb_builder builder = {0};
    if (kept != NULL) {
        kept->count = count;
        build(&builder, rows, count, kept);
    }
    int status = kept != NULL ? builder.status : RB_E_SYSTEM;
    if (status == RB_OK) {
        settle(&builder, rows, kept);
        kept->bytes = builder.bytes;
        *kept_out = kept;
    } else {
        free(builder.bytes);
        free(kept);
        if (status == RB_E_SYSTEM)
            rb_fail(error, status, ENOMEM, "%m");
        else
            rb_fail(error, status, 0, "the rules' names would take more than 16 MiB");
    }
    free(builder.ends);
    return status;
}

void rb_kept_free(rb_kept *kept)
{
    if (kept == NULL)
        return;
    free(kept->bytes);
    free(kept);
}

uint64_t rb_kept_protobuf_bound(const rb_kept *kept) { return kept == NULL ? 0 : kept->protobuf_bound; }

uint64_t rb_kept_json_bound(const rb_kept *kept) { return kept == NULL ? 0 : kept->json_bound; }
