// SPDX-License-Identifier: GPL-2.0-only
/*
 * Quotes from a service on the host, over the second serial port (COM2), polled, without a tty.
 *
 * Invariants: one request is in flight at most; an answer that came too late is read and dropped
 * before the next request is sent, as the in-tree driver waits for the shared buffer; an answer that
 * is not one closes the channel for good. No wait is longer than QUOTE_TIMEOUT, no answer longer than
 * MAX_QUOTE.
 *
 * Wire format (docs/emulation.md): "CQRQ" || le32 length || quote body
 *                                  "CQRS" || le32 status || le32 length || quote
 */
#define pr_fmt(fmt) "tdx_emulation: " fmt

#include <linux/delay.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/jiffies.h>
#include <linux/sched/signal.h>
#include <linux/serial_reg.h>
#include <linux/slab.h>
#include <linux/unaligned.h>

#include "emulation.h"

#define COM2			0x2f8
#define COM_PORTS		8
#define QUOTE_TIMEOUT		(30 * HZ)	/* as getquote_timeout of the in-tree driver */
#define MAX_QUOTE		(16 * 1024)
#define HEADER			12

static enum { CLOSED, IDLE, IN_FLIGHT } state = CLOSED;
static u8 *answer;		/* HEADER + MAX_QUOTE bytes */
static size_t received, expected;

/* Not cut off by a signal: half a request would leave the service waiting for the rest. */
static int send(const void *data, size_t len, unsigned long deadline)
{
	const u8 *bytes = data;

	while (len--) {
		while (!(inb(COM2 + UART_LSR) & UART_LSR_THRE)) {
			if (time_after(jiffies, deadline))
				return -ETIMEDOUT;
			usleep_range(50, 200);
		}
		outb(*bytes++, COM2 + UART_TX);
	}
	return 0;
}

/* Continues the answer in flight; 0 once it is complete. After a timeout it can be continued. */
static int receive(unsigned long deadline)
{
	while (received < expected) {
		while (!(inb(COM2 + UART_LSR) & UART_LSR_DR)) {
			if (signal_pending(current))
				return -EINTR;
			if (time_after(jiffies, deadline))
				return -ETIMEDOUT;
			usleep_range(50, 200);
		}
		answer[received++] = inb(COM2 + UART_RX);
		if (received == HEADER) {
			u32 len = get_unaligned_le32(answer + 8);

			if (memcmp(answer, "CQRS", 4) || len > MAX_QUOTE) {
				pr_err("malformed answer of the quoting service; no more quotes\n");
				state = CLOSED;
				return len > MAX_QUOTE ? -EFBIG : -EIO;
			}
			expected = HEADER + len;
		}
	}
	state = IDLE;
	return 0;
}

/**
 * quote_channel_open() - claim the serial port
 *
 * Return: 0, -ENODEV if there is no second serial port, -EBUSY if somebody else has it, -ENOMEM.
 */
int quote_channel_open(void)
{
	if (!request_region(COM2, COM_PORTS, "tdx_emulation"))
		return -EBUSY;
	outb(0x5a, COM2 + UART_SCR);
	if (inb(COM2 + UART_SCR) != 0x5a) {
		release_region(COM2, COM_PORTS);
		return -ENODEV;
	}
	answer = kmalloc(HEADER + MAX_QUOTE, GFP_KERNEL);
	if (!answer) {
		release_region(COM2, COM_PORTS);
		return -ENOMEM;
	}
	outb(0, COM2 + UART_IER);
	outb(UART_LCR_DLAB, COM2 + UART_LCR);
	outb(1, COM2 + UART_DLL);	/* 115200 baud, which only a real port would mind */
	outb(0, COM2 + UART_DLM);
	outb(UART_LCR_WLEN8, COM2 + UART_LCR);
	/* QEMU puts as many bytes at a time into the queue as this level says (hw/char/serial.c, serial_can_receive). */
	outb(UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT | UART_FCR_TRIGGER_14,
	     COM2 + UART_FCR);
	outb(UART_MCR_DTR | UART_MCR_RTS, COM2 + UART_MCR);
	state = IDLE;
	return 0;
}

/**
 * quote_channel_request() - have one quote signed
 *
 * Return: 0, -EBUSY while an earlier request is unanswered, -EINTR, -ETIMEDOUT, -EFBIG for an answer
 * of more than MAX_QUOTE bytes, -ENOMEM, -EIO if the service refused, answered nonsense or does not
 * exist.
 */
int quote_channel_request(const struct td_quote_body *body, u8 **quote, size_t *quote_len)
{
	unsigned long deadline = jiffies + QUOTE_TIMEOUT;
	u8 header[8] = "CQRQ";
	int ret;

	if (state == IN_FLIGHT) {
		ret = receive(jiffies + HZ / 10);
		if (ret)
			return ret == -ETIMEDOUT ? -EBUSY : ret;
	}
	if (state == CLOSED)
		return -EIO;

	received = 0;
	expected = HEADER;
	put_unaligned_le32(sizeof(*body), header + 4);
	ret = send(header, sizeof(header), deadline);
	if (!ret)
		ret = send(body, sizeof(*body), deadline);
	if (ret) {
		pr_err("a quote request was cut off (%d); no more quotes\n", ret);
		state = CLOSED;
		return ret;
	}
	state = IN_FLIGHT;
	ret = receive(deadline);
	if (ret)
		return ret;
	if (get_unaligned_le32(answer + 4) != 0 || expected == HEADER)
		return -EIO;

	*quote_len = expected - HEADER;
	*quote = kvmemdup(answer + HEADER, *quote_len, GFP_KERNEL);
	return *quote ? 0 : -ENOMEM;
}
