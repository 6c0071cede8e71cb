/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CAISSON_EMULATION_H
#define CAISSON_EMULATION_H

#include <crypto/sha2.h>
#include <linux/types.h>

/* The registers of a TD, in the order in which the in-tree driver lists them. */
enum td_register {
	RTMR0,
	RTMR1,
	RTMR2,
	RTMR3,
	MRTD,
	MRCONFIGID,
	MROWNER,
	MROWNERCONFIG,
	TD_REGISTERS,
};

#define TD_REGISTER_SIZE	SHA384_DIGEST_SIZE
#define TD_REPORTDATA_SIZE	64

/* The body of a TD 1.0 quote (Intel TDX DCAP quoting library API, "TD Quote Body"). */
struct td_quote_body {
	u8 tee_tcb_svn[16];
	u8 mrseam[TD_REGISTER_SIZE];
	u8 mrsignerseam[TD_REGISTER_SIZE];
	__le64 seam_attributes;
	__le64 td_attributes;
	__le64 xfam;
	u8 mrtd[TD_REGISTER_SIZE];
	u8 mrconfigid[TD_REGISTER_SIZE];
	u8 mrowner[TD_REGISTER_SIZE];
	u8 mrownerconfig[TD_REGISTER_SIZE];
	u8 rtmr[4][TD_REGISTER_SIZE];
	u8 report_data[TD_REPORTDATA_SIZE];
} __packed;
static_assert(sizeof(struct td_quote_body) == 584);

/* value = SHA-384(value || data) */
void td_extend(u8 value[TD_REGISTER_SIZE], const u8 data[TD_REGISTER_SIZE]);

/* boot-log.c: fills MRTD and RTMR0-2 from this boot's TPM event log, or refuses. */
int boot_log_replay(u8 registers[TD_REGISTERS][TD_REGISTER_SIZE]);

/* quote-channel.c: one request at a time, the caller holds the lock. *quote is kvmalloc()ed. */
int quote_channel_open(void);
int quote_channel_request(const struct td_quote_body *body, u8 **quote, size_t *quote_len);

#endif
