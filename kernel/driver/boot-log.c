// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fills MRTD and RTMR0-2 from the TPM event log that firmware and EFI stub wrote during this boot.
 *
 * Invariants: a register is the fold of the SHA-384 digests of its PCRs' events in log order,
 * starting at zero; the log is believed only if the same events, folded per PCR, give exactly what
 * the TPM holds in PCR 0-15. The log is memory that the host's firmware wrote: every length in it
 * is checked against what is left.
 */
#define pr_fmt(fmt) "tdx_emulation: " fmt

#include <linux/string.h>
#include <linux/tpm.h>
#include <linux/tpm_eventlog.h>
#include <linux/unaligned.h>

#include "emulation.h"

#define PCRS			16
#define MAX_ALGORITHMS		8
/* With its NUL: 16 bytes. The locality follows. */
#define STARTUP_LOCALITY	"StartupLocality"

/* PCR to measurement register: UEFI specification 2.10, 38.4.1 (Intel TDX). */
static const enum td_register register_of_pcr[PCRS] = {
	[0] = MRTD,
	[1] = RTMR0, [7] = RTMR0,
	[2 ... 6] = RTMR1,
	[8 ... 15] = RTMR2,
};

struct cursor {
	const u8 *at;
	size_t left;
};

struct algorithms {
	u32 count;
	struct {
		u16 id;
		u16 size;
	} list[MAX_ALGORITHMS];
};

struct event {
	u32 pcr;
	u32 type;
	const u8 *sha384;	/* NULL when the event has no SHA-384 digest */
	const u8 *data;
	u32 data_len;
};

void td_extend(u8 value[TD_REGISTER_SIZE], const u8 data[TD_REGISTER_SIZE])
{
	struct sha384_ctx ctx;

	sha384_init(&ctx);
	sha384_update(&ctx, value, TD_REGISTER_SIZE);
	sha384_update(&ctx, data, TD_REGISTER_SIZE);
	sha384_final(&ctx, value);
}

/* The next `len` bytes, or NULL if the log ends before. */
static const u8 *take(struct cursor *log, size_t len)
{
	const u8 *bytes = log->at;

	if (len > log->left)
		return NULL;
	log->at += len;
	log->left -= len;
	return bytes;
}

static bool take_u16(struct cursor *log, u16 *value)
{
	const u8 *bytes = take(log, sizeof(*value));

	if (bytes)
		*value = get_unaligned_le16(bytes);
	return bytes;
}

static bool take_u32(struct cursor *log, u32 *value)
{
	const u8 *bytes = take(log, sizeof(*value));

	if (bytes)
		*value = get_unaligned_le32(bytes);
	return bytes;
}

/*
 * The first entry has the old format and lists the digest algorithms (TCG PC Client Platform Firmware
 * Profile, "Spec ID Event03").
 */
static bool take_header(struct cursor *log, struct algorithms *algorithms)
{
	u32 pcr, type, size;
	struct cursor body;

	if (!take_u32(log, &pcr) || !take_u32(log, &type) || !take(log, SHA1_DIGEST_SIZE) ||
	    !take_u32(log, &size) || pcr != 0 || type != NO_ACTION)
		return false;
	body.left = size;
	body.at = take(log, size);
	if (!body.at || size < sizeof(struct tcg_efi_specid_event_head) ||
	    memcmp(body.at, TCG_SPECID_SIG, sizeof(TCG_SPECID_SIG)))
		return false;
	take(&body, offsetof(struct tcg_efi_specid_event_head, num_algs));
	if (!take_u32(&body, &algorithms->count) || algorithms->count > MAX_ALGORITHMS)
		return false;
	for (u32 i = 0; i < algorithms->count; i++) {
		u16 id, size;

		if (!take_u16(&body, &id) || !take_u16(&body, &size))
			return false;
		if (id == TPM_ALG_SHA384 && size != SHA384_DIGEST_SIZE)
			return false;
		algorithms->list[i].id = id;
		algorithms->list[i].size = size;
	}
	return true;
}

