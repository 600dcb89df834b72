/*
 * clmul.h - products of polynomials over GF(2) by one instruction: PCLMULQDQ on x86-64, PMULL on aarch64. Private.
 *
 * RB_TARGET is the attribute of every function that calls it. x86-64 has BMI2 with it, whose shifts need no fixed
 * register. Whether this processor has them is asked where it runs.
 */
#ifndef RINGBUF_GZIP_CLMUL_H
#define RINGBUF_GZIP_CLMUL_H

#include <stdint.h>

/* 128 bits, the lower half first. */
typedef uint64_t rb_wide __attribute__((vector_size(16)));

#if defined __x86_64__

#include <wmmintrin.h>

#define RB_TARGET __attribute__((target("pclmul,bmi,bmi2,sse4.1")))

static inline RB_TARGET rb_wide rb_times(uint64_t a, uint64_t b)
{
    return (rb_wide)_mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)a), _mm_cvtsi64_si128((int64_t)b), 0);
}

static inline int rb_has_clmul(void)
{
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("sse4.1");
}

#elif defined __aarch64__

#include <arm_neon.h>
#include <sys/auxv.h>

#define RB_TARGET __attribute__((target("+crypto")))
#define RB_HWCAP_PMULL (1 << 4) /* asm/hwcap.h; not all C libraries bring it */

static inline RB_TARGET rb_wide rb_times(uint64_t a, uint64_t b)
{
    return (rb_wide)vreinterpretq_u64_p128(vmull_p64((poly64_t)a, (poly64_t)b));
}

static inline int rb_has_clmul(void) { return (getauxval(AT_HWCAP) & RB_HWCAP_PMULL) != 0; }

#else
#error "ringbuf.h runs on x86-64 and aarch64"
#endif

#endif
