/*
 * Every access to a word that two sides or two threads share goes through one of these, so that the order asked for can
 * be read in its name. (Other __atomic builtins only count: threads in emit.c, passages in point.h; and keep the compiler
 * from moving stores past a signal handler in sigbus.c.) Plain integers with builtins, not _Atomic, keep ringbuf.h valid
 * C++. What each order is for is searched in tests/model: *_orders.pml, where each is seen to be needed.
 */
#ifndef RINGBUF_ATOMICS_H
#define RINGBUF_ATOMICS_H

#include <stdint.h>

static inline uint64_t rb_load_relaxed(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline uint64_t rb_load_acquire(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline uint64_t rb_load_seq_cst(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
static inline void rb_store_relaxed(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
static inline void rb_store_release(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
static inline void rb_store_seq_cst(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }

/* Counters: only their sum matters, or that no two threads get the same count; nothing is published through them. */
static inline uint64_t rb_add_relaxed(uint64_t *word, uint64_t n)
{
    return __atomic_fetch_add(word, n, __ATOMIC_RELAXED);
}

static inline uint32_t rb_load32_relaxed(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline uint32_t rb_load32_acquire(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline uint32_t rb_load32_seq_cst(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
static inline void rb_store32_relaxed(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}
static inline void rb_store32_release(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/*
 * A try-flag: 0 free, 1 taken. Taking it acquires what the last holder wrote before it gave it back. Who does not get it
 * learns nothing of what its holder wrote.
 */
static inline int rb_try_take(uint32_t *flag)
{
    return rb_load32_relaxed(flag) == 0 && __atomic_exchange_n(flag, 1, __ATOMIC_ACQUIRE) == 0;
}
static inline void rb_give_back(uint32_t *flag) { rb_store32_release(flag, 0); }

/* The same where the word says who has it: taken for `mine` if it still is as it was seen. Given back by a release. */
static inline int rb_take_word(uint64_t *word, uint64_t seen, uint64_t mine)
{
    return __atomic_compare_exchange_n(word, &seen, mine, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline uint32_t rb_exchange32_seq_cst(uint32_t *word, uint32_t value)
{
    return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
}

/*
 * Copies memory that a producer may be writing again meanwhile: what comes of it is good only if a word that is loaded
 * afterwards says that nobody did. Acquire, so that "afterwards" holds. `from` and `bytes` are multiples of 8. That the
 * two may race is the point, so ThreadSanitizer is not to look.
 */
__attribute__((no_sanitize("thread"))) static inline void rb_copy_acquire(void *to, const void *from, uint64_t bytes)
{
    const uint64_t *words = (const uint64_t *)from;
    for (uint64_t i = 0; i < bytes / 8; i++) {
        uint64_t word = __atomic_load_n(&words[i], __ATOMIC_ACQUIRE);
        __builtin_memcpy((uint8_t *)to + 8 * i, &word, 8);
    }
}

/*
 * The doorbell's address: mapped once, by whichever thread finds it missing. What lies there is touched by the kernel
 * only, so that the order guards no more than that the mapping was made before.
 */
static inline uint32_t *rb_load_pointer_acquire(uint32_t *const *pointer)
{
    return __atomic_load_n(pointer, __ATOMIC_ACQUIRE);
}
static inline void rb_store_pointer_release(uint32_t **pointer, uint32_t *value)
{
    __atomic_store_n(pointer, value, __ATOMIC_RELEASE);
}

/* A lane's control lines, by who does not hold the lane: they stay, but where a ring could not be moved. */
struct rb_lane;
static inline struct rb_lane *rb_load_lane_acquire(struct rb_lane *const *lane)
{
    return __atomic_load_n(lane, __ATOMIC_ACQUIRE);
}
static inline void rb_store_lane_release(struct rb_lane **lane, struct rb_lane *value)
{
    __atomic_store_n(lane, value, __ATOMIC_RELEASE);
}

/* One of those who try replaces what all of them have seen. Nothing is published by it. */
static inline int rb_replace32(uint32_t *word, uint32_t seen, uint32_t value)
{
    return __atomic_compare_exchange_n(word, &seen, value, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline int rb_replace(uint64_t *word, uint64_t seen, uint64_t value)
{
    return __atomic_compare_exchange_n(word, &seen, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Set a word once: the first thread wins, and who has tried sees its value. Others need an acquire of what came later. */
static inline void rb_set_once(uint64_t *word, uint64_t value)
{
    uint64_t unset = 0;
    __atomic_compare_exchange_n(word, &unset, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

#endif
