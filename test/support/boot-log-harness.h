// SPDX-License-Identifier: Apache-2.0
/* What kernel/driver/boot-log.c takes from the kernel: SHA-384 (here OpenSSL's), and a TPM with a log and registers. */
#include "driver-kernel.h"
#include <openssl/sha.h>

#define sha384_ctx SHA512state_st
#define sha384_init SHA384_Init
#define sha384_update SHA384_Update
#define sha384_final(context, out) SHA384_Final(out, context)

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
