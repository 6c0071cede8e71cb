// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls that Node lacks and PID 1 needs; `src/syscalls.ts` is their interface.
 * Each function checks its argument types, makes one call, and turns errno into an Error with `code`.
 */
#include "arguments.h"

#include <cpuid.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* ADJ_OFFSET_SINGLESHOT takes at most half a second: kernel/time/ntp.c, NTP_SCALE. */
#define MAX_SLEW_MS 500.0
/* The console's 4 KiB buffer takes 0.4 s at 115200 baud; a host that reads no more does not hold up the end. */
#define DRAIN_MS 2000

static napi_value do_mount(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];
	char source[PATH_BYTES], target[PATH_BYTES], type[64], data[PATH_BYTES];
	double flags;

	if (!arguments(env, info, 5, v) || !text(env, v[0], source, sizeof(source)) ||
	    !text(env, v[1], target, sizeof(target)) || !text(env, v[2], type, sizeof(type)) ||
	    !number(env, v[3], 0, UINT32_MAX, &flags) || !text(env, v[4], data, sizeof(data)))
		return NULL;
	return mount(source, target, type, (unsigned long)flags, data) ? fail_errno(env, "mount") : NULL;
}

static napi_value do_clock_settime(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];
	struct timespec now;
	double ms;

	if (!arguments(env, info, 1, v) || !number(env, v[0], 0, 1e14, &ms))
		return NULL;
	now.tv_sec = (time_t)(ms / 1000);
	now.tv_nsec = (long)(fmod(ms, 1000) * 1e6);
	return clock_settime(CLOCK_REALTIME, &now) ? fail_errno(env, "clock_settime") : NULL;
}

static napi_value do_adjtime(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];
	struct timex change = { .modes = ADJ_OFFSET_SINGLESHOT };
	double ms;

	if (!arguments(env, info, 1, v) || !number(env, v[0], -MAX_SLEW_MS, MAX_SLEW_MS, &ms))
		return NULL;
	change.offset = (long)(ms * 1000);
	return adjtimex(&change) < 0 ? fail_errno(env, "adjtimex") : NULL;
}

/*
 * The terminal answers to nobody: no XOFF that stops our output, no echo, no signal, no modem line, and the receiver
 * off. Turning IXON off also starts an output again that was stopped before (n_tty_set_termios).
 */
static napi_value do_deafen(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];
	struct termios mode;
	double file;

	if (!arguments(env, info, 1, v) || !number(env, v[0], 0, INT32_MAX, &file))
		return NULL;
	if (tcgetattr((int)file, &mode))
		return fail_errno(env, "tcgetattr");
	mode.c_iflag = IGNBRK | IGNPAR;
	mode.c_lflag = 0;
	mode.c_cflag = (mode.c_cflag & ~(tcflag_t)(CREAD | CRTSCTS | HUPCL)) | CLOCAL;
	return tcsetattr((int)file, TCSANOW, &mode) ? fail_errno(env, "tcsetattr") : NULL;
}

/*
 * What PID 1 wrote last, usually why it stops, is in the kernel's buffer and is lost if power goes before the serial
 * port has sent it. An output that is not a serial port (ENOTTY) has nothing to wait for.
 */
static void drain_console(void)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	unsigned int state;

	for (int ms = 0; ms < DRAIN_MS; ms++) {
		if (ioctl(STDOUT_FILENO, TIOCSERGETLSR, &state) || (state & TIOCSER_TEMT))
			return;
		nanosleep(&pause, NULL);
	}
}

static napi_value do_power_off(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];

	if (!arguments(env, info, 0, v))
		return NULL;
	drain_console();
	return reboot(RB_POWER_OFF) ? fail_errno(env, "reboot") : NULL;
}

/* Intel SDM volume 1, 7.3.17: RDRAND and RDSEED set the carry flag on success; RDRAND is to be retried 10 times. */
static bool hardware_random(bool seed, unsigned long long *value)
{
	unsigned char ok = 0;

	for (int i = 0; i < (seed ? 1000 : 10) && !ok; i++) {
		if (seed)
			__asm__ volatile("rdseed %0; setc %1" : "=r"(*value), "=qm"(ok) : : "cc");
		else
			__asm__ volatile("rdrand %0; setc %1" : "=r"(*value), "=qm"(ok) : : "cc");
	}
	return ok;
}

