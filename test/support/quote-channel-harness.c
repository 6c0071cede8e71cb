// SPDX-License-Identifier: Apache-2.0
/*
 * Drives the emulation driver's quote channel against a serial port whose other end follows a script, one line each:
 *
 *   open                 claims the port
 *   port absent|taken    what `open` finds
 *   answer DELAY HEX     what the host sends DELAY ticks (of 10 ms) after it has received the next request
 *   request              asks for a quote
 *   signal on|off        whether a signal is pending
 *   stuck on|off         whether the transmitter never becomes empty
 *
 * `open` and `request` print the result, the quote's length, and how many ticks it took; at the end comes the number of
 * whole requests that the host received.
 */
#include "emulation.h"

#define COM2 0x2f8
enum { REQUEST = 8 + 584, ANSWERS = 8, LONGEST = 20000 };

unsigned long jiffies = -50; /* so that the clock wraps early */
static bool absent, taken, stuck, pending, divisor;
static u8 scratch;

static struct answer {
	unsigned long delay;
	size_t length;
	u8 bytes[LONGEST];
} answers[ANSWERS];
static int scripted, requests;

static u8 request[REQUEST];
static size_t sent;

/* On the line: what has been answered and not been read yet, each byte with the time from which it can be read. */
static struct { unsigned long due; u8 byte; } line[ANSWERS * LONGEST];
static size_t first, last;

/*
 * The queue of the port, which the host fills once a tick, as far as the trigger level that the guest asked for: what
 * the queue of QEMU does while the guest sleeps (hw/char/serial.c, serial_can_receive).
 */
static const size_t levels[] = { 1, 4, 8, 14 };
static size_t level = 1, queued;
static unsigned long filled;

static void host_fills_queue(void)
{
	if (filled == jiffies)
		return;
	filled = jiffies;
	while (queued < level && first + queued < last && !time_after(line[first + queued].due, jiffies))
		queued++;
}

bool request_region(int port, int count, const char *name)
{
	return !taken && port == COM2 && count == 8 && name;
}

bool signal_pending(const void *task)
{
	(void)task;
	return pending;
}

u8 inb(int port)
{
	bool ready;

	host_fills_queue();
	ready = queued > 0;
	if (absent)
		return 0xff;
	switch (port - COM2) {
	case UART_SCR:
		return scratch;
	case UART_LSR:
		return (stuck ? 0 : UART_LSR_THRE) | (ready ? UART_LSR_DR : 0);
	case UART_RX:
		if (!ready)
			abort();
		queued--;
		return line[first++].byte;
	default:
		abort();
	}
}

static void host_receives(u8 byte)
{
	const struct answer *answer = &answers[requests];

	request[sent++] = byte;
	if (sent < REQUEST)
		return;
	sent = 0;
	if (memcmp(request, "CQRQ", 4) || get_unaligned_le32(request + 4) != 584)
		abort();
	if (requests++ >= scripted)
		return;
	for (size_t i = 0; i < answer->length; i++, last++) {
		line[last].due = jiffies + answer->delay;
		line[last].byte = answer->bytes[i];
	}
}

void outb(u8 value, int port)
{
	if (port == COM2 + UART_SCR)
		scratch = value;
	else if (port == COM2 + UART_FCR)
		level = levels[value >> 6];
	else if (port == COM2 + UART_LCR)
		divisor = value & UART_LCR_DLAB;
	else if (port == COM2 + UART_TX && !divisor)
		host_receives(value);
}

static void print_result(int result, size_t length, unsigned long began)
{
	printf("%d %zu %lu\n", result, length, jiffies - began);
}

int main(void)
{
	static char text[2 * LONGEST + 64], word[16], value[2 * LONGEST + 1];
	static struct td_quote_body body;

	while (fgets(text, sizeof(text), stdin)) {
		unsigned long began = jiffies, delay;
		size_t length = 0;
		u8 *quote = NULL;

		if (sscanf(text, "answer %lu %s", &delay, value) == 2) {
			struct answer *answer = &answers[scripted++];

			answer->delay = delay;
			for (; sscanf(value + 2 * answer->length, "%2hhx", &answer->bytes[answer->length]) == 1; answer->length++)
				;
			continue;
		}
		value[0] = 0;
		sscanf(text, "%15s %15s", word, value);
		if (!strcmp(word, "open"))
			print_result(quote_channel_open(), 0, began);
		else if (!strcmp(word, "request")) {
			int result = quote_channel_request(&body, &quote, &length);

			print_result(result, result ? 0 : length, began);
			free(quote);
		} else if (!strcmp(word, "port")) {
			absent = !strcmp(value, "absent");
			taken = !strcmp(value, "taken");
		} else if (!strcmp(word, "signal"))
			pending = !strcmp(value, "on");
		else if (!strcmp(word, "stuck"))
			stuck = !strcmp(value, "on");
		else
			abort();
	}
	printf("%d\n", requests);
	return 0;
}
