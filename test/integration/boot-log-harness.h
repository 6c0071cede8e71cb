/*
 * What kernel/driver/boot-log.c takes from the kernel, for a program: types, little-endian reads, SHA-384 (OpenSSL's) and
 * a TPM whose log and registers come from a file. Included before everything else; the kernel's own headers are empty
 * files then.
 */
#include <errno.h>
#include <openssl/sha.h>
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
#define sha384_ctx SHA512state_st
#define sha384_init SHA384_Init
#define sha384_update SHA384_Update
#define sha384_final(context, out) SHA384_Final(out, context)

static inline u16 get_unaligned_le16(const u8 *b) { return b[0] | b[1] << 8; }
static inline u32 get_unaligned_le32(const u8 *b) { return get_unaligned_le16(b) | (u32)get_unaligned_le16(b + 2) << 16; }

/* include/linux/tpm.h, include/linux/tpm_eventlog.h */
#define TPM_ALG_SHA384 0x000c
#define NO_ACTION 3
#define TCG_SPECID_SIG "Spec ID Event03"
struct tcg_efi_specid_event_head {
	u8 signature[16];
	u32 platform_class;
	u8 spec_version_minor, spec_version_major, spec_errata, uintnsize;
	u32 num_algs;
} __packed;
struct tpm_digest {
	u16 alg_id;
	u8 digest[64];
};
struct device {
	int unused;
};
struct tpm_chip {
	struct { u8 *bios_event_log, *bios_event_log_end; } log;
	struct device dev;
};
struct tpm_chip *tpm_default_chip(void);
int tpm_pcr_read(struct tpm_chip *chip, u32 pcr, struct tpm_digest *digest);
static inline void put_device(struct device *device) { (void)device; }