static napi_value do_cpu_random(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS], result = NULL;
	unsigned int a, b = 0, c = 0, d;
	unsigned long long value;
	char name[16];
	bool seed;

	if (!arguments(env, info, 1, v) || !text(env, v[0], name, sizeof(name)))
		return NULL;
	seed = strcmp(name, "rdseed") == 0;
	if (!seed && strcmp(name, "rdrand") != 0)
		return fail(env, "EINVAL", "rdrand or rdseed");
	if (seed ? !(__get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_RDSEED))
		 : !(__get_cpuid(1, &a, &b, &c, &d) && (c & bit_RDRND)))
		return NULL;
	if (hardware_random(seed, &value))
		napi_create_bigint_uint64(env, value, &result);
	return result;
}

static napi_value do_reap(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS], result = NULL;
	double pid;
	int status;
	pid_t got;

	if (!arguments(env, info, 1, v) || !number(env, v[0], 2, INT32_MAX, &pid))
		return NULL;
	got = waitpid((pid_t)pid, &status, WNOHANG);
	if (got < 0)
		return fail_errno(env, "waitpid");
	if (got > 0)
		napi_create_int32(env, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), &result);
	return result;
}

/* Of the calling thread, although the name of the constant says process (setpriority(2), BUGS). */
static napi_value do_come_first(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];

	if (!arguments(env, info, 0, v))
		return NULL;
	return setpriority(PRIO_PROCESS, 0, -20) ? fail_errno(env, "setpriority") : NULL;
}

static napi_value do_forbid_core_dumps(napi_env env, napi_callback_info info)
{
	static const struct rlimit none = { 0, 0 };
	napi_value v[MAX_ARGUMENTS];

	if (!arguments(env, info, 0, v))
		return NULL;
	return setrlimit(RLIMIT_CORE, &none) ? fail_errno(env, "setrlimit") : NULL;
}

/* Linux 6.6. What this process starts may compile: the application is confined otherwise. */
static napi_value do_forbid_new_code(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];

	if (!arguments(env, info, 0, v))
		return NULL;
	return prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN | PR_MDWE_NO_INHERIT, 0, 0, 0) ? fail_errno(env, "prctl") : NULL;
}

static napi_value do_new_code_forbidden(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS], result = NULL;
	int flags;

	if (!arguments(env, info, 0, v))
		return NULL;
	flags = prctl(PR_GET_MDWE, 0, 0, 0, 0);
	if (flags < 0)
		return fail_errno(env, "prctl");
	napi_get_boolean(env, (flags & PR_MDWE_REFUSE_EXEC_GAIN) != 0, &result);
	return result;
}

static bool add(napi_env env, napi_value exports, const struct addon_function *functions)
{
	for (; functions->name; functions++) {
		napi_value function;

		if (napi_create_function(env, functions->name, NAPI_AUTO_LENGTH, functions->call, NULL, &function) ||
		    napi_set_named_property(env, exports, functions->name, function)) {
			napi_throw_error(env, "EINVAL", "the addon could not be set up");
			return false;
		}
	}
	return true;
}

NAPI_MODULE_INIT()
{
	static const struct addon_function functions[] = {
		{ "mount", do_mount },
		{ "clockSettime", do_clock_settime },
		{ "adjtime", do_adjtime },
		{ "powerOff", do_power_off },
		{ "comeFirst", do_come_first },
		{ "cpuRandom", do_cpu_random },
		{ "deafen", do_deafen },
		{ "reap", do_reap },
		{ "forbidCoreDumps", do_forbid_core_dumps },
		{ "forbidNewCode", do_forbid_new_code },
		{ "newCodeForbidden", do_new_code_forbidden },
		{ NULL, NULL },
	};

	return add(env, exports, functions) && add(env, exports, container_functions) &&
			       add(env, exports, volume_functions)
		       ? exports
		       : NULL;
}
