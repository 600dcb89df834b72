/* crc.c - powers of x for the CRC, and products that are not hurried. */
#include "otlp/gzip/crc.h"
#include "shared/crc32.h"

#define ONE 0x80000000u
#define P 0xEDB88320u /* without x^32 */

static uint32_t times_x_8(uint32_t crc) { return rb_crc32_add(crc, "", 1); }

static uint32_t divided_by_x(uint32_t crc) { return crc & ONE ? (crc ^ P) << 1 | 1 : crc << 1; }

void rb_crc_powers(uint64_t *powers, int32_t most)
{
    uint32_t up = divided_by_x(ONE), down = up;
    for (int32_t i = 0; i <= most; i++) {
        powers[i] = (uint64_t)up << 32;
        powers[-i] = (uint64_t)down << 32;
        up = times_x_8(up);
        for (int bit = 0; bit < 8; bit++)
            down = divided_by_x(down);
    }
}

/* a * b mod P */
static uint32_t product(uint32_t a, uint32_t b)
{
    uint32_t sum = 0;
    for (; b != 0; b <<= 1) {
        sum ^= b & ONE ? a : 0;
        a = a >> 1 ^ (a & 1 ? P : 0);
    }
    return sum;
}

uint32_t rb_crc_shift(uint32_t crc, uint64_t bytes)
{
    for (uint32_t power = times_x_8(ONE); bytes != 0; bytes >>= 1, power = product(power, power))
        crc = bytes & 1 ? product(crc, power) : crc;
    return crc;
}

uint32_t rb_crc_reduce(uint64_t remainder)
{
    return rb_crc32_add((uint32_t)remainder, "\0\0\0", 4) ^ (uint32_t)(remainder >> 32);
}
