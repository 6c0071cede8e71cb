// SPDX-License-Identifier: Apache-2.0
/*
 * Starts the emulation driver in a kernel of stubs, and plays user space. Each line is one step, and prints one line:
 *
 *   fails WHAT RESULT    `log`, `channel`, `group`, `misc` or `report` returns this when the driver starts
 *   interrupt LOCKS      so many locks are granted before a signal comes; -1: it never does
 *   init                 the result, and what is registered then
 *   registers            name, size and flags of each
 *   extend NAME BYTE     48 of them into a register
 *   quote SIZE BYTE      a report over so many of them: the result, and the body that the service was asked to sign
 *   visible              which attributes of a report are there
 *   ioctl                the result of one
 *
 * Registers begin as 48 times their place in the enumeration, from 1 on.
 */
#include <openssl/sha.h>
#include <stdlib.h>
#include "emulation.h"

static int log_result = 7, channel_result, group_result, misc_result, report_result, locks_left = -1;
static int held;
static const struct tsm_measurements *registers;
static struct miscdevice *device;
static const struct tsm_report_ops *ops;
static struct td_quote_body asked;

struct guard guard_enter(struct mutex *lock)
{
	if (locks_left == 0 || lock->held)
		return (struct guard){ NULL, false };
	if (locks_left > 0)
		locks_left--;
	lock->held = true;
	held++;
	return (struct guard){ lock, false };
}

void guard_leave(struct guard *guard)
{
	if (!guard->lock)
		return;
	guard->lock->held = false;
	held--;
}

int boot_log_replay(u8 values[TD_REGISTERS][TD_REGISTER_SIZE])
{
	for (int i = 0; i < TD_REGISTERS; i++)
		memset(values[i], i + 1, TD_REGISTER_SIZE);
	return log_result;
}

void td_extend(u8 value[TD_REGISTER_SIZE], const u8 data[TD_REGISTER_SIZE])
{
	SHA512_CTX hash;

	if (held != 1)
		puts("extended without a lock");
	SHA384_Init(&hash);
	SHA384_Update(&hash, value, TD_REGISTER_SIZE);
	SHA384_Update(&hash, data, TD_REGISTER_SIZE);
	SHA384_Final(value, &hash);
}

int quote_channel_open(void) { return channel_result; }

int quote_channel_request(const struct td_quote_body *body, u8 **quote, size_t *length)
{
	if (held != 1)
		puts("asked without a lock, or with that of the registers");
	asked = *body;
	*quote = NULL;
	*length = 0;
	return channel_result;
}

const struct attribute_group *tsm_mr_create_attribute_group(const struct tsm_measurements *measurements)
{
	registers = group_result ? NULL : measurements;
	return (void *)(group_result ? (intptr_t)group_result : (intptr_t)measurements);
}

void tsm_mr_free_attribute_group(const struct attribute_group *group)
{
	registers = group == (void *)registers ? NULL : registers;
}

int misc_register(struct miscdevice *one)
{
	if (!misc_result)
		device = one->groups[0] == (void *)registers ? one : NULL;
	return misc_result;
}

void misc_deregister(struct miscdevice *one) { device = one == device ? NULL : device; }

int tsm_report_register(const struct tsm_report_ops *one, void *data)
{
	if (!report_result && !data)
		ops = one;
	return report_result;
}

static void print(const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		printf("%02x", ((const u8 *)bytes)[i]);
	puts("");
}

static void extend(void)
{
	u8 data[TD_REGISTER_SIZE];
	char name[16];
	unsigned byte;

	scanf("%15s %x", name, &byte);
	memset(data, byte, sizeof(data));
	for (size_t i = 0; i < registers->nr_mrs; i++)
		if (!strcmp(registers->mrs[i].mr_name, name))
			printf("%d ", registers->write(registers, &registers->mrs[i], data));
	for (size_t i = 0; i < registers->nr_mrs; i++)
		if (!strcmp(registers->mrs[i].mr_name, name))
			print(registers->mrs[i].mr_value, registers->mrs[i].mr_size);
}

static void quote(void)
{
	struct tsm_report report = { 0 };
	unsigned byte;

	scanf("%zu %x", &report.desc.inblob_len, &byte);
	memset(report.desc.inblob, byte, sizeof(report.desc.inblob));
	memset(&asked, 0, sizeof(asked));
	printf("%d %d ", ops->report_new(&report, NULL), held);
	print(&asked, sizeof(asked));
}

int main(void)
{
	char word[16];
	int result;

	while (scanf("%15s", word) == 1) {
		if (!strcmp(word, "fails")) {
			scanf("%15s %d", word, &result);
			*(!strcmp(word, "log") ? &log_result : !strcmp(word, "channel") ? &channel_result : !strcmp(word, "group") ? &group_result :
			  !strcmp(word, "misc") ? &misc_result : &report_result) = result;
		} else if (!strcmp(word, "interrupt")) {
			scanf("%d", &locks_left);
		} else if (!strcmp(word, "init")) {
			result = emulation_init();
			printf("%d%s%s%s\n", result, registers ? " registers" : "", device ? " device" : "", ops ? " reports" : "");
		} else if (!strcmp(word, "registers")) {
			for (size_t i = 0; i < registers->nr_mrs; i++)
				printf("%s,%u,%u ", registers->mrs[i].mr_name, registers->mrs[i].mr_size, registers->mrs[i].mr_flags);
			puts(registers->refresh(registers) ? "not refreshed" : "refreshed");
		} else if (!strcmp(word, "extend")) {
			extend();
		} else if (!strcmp(word, "quote")) {
			quote();
		} else if (!strcmp(word, "visible")) {
			for (int i = 0; i < TSM_REPORT_ATTRS; i++)
				printf("%d", ops->report_attr_visible(i));
			printf(" ");
			for (int i = 0; i < TSM_REPORT_BIN_ATTRS; i++)
				printf("%d", ops->report_bin_attr_visible(i));
			printf(" %s %s\n", ops->name, device->name);
		} else if (!strcmp(word, "ioctl")) {
			printf("%ld\n", device->fops->unlocked_ioctl(NULL, 0xc4405401, 0));
		}
	}
	return 0;
}
