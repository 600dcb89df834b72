/*
 * trace_states.c - any bytes as a tracestate: nothing is read or written out of bounds, the text grows by no more than
 * it may, a second time nothing changes, and what was not `ot` is still there.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "otlp/kept/trace_state.h"

#define ROUNDS 200000

static uint64_t state;

static uint64_t drawn(void)
{
    uint64_t mixed = state += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    return mixed ^ mixed >> 27;
}

static size_t draw_text(uint8_t text[4096])
{
    static const char *const parts[] = {
        "ot=",  "th:",  "rv:", "8",       "c0", "fedcba98765432",    ";", ":", ",", " ", "\t", "a=b", "x:1",
        "p:-.", "\xff", "\0b", "ot=th:8", ",",  ";rv:fedcba98765432"};
    size_t bytes = 0, count = drawn() % (drawn() % 16 == 0 ? 200 : 12);
    for (size_t i = 0; i < count; i++) {
        const char *part = parts[drawn() % (sizeof parts / sizeof parts[0])];
        size_t part_bytes = *part == '\0' ? 2 : strlen(part);
        memcpy(text + bytes, part, part_bytes);
        bytes += part_bytes;
    }
    return bytes;
}

static size_t members_of(const uint8_t *text, size_t bytes)
{
    size_t count = bytes != 0;
    for (size_t i = 0; i < bytes; i++)
        count += text[i] == ',';
    return count;
}

int main(void)
{
    state = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)state);
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t drawn_text[4096];
        char digits[RB_MAX_THRESHOLD_BYTES + 1];
        size_t bytes = draw_text(drawn_text);
        uint64_t threshold = drawn() >> (8 + drawn() % 56);
        size_t digit_count = drawn() % 4 == 0 ? 0 : rb_threshold_text(threshold, digits);
        /* Heap memory of just these sizes, so that a step beyond them is seen. */
        uint8_t *text = malloc(bytes + 1), *out = malloc(bytes + RB_THRESHOLD_GROWTH);
        uint8_t *again = malloc(bytes + 2 * RB_THRESHOLD_GROWTH);
        assert(text != NULL && out != NULL && again != NULL);
        text = realloc(text, bytes != 0 ? bytes : 1);
        memcpy(text, drawn_text, bytes);
        size_t written = rb_trace_state_with(out, text, bytes, digits, digit_count);
        assert(written <= bytes + RB_THRESHOLD_GROWTH);
        size_t second = rb_trace_state_with(again, out, written, digits, digit_count);
        assert(second == written && memcmp(again, out, written) == 0);
        assert(members_of(out, written) <= 32 || (written == bytes && memcmp(out, text, bytes) == 0));
        free(text);
        free(out);
        free(again);
    }
    return 0;
}
