// SPDX-License-Identifier: Apache-2.0
/*
 * What PID 1 needs to give each service a place of its own: namespaces, identity-mapped mounts, pipes, a child that is
 * born in its control group, and rtnetlink and nf_tables messages in a network namespace.
 */
#include "arguments.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_WORDS 1024
/* How long the kernel may take to answer a netlink message. */
#define NETLINK_MS 5000
#define NETLINK_BYTES 65536

static napi_value integer(napi_env env, int32_t value)
{
	napi_value result = NULL;

	napi_create_int32(env, value, &result);
	return result;
}

static napi_value do_pipe(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS], result;
	int ends[2];

	if (!arguments(env, info, 0, v))
		return NULL;
	if (pipe2(ends, O_CLOEXEC))
		return fail_errno(env, "pipe2");
	napi_create_array_with_length(env, 2, &result);
	napi_set_element(env, result, 0, integer(env, ends[0]));
	napi_set_element(env, result, 1, integer(env, ends[1]));
	return result;
}

/*
 * What a user namespace may use of these in all is what its maker might when it was made, and is counted for the maker's
 * user, so for all services together (inc_rlimit_ucounts, kernel/ucount.c): none, so that each has its own limit alone.
 */
static const int summed[] = { RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_MEMLOCK };
#define SUMMED (sizeof(summed) / sizeof(summed[0]))

static bool set_summed(const struct rlimit *limits)
{
	for (size_t i = 0; i < SUMMED; i++) {
		if (setrlimit(summed[i], &limits[i]))
			return false;
	}
	return true;
}

/*
 * A process in a new user and network namespace that waits to be killed: its namespaces are opened through /proc and
 * outlive it. The network namespace belongs to the user namespace.
 */
static napi_value do_unshared(napi_env env, napi_callback_info info)
{
	struct clone_args args = { .flags = CLONE_NEWUSER | CLONE_NEWNET, .exit_signal = SIGCHLD };
	struct rlimit own[SUMMED], none[SUMMED];
	napi_value v[MAX_ARGUMENTS];
	int saved;
	long pid;

	if (!arguments(env, info, 0, v))
		return NULL;
	for (size_t i = 0; i < SUMMED; i++) {
		none[i] = (struct rlimit){ RLIM_INFINITY, RLIM_INFINITY };
		if (getrlimit(summed[i], &own[i]))
			return fail_errno(env, "getrlimit");
	}
	if (!set_summed(none))
		return fail_errno(env, "setrlimit");
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0) {
		/* Nothing of PID 1's memory is kept busy, and nothing is left when PID 1 is gone. */
		for (;;)
			pause();
	}
	saved = errno;
	if (!set_summed(own))
		return fail_errno(env, "setrlimit");
	errno = saved;
	return pid < 0 ? fail_errno(env, "clone3") : integer(env, (int32_t)pid);
}

/* A copy of the mount tree at `source`, at `target`, with the ids of a user namespace. */
static napi_value do_mount_mapped(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];
	char source[PATH_BYTES], target[PATH_BYTES];
	double namespace;
	struct mount_attr attributes = { .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };
	int tree, saved;

	if (!arguments(env, info, 3, v) || !text(env, v[0], source, sizeof(source)) ||
	    !text(env, v[1], target, sizeof(target)) || !number(env, v[2], 0, INT32_MAX, &namespace))
		return NULL;
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return fail_errno(env, "open_tree");
	attributes.userns_fd = (uint64_t)namespace;
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) ||
	    syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)) {
		saved = errno;
		close(tree);
		errno = saved;
		return fail_errno(env, "mount_setattr, move_mount");
	}
	close(tree);
	return NULL;
}

static napi_value do_unmount(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];
	char target[PATH_BYTES];

	if (!arguments(env, info, 1, v) || !text(env, v[0], target, sizeof(target)))
		return NULL;
	return umount2(target, MNT_DETACH) ? fail_errno(env, "umount2") : NULL;
}

static void free_words(char **words)
{
	for (size_t i = 0; words && words[i]; i++)
		free(words[i]);
	free(words);
}

/* An array of strings as execve(2) takes it; NULL, with an exception pending, when it is none. */
static char **words_of(napi_env env, napi_value array)
{
	uint32_t count;
	char **words;

	if (napi_get_array_length(env, array, &count) != napi_ok || count > MAX_WORDS ||
	    !(words = calloc(count + 1, sizeof(*words)))) {
		fail(env, "EINVAL", "not an array of strings, or too many");
		return NULL;
	}
	for (uint32_t i = 0; i < count; i++) {
		napi_value value;
		size_t length;

		if (napi_get_element(env, array, i, &value) == napi_ok &&
		    napi_get_value_string_utf8(env, value, NULL, 0, &length) == napi_ok &&
		    (words[i] = malloc(length + 1)) && text(env, value, words[i], length + 1))
			continue;
		free_words(words);
		fail(env, "EINVAL", "not a string");
		return NULL;
	}
	return words;
}

