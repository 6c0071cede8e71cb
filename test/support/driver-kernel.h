// SPDX-License-Identifier: Apache-2.0
/*
 * What kernel/driver takes from every kernel header it names, for programs that test it: types, attributes, messages,
 * little-endian bytes. The kernel's own headers are empty files there.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t __le64;

#define __packed __attribute__((packed))
#define static_assert _Static_assert
#define pr_err(format, ...) fprintf(stderr, format, ##__VA_ARGS__)

#define SHA1_DIGEST_SIZE 20
#define SHA384_DIGEST_SIZE 48

static inline u16 get_unaligned_le16(const u8 *b) { return b[0] | b[1] << 8; }
static inline u32 get_unaligned_le32(const u8 *b) { return get_unaligned_le16(b) | (u32)get_unaligned_le16(b + 2) << 16; }
static inline void put_unaligned_le32(u32 value, u8 *b)
{
	for (int i = 0; i < 4; i++)
		b[i] = value >> 8 * i;
}
