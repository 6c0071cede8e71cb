// SPDX-License-Identifier: Apache-2.0
/* What kernel/driver/tdx-emulation.c takes from the kernel: locks that say who holds them, and what it registers with. */
#include "driver-kernel.h"
#include <sys/types.h>

typedef uint64_t u64;

#define __init
#define pr_alert(format, ...) fprintf(stderr, format, ##__VA_ARGS__)
#define pr_info pr_alert
#define pr_warn pr_alert
#define BIT_ULL(bit) (1ULL << (bit))
#define ARRAY_SIZE(array) (sizeof(array) / sizeof(*(array)))
#define cpu_to_le64(value) (value)
#define IS_ERR(pointer) ((intptr_t)(pointer) < 0 && (intptr_t)(pointer) > -4096)
#define PTR_ERR(pointer) ((int)(intptr_t)(pointer))

/* The compiler does not see that a block is entered or left for good. */
#pragma GCC diagnostic ignored "-Wreturn-type"

/* include/linux/cleanup.h, mutex.h: a lock that can be interrupted, held for a block and given back however it is left. */
struct mutex { bool held; };
#define DEFINE_MUTEX(name) struct mutex name
struct guard { struct mutex *lock; bool over; };
struct guard guard_enter(struct mutex *lock);
void guard_leave(struct guard *guard);
#define scoped_cond_guard(kind, fail, mutex) \
	for (struct guard guard __attribute__((cleanup(guard_leave))) = guard_enter(mutex); !guard.over; guard.over = true) \
		if (!guard.lock) { fail; } else

/* include/linux/tsm-mr.h */
struct tsm_measurement_register { const char *mr_name; void *mr_value; u32 mr_size, mr_flags, mr_hash; };
struct tsm_measurements {
	const struct tsm_measurement_register *mrs;
	size_t nr_mrs;
	int (*refresh)(const struct tsm_measurements *);
	int (*write)(const struct tsm_measurements *, const struct tsm_measurement_register *, const u8 *);
};
enum { TSM_MR_F_NOHASH = 1, TSM_MR_F_WRITABLE = 2, TSM_MR_F_READABLE = 4, TSM_MR_F_LIVE = 8 };
#define TSM_MR_F_RTMR (TSM_MR_F_LIVE | TSM_MR_F_WRITABLE)
enum { HASH_ALGO_SHA384 = 5 };
#define TSM_MR_(mr, hash) .mr_name = #mr, .mr_size = hash##_DIGEST_SIZE, .mr_hash = HASH_ALGO_##hash, .mr_flags = TSM_MR_F_READABLE
struct attribute_group;
const struct attribute_group *tsm_mr_create_attribute_group(const struct tsm_measurements *measurements);
void tsm_mr_free_attribute_group(const struct attribute_group *group);

/* include/linux/tsm.h */
enum { TSM_REPORT_GENERATION, TSM_REPORT_PROVIDER, TSM_REPORT_PRIVLEVEL, TSM_REPORT_PRIVLEVEL_FLOOR, TSM_REPORT_SERVICE_PROVIDER, TSM_REPORT_ATTRS };
enum { TSM_REPORT_INBLOB, TSM_REPORT_OUTBLOB, TSM_REPORT_AUXBLOB, TSM_REPORT_MANIFESTBLOB, TSM_REPORT_BIN_ATTRS };
struct tsm_report { struct { size_t inblob_len; u8 inblob[64]; } desc; size_t outblob_len; u8 *outblob; };
struct tsm_report_ops {
	const char *name;
	int (*report_new)(struct tsm_report *, void *);
	bool (*report_attr_visible)(int);
	bool (*report_bin_attr_visible)(int);
};
int tsm_report_register(const struct tsm_report_ops *ops, void *data);

/* include/linux/miscdevice.h, fs.h */
struct file;
struct file_operations { void *owner; long (*unlocked_ioctl)(struct file *, unsigned int, unsigned long); };
struct miscdevice { const char *name; int minor; const struct file_operations *fops; const struct attribute_group **groups; };
int misc_register(struct miscdevice *device);
void misc_deregister(struct miscdevice *device);
enum { MISC_DYNAMIC_MINOR = 255 };
#define THIS_MODULE NULL
#define MODULE_DESCRIPTION(text)
#define MODULE_LICENSE(text) extern int (*emulation_init)(void)

#define late_initcall(function) int (*emulation_init)(void) = function
extern int (*emulation_init)(void);
