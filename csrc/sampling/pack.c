/* pack.c - decisions as the hold keeps them; drain/sampling/decision_words.py says what is in a word, and reads it. */
#include "sampling/traces.h"

enum { DIGITS = 14, COUNTED = 4, SHORT_BITS = 20, RANDOM_AT = 2 * SHORT_BITS, RULE_AT = RANDOM_AT + 2 };
enum { TIME_AT = RULE_AT + 10, TIME_UNIT = 33, TIMES = 1 << (64 - TIME_AT) };
enum { OF_ID = 0, KEPT = 1, DROPPED = 2 };
#define NO_SHORT 0xfffffu

/* A threshold in 20 bits: how many digits `f` it begins with, and the four behind them; NO_SHORT where more count. */
static uint64_t short_of(uint64_t threshold)
{
    if (threshold >= RB_THRESHOLDS)
        return NO_SHORT;
    uint64_t others = ~threshold & (RB_THRESHOLDS - 1);
    uint32_t leading = others == 0 ? DIGITS : (uint32_t)(__builtin_clzll(others) - 8) / 4;
    leading = leading < DIGITS - COUNTED ? leading : DIGITS - COUNTED;
    uint32_t below = 4 * (DIGITS - COUNTED - leading);
    uint64_t digits = threshold >> below;
    return digits << below == threshold ? (uint64_t)leading << 16 | (digits & 0xffff) : NO_SHORT;
}

static uint64_t word_of(const rb_decided *decided, uint16_t rule)
{
    uint64_t before = decided->known != 0 ? decided->known - 1 : 0;
    uint64_t threshold = decided->threshold > before ? decided->threshold : before, random = OF_ID;
    if (decided->random_is != RB_RANDOM_OF_ID)
        random = decided->random >= threshold ? KEPT : DROPPED;
    return short_of(decided->threshold) | (decided->known != 0 ? short_of(before) : NO_SHORT) << SHORT_BITS |
           random << RANDOM_AT | (uint64_t)rule << RULE_AT | (decided->at_nano >> TIME_UNIT) % TIMES << TIME_AT;
}

void rb_pack_decided(const rb_decided *decided, uint64_t count, const uint16_t *rules, uint64_t *words)
{
    for (uint64_t i = 0; i < count; i++) {
        words[2 * i] = decided[i].hash;
        words[2 * i + 1] = word_of(&decided[i], rules[decided[i].rule]);
    }
}
