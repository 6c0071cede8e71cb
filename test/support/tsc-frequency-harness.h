// SPDX-License-Identifier: Apache-2.0
/* What kernel/driver/tsc-frequency.c takes from the kernel: two clocks, a timer's port, PCI's configuration space. */
#include "driver-kernel.h"

typedef uint64_t u64;

#define __init
#define pr_info(format, ...) fprintf(stderr, format, ##__VA_ARGS__)

/* include/linux/acpi_pmtmr.h, pci_ids.h */
#define PMTMR_TICKS_PER_SEC 3579545
#define ACPI_PM_MASK 0xffffff
#define PCI_VENDOR_ID_INTEL 0x8086
#define PCI_DEVICE_ID_INTEL_ICH9_8 0x2918

u64 rdtsc_ordered(void);
u32 inl(int port);
unsigned long native_calibrate_tsc(void);
u32 read_pci_config(u8 bus, u8 slot, u8 function, u8 offset);
extern unsigned long interrupts;
#define local_irq_save(flags) ((flags) = interrupts, interrupts = 0)
#define local_irq_restore(flags) (interrupts = (flags))
static inline u64 div64_u64(u64 dividend, u64 divisor) { return dividend / divisor; }

struct x86_platform_ops { unsigned long (*calibrate_tsc)(void); };
extern struct x86_platform_ops x86_platform;

#define early_param(name, function) \
	const char early_param_name[] = name; \
	int (*early_param_function)(char *) = function
extern const char early_param_name[];
extern int (*early_param_function)(char *);