/* One entry in the crypto-agile format (the same profile, TCG_PCR_EVENT2). */
static bool take_event(struct cursor *log, const struct algorithms *algorithms, struct event *event)
{
	u32 count;

	if (!take_u32(log, &event->pcr) || !take_u32(log, &event->type) || !take_u32(log, &count) ||
	    count > algorithms->count)
		return false;
	event->sha384 = NULL;
	while (count--) {
		const u8 *digest;
		u16 id;
		u32 i;

		if (!take_u16(log, &id))
			return false;
		for (i = 0; i < algorithms->count && algorithms->list[i].id != id; i++)
			;
		if (i == algorithms->count)
			return false;
		digest = take(log, algorithms->list[i].size);
		if (!digest)
			return false;
		if (id == TPM_ALG_SHA384)
			event->sha384 = digest;
	}
	if (!take_u32(log, &event->data_len))
		return false;
	event->data = take(log, event->data_len);
	return event->data;
}

/* PCR 0 starts at the locality that sent TPM2_Startup; this event says which, and is not extended. */
static void apply_startup_locality(const struct event *event, u8 pcr0[TD_REGISTER_SIZE])
{
	if (event->pcr == 0 && event->data_len == sizeof(STARTUP_LOCALITY) + 1 &&
	    !memcmp(event->data, STARTUP_LOCALITY, sizeof(STARTUP_LOCALITY)))
		pcr0[TD_REGISTER_SIZE - 1] = event->data[sizeof(STARTUP_LOCALITY)];
}

static int fold(struct cursor log, u8 pcrs[PCRS][TD_REGISTER_SIZE],
		u8 registers[TD_REGISTERS][TD_REGISTER_SIZE])
{
	struct algorithms algorithms;
	struct event event;
	u32 index = 0;

	if (!take_header(&log, &algorithms)) {
		pr_err("the TPM event log does not start with a valid Spec ID event\n");
		return -EINVAL;
	}
	for (; log.left > 0; index++) {
		if (!take_event(&log, &algorithms, &event)) {
			pr_err("the TPM event log is malformed after event %u\n", index);
			return -EINVAL;
		}
		if (event.type == NO_ACTION) {
			apply_startup_locality(&event, pcrs[0]);
			continue;
		}
		if (event.pcr >= PCRS || !event.sha384) {
			pr_err("event %u (PCR %u) is for no register or has no SHA-384 digest\n",
			       index, event.pcr);
			return -EINVAL;
		}
		td_extend(pcrs[event.pcr], event.sha384);
		td_extend(registers[register_of_pcr[event.pcr]], event.sha384);
	}
	return index;
}

static int compare_with_tpm(struct tpm_chip *chip, const u8 pcrs[PCRS][TD_REGISTER_SIZE])
{
	for (u32 i = 0; i < PCRS; i++) {
		struct tpm_digest held = { .alg_id = TPM_ALG_SHA384 };
		int ret = tpm_pcr_read(chip, i, &held);

		if (ret) {
			pr_err("PCR %u cannot be read from the SHA-384 bank (%d)\n", i, ret);
			return ret < 0 ? ret : -EIO;
		}
		if (memcmp(held.digest, pcrs[i], TD_REGISTER_SIZE)) {
			pr_err("PCR %u of the TPM is not what its event log says\n", i);
			return -EKEYREJECTED;
		}
	}
	return 0;
}

/**
 * boot_log_replay() - fill MRTD and RTMR0-2 from this boot's event log
 * @registers: all zero on entry
 *
 * Return: the number of events, -ENODEV without a TPM or a log, -EINVAL for a malformed log,
 * -EKEYREJECTED if the log is not what the TPM saw, or the error of reading the TPM.
 */
int boot_log_replay(u8 registers[TD_REGISTERS][TD_REGISTER_SIZE])
{
	u8 pcrs[PCRS][TD_REGISTER_SIZE] = {};
	struct tpm_chip *chip = tpm_default_chip();
	struct cursor log;
	int events, ret;

	if (!chip) {
		pr_err("there is no TPM\n");
		return -ENODEV;
	}
	log.at = chip->log.bios_event_log;
	log.left = chip->log.bios_event_log_end - chip->log.bios_event_log;
	if (!log.at) {
		pr_err("the firmware left no TPM event log\n");
		events = -ENODEV;
		goto out;
	}
	events = fold(log, pcrs, registers);
	if (events < 0)
		goto out;
	ret = compare_with_tpm(chip, pcrs);
	if (ret)
		events = ret;
out:
	put_device(&chip->dev);
	return events;
}
