// SPDX-License-Identifier: Apache-2.0
/*
 * Asks the emulation driver for the frequency of a counter that the harness runs. Each line sets one thing:
 *
 *   tsc KHZ                the counter's true frequency
 *   timer TICKS            what the ACPI timer shows at the start
 *   still                  the timer stands still
 *   cpuid KHZ              what the processor says of its counter
 *   bridge ID PMBASE       the LPC bridge's identity and its I/O base, in hex
 *   late FROM TO NS        between the counter and the timer of the readings FROM to TO, so many nanoseconds pass
 *
 * At the end it prints the parameter's name, the answer in kHz, how often the timer was read, and whether interrupts were
 * off while it was and are on again.
 */
#include <stdlib.h>

unsigned long interrupts = 1;
struct x86_platform_ops x86_platform;

static double now; /* in ns */
static double khz = 2592000;
static unsigned long said, readings, from, to, late;
static u32 first, bridge = 0x29188086, pmbase = 0x601;
static bool still, disturbed;

u64 rdtsc_ordered(void)
{
	now += 20;
	return now * khz / 1e6;
}

u32 inl(int port)
{
	disturbed |= interrupts;
	if (++readings > 20000000) {
		puts("it never ends");
		exit(1);
	}
	if (readings >= from && readings <= to)
		now += late;
	now += 700;
	if (port != 0x608)
		return 0xffffffff;
	return first + (still ? 0 : (u32)(now * PMTMR_TICKS_PER_SEC / 1e9)) % (1 << 24);
}

unsigned long native_calibrate_tsc(void)
{
	return said;
}

u32 read_pci_config(u8 bus, u8 slot, u8 function, u8 offset)
{
	if (bus != 0 || slot != 31 || function != 0)
		return 0xffffffff;
	return offset == 0 ? bridge : offset == 0x40 ? pmbase : 0;
}

int main(void)
{
	char word[16];

	while (scanf("%15s", word) == 1) {
		if (!strcmp(word, "tsc"))
			scanf("%lf", &khz);
		else if (!strcmp(word, "timer"))
			scanf("%u", &first);
		else if (!strcmp(word, "still"))
			still = true;
		else if (!strcmp(word, "cpuid"))
			scanf("%lu", &said);
		else if (!strcmp(word, "bridge"))
			scanf("%x %x", &bridge, &pmbase);
		else if (!strcmp(word, "late"))
			scanf("%lu %lu %lu", &from, &to, &late);
	}
	early_param_function(NULL);
	unsigned long answer = x86_platform.calibrate_tsc();
	printf("%s %lu %lu %s\n", early_param_name, answer, readings, disturbed || !interrupts ? "disturbed" : "undisturbed");
	return 0;
}
