// SPDX-License-Identifier: Apache-2.0
/*
 * PID 1 of the kernel tests: does the steps of /steps, one a line, prints `step: answer`, and powers off.
 *
 *   stat PATH                    mode (octal, permission bits) and size
 *   list PATH                    names, sorted
 *   read PATH [OFFSET [LENGTH]]  the bytes as hex, with one read(2)
 *   all PATH                     the whole file as hex
 *   write PATH OFFSET LENGTH N   writes LENGTH bytes of value N with one pwrite(2) (write(2) at offset 0): the count
 *   ioctl PATH NUMBER            the result
 *   mkdir PATH, rmdir PATH       0
 *
 * A failing call answers with the name of its errno. The last line is `probe: end`: without it the answers are not whole.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static unsigned char buffer[1 << 16];

static void print_hex(const unsigned char *bytes, ssize_t count)
{
	for (ssize_t i = 0; i < count; i++)
		printf("%02x", bytes[i]);
}

static int do_stat(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return -1;
	printf("%o %ld", st.st_mode & 07777, (long)st.st_size);
	return 0;
}

static int do_list(const char *path)
{
	struct dirent **names;
	int count = scandir(path, &names, NULL, alphasort);

	if (count < 0)
		return -1;
	for (int i = 0, shown = 0; i < count; i++)
		if (strcmp(names[i]->d_name, ".") && strcmp(names[i]->d_name, ".."))
			printf("%s%s", shown++ ? " " : "", names[i]->d_name);
	return 0;
}

static int do_read(const char *path, long offset, long length, int whole)
{
	int fd = open(path, O_RDONLY);
	ssize_t count;

	if (fd < 0)
		return -1;
	if (offset > 0 && lseek(fd, offset, SEEK_SET) < 0)
		return -1;
	do {
		count = read(fd, buffer, length);
		if (count < 0)
			return -1;
		print_hex(buffer, count);
	} while (whole && count > 0);
	return close(fd);
}

static int do_write(const char *path, long offset, long length, int value)
{
	int fd = open(path, O_WRONLY);
	ssize_t count;

	if (fd < 0)
		return -1;
	memset(buffer, value, length);
	count = offset ? pwrite(fd, buffer, length, offset) : write(fd, buffer, length);
	if (count < 0)
		return -1;
	printf("%zd", count);
	return close(fd);
}

static int do_ioctl(const char *path, unsigned long number)
{
	int fd = open(path, O_RDWR);
	int result;

	if (fd < 0)
		return -1;
	result = ioctl(fd, number, buffer);
	if (result < 0)
		return -1;
	printf("%d", result);
	return close(fd);
}

static int do_step(char *const word[], int words)
{
	long number[3] = { 0, sizeof(buffer), 0 };

	for (int i = 2; i < words && i < 5; i++)
		number[i - 2] = strtol(word[i], NULL, 0);
	if (number[1] > (long)sizeof(buffer))
		return errno = ERANGE, -1;
	if (!strcmp(word[0], "stat"))
		return do_stat(word[1]);
	if (!strcmp(word[0], "list"))
		return do_list(word[1]);
	if (!strcmp(word[0], "read"))
		return do_read(word[1], number[0], number[1], 0);
	if (!strcmp(word[0], "all"))
		return do_read(word[1], 0, sizeof(buffer), 1);
	if (!strcmp(word[0], "write"))
		return do_write(word[1], number[0], number[1], number[2]);
	if (!strcmp(word[0], "ioctl"))
		return do_ioctl(word[1], number[0]);
	if (!strcmp(word[0], "mkdir"))
		return mkdir(word[1], 0755);
	if (!strcmp(word[0], "rmdir"))
		return rmdir(word[1]);
	return errno = EINVAL, -1;
}

int main(void)
{
	char line[512], copy[512], *word[8];
	FILE *steps;

	/* SYSLOG_ACTION_CONSOLE_LEVEL: from here on the console is ours, so that answers stay whole. */
	klogctl(8, NULL, 1);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("configfs", "/sys/kernel/config", "configfs", 0, NULL);
	mount("securityfs", "/sys/kernel/security", "securityfs", 0, NULL);
	steps = fopen("/steps", "re");
	while (steps && fgets(line, sizeof(line), steps)) {
		int words = 0;

		line[strcspn(line, "\n")] = 0;
		strcpy(copy, line);
		for (char *at = strtok(copy, " "); at && words < 8; at = strtok(NULL, " "))
			word[words++] = at;
		if (words < 2)
			continue;
		printf("\nprobe: %s: ", line);
		errno = 0;
		if (do_step(word, words) < 0)
			printf("%s", strerrorname_np(errno));
		printf("\n");
		fflush(stdout);
	}
	printf("\nprobe: end\n");
	fflush(stdout);
	/* write(2) returns when the kernel has the bytes; the machine must not go before the serial port has sent them. */
	tcdrain(STDOUT_FILENO);
	reboot(RB_POWER_OFF);
	return 0;
}
