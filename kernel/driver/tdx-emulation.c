// SPDX-License-Identifier: GPL-2.0-only
/*
 * The user interfaces of the TDX guest driver, without TDX. For development: it proves nothing about
 * the machine.
 *
 * What user space sees follows drivers/virt/coco/tdx-guest/tdx-guest.c of the same kernel: the misc
 * device `tdx_guest`, its measurement registers in sysfs and the configfs-tsm provider `tdx_guest`,
 * with the same names, modes, sizes and error codes (abi.json beside this file). The one difference
 * is TDX_CMD_GET_REPORT0: a TDREPORT is worth its MAC, which only the processor can make, so the
 * ioctl does not exist here.
 */
#define pr_fmt(fmt) "tdx_emulation: " fmt

#include <linux/init.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/string.h>
#include <linux/tsm.h>
#include <linux/tsm-mr.h>

#include "emulation.h"

#define NAME "tdx_guest"

/* Intel TDX module ABI: ATTRIBUTES.SEPT_VE_DISABLE; every debug bit clear. */
#define TD_ATTRIBUTES	BIT_ULL(28)
/* x87, SSE, AVX, AVX-512: what current TDs are commonly started with. */
#define TD_XFAM		0xe7

static u8 registers[TD_REGISTERS][TD_REGISTER_SIZE];

/* Serialises extending with reading for a quote, and quotes with each other. */
static DEFINE_MUTEX(register_lock);
static DEFINE_MUTEX(quote_lock);

#define TD_MR(index, name) .mr_value = registers[index], TSM_MR_(name, SHA384)
static const struct tsm_measurement_register measurement_registers[TD_REGISTERS] = {
	[RTMR0] = { TD_MR(RTMR0, rtmr0) | TSM_MR_F_RTMR },
	[RTMR1] = { TD_MR(RTMR1, rtmr1) | TSM_MR_F_RTMR },
	[RTMR2] = { TD_MR(RTMR2, rtmr2) | TSM_MR_F_RTMR },
	[RTMR3] = { TD_MR(RTMR3, rtmr3) | TSM_MR_F_RTMR },
	[MRTD] = { TD_MR(MRTD, mrtd) },
	[MRCONFIGID] = { TD_MR(MRCONFIGID, mrconfigid) | TSM_MR_F_NOHASH },
	[MROWNER] = { TD_MR(MROWNER, mrowner) | TSM_MR_F_NOHASH },
	[MROWNERCONFIG] = { TD_MR(MROWNERCONFIG, mrownerconfig) | TSM_MR_F_NOHASH },
};

static int registers_refresh(const struct tsm_measurements *tm)
{
	return 0;	/* the registers live here; there is nothing to load them from */
}

static int registers_extend(const struct tsm_measurements *tm,
			    const struct tsm_measurement_register *mr, const u8 *data)
{
	scoped_cond_guard(mutex_intr, return -EINTR, &register_lock)
		td_extend(registers[mr - tm->mrs], data);
	return 0;
}

static const struct tsm_measurements measurements = {
	.mrs = measurement_registers,
	.nr_mrs = ARRAY_SIZE(measurement_registers),
	.refresh = registers_refresh,
	.write = registers_extend,
};

static int fill_body(struct td_quote_body *body, const u8 report_data[TD_REPORTDATA_SIZE])
{
	/* There is no TDX module: its version, measurement and signer stay zero. */
	memset(body, 0, sizeof(*body));
	body->td_attributes = cpu_to_le64(TD_ATTRIBUTES);
	body->xfam = cpu_to_le64(TD_XFAM);
	memcpy(body->report_data, report_data, TD_REPORTDATA_SIZE);
	scoped_cond_guard(mutex_intr, return -EINTR, &register_lock) {
		memcpy(body->mrtd, registers[MRTD], TD_REGISTER_SIZE);
		memcpy(body->mrconfigid, registers[MRCONFIGID], TD_REGISTER_SIZE);
		memcpy(body->mrowner, registers[MROWNER], TD_REGISTER_SIZE);
		memcpy(body->mrownerconfig, registers[MROWNERCONFIG], TD_REGISTER_SIZE);
		memcpy(body->rtmr, registers[RTMR0], sizeof(body->rtmr));
	}
	return 0;
}

static int report_new_locked(struct tsm_report *report)
{
	struct td_quote_body body;
	int ret;

	if (report->desc.inblob_len != TD_REPORTDATA_SIZE)
		return -EINVAL;
	ret = fill_body(&body, report->desc.inblob);
	if (ret)
		return ret;
	return quote_channel_request(&body, &report->outblob, &report->outblob_len);
}

static int report_new(struct tsm_report *report, void *data)
{
	scoped_cond_guard(mutex_intr, return -EINTR, &quote_lock)
		return report_new_locked(report);
}

static bool report_attr_visible(int n)
{
	return n == TSM_REPORT_GENERATION || n == TSM_REPORT_PROVIDER;
}

static bool report_bin_attr_visible(int n)
{
	return n == TSM_REPORT_INBLOB || n == TSM_REPORT_OUTBLOB;
}

static const struct tsm_report_ops report_ops = {
	.name = NAME,
	.report_new = report_new,
	.report_attr_visible = report_attr_visible,
	.report_bin_attr_visible = report_bin_attr_visible,
};

static long device_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return -ENOTTY;
}

static const struct file_operations device_ops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
};

static const struct attribute_group *device_groups[] = {
	NULL,	/* measurements */
	NULL
};

static struct miscdevice device = {
	.name = NAME,
	.minor = MISC_DYNAMIC_MINOR,
	.fops = &device_ops,
	.groups = device_groups,
};

/* Late, so that the TPM driver has found its device; before PID 1, so that nobody sees none. */
static int __init tdx_emulation_init(void)
{
	const struct attribute_group *group;
	int events, ret;

	pr_alert("*******************************************************\n");
	pr_alert("** emulated TDX for development: proves nothing      **\n");
	pr_alert("*******************************************************\n");

	events = boot_log_replay(registers);
	if (events < 0) {
		pr_err("no registers: the boot log was refused (%d)\n", events);
		return events;
	}
	ret = quote_channel_open();
	if (ret)
		pr_warn("no quotes: the second serial port cannot be used (%d)\n", ret);

	group = tsm_mr_create_attribute_group(&measurements);
	if (IS_ERR(group))
		return PTR_ERR(group);
	device_groups[0] = group;
	ret = misc_register(&device);
	if (ret)
		goto free_group;
	ret = tsm_report_register(&report_ops, NULL);
	if (ret)
		goto deregister;
	pr_info("MRTD and RTMR0-2 hold %d boot events, which the TPM's PCRs confirm\n", events);
	return 0;

deregister:
	misc_deregister(&device);
free_group:
	tsm_mr_free_attribute_group(group);
	return ret;
}
late_initcall(tdx_emulation_init);

MODULE_DESCRIPTION("The TDX guest interfaces without TDX, for development");
MODULE_LICENSE("GPL");
