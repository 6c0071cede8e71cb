// SPDX-License-Identifier: GPL-2.0-only
/*
 * The frequency of the time-stamp counter on a machine that does not say it.
 *
 * A TD is told by the TDX module (CPUID leaf 15H). An emulated machine has no such leaf, and what the kernel does then
 * (pit_hpet_ptimer_calibrate_cpu in arch/x86/kernel/tsc.c) believes the i8254 wherever it deviates from the ACPI timer:
 * a virtual processor that loses its turn between programming the i8254 and reading the counter gets a frequency that is
 * too low by any factor, and a clock that runs away. Here the ACPI timer alone is the reference. Each of its readings
 * lies between two of the counter, which bounds its error; what is not exact to a thousandth is measured again.
 * The kernel refines the result for a second after boot, as it always does.
 */
#define pr_fmt(fmt) "tdx_emulation: " fmt

#include <linux/acpi_pmtmr.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/math64.h>
#include <linux/pci_ids.h>
#include <asm/pci-direct.h>
#include <asm/tsc.h>
#include <asm/x86_init.h>

/* Intel ICH9 data sheet, 13.1 and 13.8.3: the LPC bridge, its I/O base for power management, the timer behind it. */
#define LPC_SLOT	31
#define LPC_ID		(PCI_VENDOR_ID_INTEL | PCI_DEVICE_ID_INTEL_ICH9_8 << 16)
#define LPC_PMBASE	0x40
#define LPC_PMBASE_MASK	0xff80
#define PM_TMR		0x08

#define WINDOW		(PMTMR_TICKS_PER_SEC / 50)	/* 20 ms */
#define SPAN_LIMIT	(1ULL << 34)			/* some seconds, and no overflow below */
#define ATTEMPTS	50
#define PRECISION	1000

struct reading {
	u32 ticks;
	u64 cycles;
	u64 uncertainty;
};

static void read_both(u16 port, struct reading *reading)
{
	u64 before = rdtsc_ordered();

	reading->ticks = inl(port) & ACPI_PM_MASK;
	reading->cycles = rdtsc_ordered();
	reading->uncertainty = reading->cycles - before;
}

/* In kHz; 0 when the timer stands still or no window was exact enough: then the kernel calibrates as ever. */
static unsigned long measure(u16 port)
{
	struct reading start, end;
	u64 span, ticks;
	int attempt;

	for (attempt = 0; attempt < ATTEMPTS; attempt++) {
		read_both(port, &start);
		do {
			read_both(port, &end);
			ticks = (end.ticks - start.ticks) & ACPI_PM_MASK;
			span = end.cycles - start.cycles;
			if (span > SPAN_LIMIT)
				return 0;
		} while (ticks < WINDOW);
		if ((start.uncertainty + end.uncertainty) * PRECISION > span)
			continue;
		return div64_u64(span * PMTMR_TICKS_PER_SEC, ticks * 1000);
	}
	return 0;
}

static unsigned long tsc_khz_by_acpi_timer(void)
{
	unsigned long flags, khz = native_calibrate_tsc();
	u16 base;

	if (khz)
		return khz;
	if (read_pci_config(0, LPC_SLOT, 0, 0) != LPC_ID)
		return 0;
	base = read_pci_config(0, LPC_SLOT, 0, LPC_PMBASE) & LPC_PMBASE_MASK;
	local_irq_save(flags);
	khz = measure(base + PM_TMR);
	local_irq_restore(flags);
	pr_info("the ACPI timer says that the TSC has %lu kHz\n", khz);
	return khz;
}

/* Every image names its flavour, and parameters are parsed just before the kernel asks for the frequency. */
static int __init use_acpi_timer(char *flavour)
{
	x86_platform.calibrate_tsc = tsc_khz_by_acpi_timer;
	return 0;
}
early_param("caisson.flavour", use_acpi_timer);
