// SPDX-License-Identifier: Apache-2.0
/*
 * Runs the emulation driver's replay over the cases on standard input: le32 flags, le32 length, log, 16 PCRs of 48 bytes.
 * Prints for each the result and the registers MRTD, RTMR0-2. Each log lies in memory of exactly its size, so that the
 * address sanitizer sees every read beyond it.
 */
#include <stdlib.h>

#include "emulation.h"

enum { NO_TPM = 1, NO_LOG = 2, UNREADABLE = 4 };

static u32 flags;
static struct tpm_chip chip;
static u8 pcrs[16][48];

struct tpm_chip *tpm_default_chip(void)
{
	return flags & NO_TPM ? NULL : &chip;
}

int tpm_pcr_read(struct tpm_chip *asked, u32 pcr, struct tpm_digest *digest)
{
	if (asked != &chip || pcr >= 16 || digest->alg_id != TPM_ALG_SHA384)
		abort();
	memcpy(digest->digest, pcrs[pcr], 48);
	return flags & UNREADABLE ? 0x121 : 0; /* TPM_RC_... of the TPM: positive */
}

static void print_register(const u8 value[48])
{
	putchar(' ');
	for (int i = 0; i < 48; i++)
		printf("%02x", value[i]);
}

int main(void)
{
	u8 head[8];

	while (fread(head, sizeof(head), 1, stdin) == 1) {
		u8 registers[TD_REGISTERS][TD_REGISTER_SIZE] = {};
		u32 length = get_unaligned_le32(head + 4);
		u8 *log = malloc(length ? length : 1);

		flags = get_unaligned_le32(head);
		if (!log || fread(log, 1, length, stdin) != length || fread(pcrs, sizeof(pcrs), 1, stdin) != 1)
			return 1;
		chip.log.bios_event_log = flags & NO_LOG ? NULL : log;
		chip.log.bios_event_log_end = flags & NO_LOG ? NULL : log + length;
		printf("%d", boot_log_replay(registers));
		print_register(registers[MRTD]);
		for (int i = RTMR0; i <= RTMR2; i++)
			print_register(registers[i]);
		putchar('\n');
		free(log);
	}
	return 0;
}