/* In the child: nothing but system calls. */
static void become(char **words, char **environment, const int *streams)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	/* PID 1 may have raised its own priority. */
	setpriority(PRIO_PROCESS, 0, 0);
	for (int i = 0; i < 3; i++) {
		if (dup2(streams[i], i) < 0)
			_exit(127);
	}
	execve(words[0], words, environment);
	_exit(127);
}

/*
 * Starts a program in a control group: arguments (the first is its path), environment, the descriptors that become its
 * standard streams (each above 2), and a descriptor of the group's directory. Its process id; `reap` takes its status.
 */
static napi_value do_spawn(napi_env env, napi_callback_info info)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD };
	napi_value v[MAX_ARGUMENTS], result = NULL;
	char **words, **environment = NULL;
	double group, stream;
	int streams[3];
	long pid;

	if (!arguments(env, info, 4, v) || !number(env, v[3], 3, INT32_MAX, &group))
		return NULL;
	for (uint32_t i = 0; i < 3; i++) {
		napi_value value;

		if (napi_get_element(env, v[2], i, &value) != napi_ok)
			return fail(env, "EINVAL", "not three descriptors");
		if (!number(env, value, 3, INT32_MAX, &stream))
			return NULL;
		streams[i] = (int)stream;
	}
	words = words_of(env, v[0]);
	if (!words)
		return NULL;
	environment = words_of(env, v[1]);
	if (environment) {
		args.cgroup = (uint64_t)group;
		pid = words[0] ? syscall(SYS_clone3, &args, sizeof(args)) : (errno = EINVAL, -1);
		if (pid == 0)
			become(words, environment, streams);
		result = pid < 0 ? fail_errno(env, "clone3") : integer(env, (int32_t)pid);
	}
	free_words(words);
	free_words(environment);
	return result;
}

/* Reads answers until `wanted` messages were acknowledged. Returns 0, or an errno that the kernel answered with. */
static int acknowledged(int socket, uint32_t wanted)
{
	static _Alignas(struct nlmsghdr) char buffer[NETLINK_BYTES];

	while (wanted > 0) {
		struct pollfd ready = { .fd = socket, .events = POLLIN };
		struct nlmsghdr *message = (struct nlmsghdr *)buffer;
		ssize_t size;

		if (poll(&ready, 1, NETLINK_MS) <= 0)
			return ETIMEDOUT;
		size = recv(socket, buffer, sizeof(buffer), 0);
		if (size < 0)
			return errno;
		for (int left = (int)size; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
			struct nlmsgerr *answer = NLMSG_DATA(message);

			if (message->nlmsg_type != NLMSG_ERROR || message->nlmsg_len < NLMSG_LENGTH(sizeof(*answer)))
				continue;
			if (answer->error)
				return -answer->error;
			if (wanted > 0)
				wanted--;
		}
	}
	return 0;
}

/*
 * Sends netlink messages of a protocol in the network namespace that a descriptor names (0: this one), and waits until
 * as many as said are acknowledged. The thread is back in its own namespace before this returns; if it cannot get
 * back, the process ends, because everything after would happen in a service's network.
 */
static napi_value do_netlink(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];
	double protocol, namespace, wanted;
	int own = -1, descriptor, fault = 0;
	void *data;
	size_t size;

	if (!arguments(env, info, 4, v) || !number(env, v[0], 0, 31, &protocol) ||
	    !number(env, v[1], 0, INT32_MAX, &namespace) || !number(env, v[3], 1, 4096, &wanted))
		return NULL;
	if (napi_get_buffer_info(env, v[2], &data, &size) != napi_ok)
		return fail(env, "EINVAL", "not a buffer");
	if (namespace > 0) {
		own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
		if (own < 0)
			return fail_errno(env, "open");
		if (setns((int)namespace, CLONE_NEWNET)) {
			fault = errno;
			close(own);
			errno = fault;
			return fail_errno(env, "setns");
		}
	}
	descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)protocol);
	if (descriptor < 0)
		fault = errno;
	if (own >= 0) {
		if (setns(own, CLONE_NEWNET))
			abort();
		close(own);
	}
	if (descriptor >= 0) {
		if (send(descriptor, data, size, 0) != (ssize_t)size)
			fault = errno;
		else
			fault = acknowledged(descriptor, (uint32_t)wanted);
		close(descriptor);
	}
	errno = fault;
	return fault ? fail_errno(env, "netlink") : NULL;
}

const struct addon_function container_functions[] = {
	{ "pipe", do_pipe },
	{ "unshared", do_unshared },
	{ "mountMapped", do_mount_mapped },
	{ "unmount", do_unmount },
	{ "spawn", do_spawn },
	{ "netlink", do_netlink },
	{ NULL, NULL },
};
