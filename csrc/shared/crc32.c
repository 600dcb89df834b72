/* CRC-32 as zlib and gzip have it (reflected polynomial 0xEDB88320): whoever checks a ring by hand has it at hand. */
#include "shared/crc32.h"

uint32_t rb_crc32_add(uint32_t crc, const void *data, uint64_t bytes)
{
    /* Four bits a step: a header has some kilobytes and is made once, so a 64-byte table is enough. */
    static const uint32_t table[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
                                       0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                       0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    const uint8_t *byte = data;
    for (uint64_t i = 0; i < bytes; i++) {
        crc = table[(crc ^ byte[i]) & 15] ^ (crc >> 4);
        crc = table[(crc ^ (byte[i] >> 4)) & 15] ^ (crc >> 4);
    }
    return crc;
}

uint32_t rb_crc32(const void *data, uint64_t bytes) { return ~rb_crc32_add(UINT32_MAX, data, bytes); }
