// SPDX-License-Identifier: Apache-2.0
/* What kernel/driver/quote-channel.c takes from the kernel: ports, a clock that moves when it sleeps, signals, memory. */
#include "driver-kernel.h"
#include <stdlib.h>

#define HZ 100
#define GFP_KERNEL 0
#define current NULL

extern unsigned long jiffies;
#define time_after(a, b) ((long)((b) - (a)) < 0)
#define usleep_range(least, most) (jiffies++)

u8 inb(int port);
void outb(u8 value, int port);
bool request_region(int port, int count, const char *name);
#define release_region(port, count)
bool signal_pending(const void *task);
#define kmalloc(size, flags) malloc(size)
static inline void *kvmemdup(const void *from, size_t size, int flags)
{
	void *copy = malloc(size + flags);

	return copy ? memcpy(copy, from, size) : NULL;
}

/* include/uapi/linux/serial_reg.h */
enum { UART_RX = 0, UART_TX = 0, UART_DLL = 0, UART_IER = 1, UART_DLM = 1, UART_FCR = 2, UART_LCR = 3, UART_MCR = 4, UART_LSR = 5, UART_SCR = 7 };
enum { UART_LSR_DR = 0x01, UART_LSR_THRE = 0x20, UART_LCR_WLEN8 = 0x03, UART_LCR_DLAB = 0x80, UART_MCR_DTR = 1, UART_MCR_RTS = 2 };
enum { UART_FCR_ENABLE_FIFO = 1, UART_FCR_CLEAR_RCVR = 2, UART_FCR_CLEAR_XMIT = 4, UART_FCR_TRIGGER_14 = 0xc0 };
