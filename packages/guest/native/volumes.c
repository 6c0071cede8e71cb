// SPDX-License-Identifier: Apache-2.0
/*
 * What PID 1 needs for persistent volumes: one dm-crypt mapping a volume, and the few calls by which btrfs says what it
 * has written. The request numbers are fixed here; there is no ioctl with a number of the caller's.
 */
#include "arguments.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CONTROL "/dev/mapper/control"
#define KEY_BYTES 64
#define SECTORS_MOST 9007199254740991.0 /* 2^53 - 1 */

/* The answer fits in the request; the target's line is at most 300 characters. */
struct dm_request {
	struct dm_ioctl head;
	struct dm_target_spec target;
	char line[512];
};

/* Not to be left out by a compiler that sees that nobody reads it. */
static void wipe(void *memory, size_t size)
{
	volatile unsigned char *byte = memory;

	while (size--)
		*byte++ = 0;
}

static void begin(struct dm_request *request, const char *name, uint32_t flags)
{
	memset(request, 0, sizeof(*request));
	request->head.version[0] = DM_VERSION_MAJOR;
	request->head.data_size = sizeof(*request);
	request->head.data_start = offsetof(struct dm_request, target);
	request->head.flags = flags;
	strncpy(request->head.name, name, sizeof(request->head.name) - 1);
}

struct mapping {
	char name[32];
	char device[32];
	unsigned char *key;
	double start, sectors;
};

/* Loads "crypt" over `sectors` of 512 bytes from `start`, with sectors of 4096 bytes and the tweak counted in those. */
static int load(int control, const struct mapping *mapping)
{
	static const char digits[] = "0123456789abcdef";
	struct dm_request request;
	char key[2 * KEY_BYTES + 1];
	int result, saved;

	for (int i = 0; i < KEY_BYTES; i++) {
		key[2 * i] = digits[mapping->key[i] >> 4];
		key[2 * i + 1] = digits[mapping->key[i] & 15];
	}
	key[2 * KEY_BYTES] = 0;
	begin(&request, mapping->name, DM_SECURE_DATA_FLAG);
	request.head.target_count = 1;
	request.target.length = (uint64_t)mapping->sectors;
	strncpy(request.target.target_type, "crypt", sizeof(request.target.target_type) - 1);
	snprintf(request.line, sizeof(request.line), "aes-xts-plain64 %s 0 %s %llu 2 sector_size:4096 iv_large_sectors",
		 key, mapping->device, (unsigned long long)mapping->start);
	result = ioctl(control, DM_TABLE_LOAD, &request);
	saved = errno;
	wipe(&request, sizeof(request));
	wipe(key, sizeof(key));
	errno = saved;
	return result;
}

static int plain(int control, unsigned long call, const char *name, uint32_t flags, uint64_t *device)
{
	struct dm_request request;

	begin(&request, name, flags);
	if (ioctl(control, call, &request))
		return -1;
	if (device)
		*device = request.head.dev;
	return 0;
}

static bool mapping_of(napi_env env, napi_value *v, struct mapping *mapping)
{
	napi_typedarray_type type;
	size_t length;
	void *data;

	if (!text(env, v[0], mapping->name, sizeof(mapping->name)) ||
	    !text(env, v[1], mapping->device, sizeof(mapping->device)) ||
	    !number(env, v[3], 0, SECTORS_MOST, &mapping->start) || !number(env, v[4], 8, SECTORS_MOST, &mapping->sectors))
		return false;
	if (napi_get_typedarray_info(env, v[2], &type, &length, &data, NULL, NULL) != napi_ok || type != napi_uint8_array ||
	    length != KEY_BYTES) {
		fail(env, "EINVAL", "not a key of 64 bytes");
		return false;
	}
	mapping->key = data;
	return true;
}

static napi_value done(napi_env env, int control, int result, const char *call)
{
	int saved = errno;

	close(control);
	errno = saved;
	return result ? fail_errno(env, call) : NULL;
}

static napi_value do_crypt_open(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS], minor_number = NULL;
	struct mapping mapping;
	uint64_t device = 0;
	int control, saved;

	if (!arguments(env, info, 5, v) || !mapping_of(env, v, &mapping))
		return NULL;
	control = open(CONTROL, O_RDWR | O_CLOEXEC);
	if (control < 0)
		return fail_errno(env, CONTROL);
	if (plain(control, DM_DEV_CREATE, mapping.name, 0, &device))
		return done(env, control, -1, "DM_DEV_CREATE");
	if (load(control, &mapping) || plain(control, DM_DEV_SUSPEND, mapping.name, 0, NULL)) {
		saved = errno;
		plain(control, DM_DEV_REMOVE, mapping.name, 0, NULL);
		errno = saved;
		return done(env, control, -1, "DM_TABLE_LOAD, DM_DEV_SUSPEND");
	}
	close(control);
	napi_create_uint32(env, minor(device), &minor_number);
	return minor_number;
}

static napi_value do_crypt_close(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];
	char name[32];
	int control;

	if (!arguments(env, info, 1, v) || !text(env, v[0], name, sizeof(name)))
		return NULL;
	control = open(CONTROL, O_RDWR | O_CLOEXEC);
	if (control < 0)
		return fail_errno(env, CONTROL);
	return done(env, control, plain(control, DM_DEV_REMOVE, name, 0, NULL), "DM_DEV_REMOVE");
}

static void put(napi_env env, napi_value object, const char *name, napi_value value)
{
	napi_set_named_property(env, object, name, value);
}

static napi_value do_btrfs_info(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS], result, value;
	struct btrfs_ioctl_fs_info_args facts = {
		.flags = BTRFS_FS_INFO_FLAG_CSUM_INFO | BTRFS_FS_INFO_FLAG_GENERATION,
	};
	char path[PATH_BYTES];
	int file, failed;
	void *id;

	if (!arguments(env, info, 1, v) || !text(env, v[0], path, sizeof(path)))
		return NULL;
	file = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file < 0)
		return fail_errno(env, "open");
	failed = ioctl(file, BTRFS_IOC_FS_INFO, &facts);
	if (failed)
		return done(env, file, failed, "BTRFS_IOC_FS_INFO");
	close(file);
	napi_create_object(env, &result);
	napi_create_bigint_uint64(env, facts.generation, &value);
	put(env, result, "generation", value);
	napi_create_arraybuffer(env, BTRFS_FSID_SIZE, &id, &value);
	memcpy(id, facts.fsid, BTRFS_FSID_SIZE);
	napi_create_typedarray(env, napi_uint8_array, BTRFS_FSID_SIZE, value, 0, &value);
	put(env, result, "fsid", value);
	napi_create_uint32(env, facts.nodesize, &value);
	put(env, result, "nodeSize", value);
	napi_create_uint32(env, facts.csum_type, &value);
	put(env, result, "checksumType", value);
	napi_create_double(env, (double)facts.num_devices, &value);
	put(env, result, "devices", value);
	return result;
}

static napi_value do_btrfs_resize(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS];
	struct btrfs_ioctl_vol_args change = { 0 };
	char path[PATH_BYTES];
	double size;
	int file;

	if (!arguments(env, info, 2, v) || !text(env, v[0], path, sizeof(path)) ||
	    !number(env, v[1], 4096, SECTORS_MOST, &size))
		return NULL;
	file = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file < 0)
		return fail_errno(env, "open");
	snprintf(change.name, sizeof(change.name), "1:%llu", (unsigned long long)size);
	return done(env, file, ioctl(file, BTRFS_IOC_RESIZE, &change), "BTRFS_IOC_RESIZE");
}

/* Errors of writing, reading, flushing, of checksums and of generations, added up. */
static napi_value do_btrfs_errors(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS], result = NULL;
	struct btrfs_ioctl_get_dev_stats stats = { .devid = 1, .nr_items = BTRFS_DEV_STAT_VALUES_MAX };
	char path[PATH_BYTES];
	double sum = 0;
	int file, failed;

	if (!arguments(env, info, 1, v) || !text(env, v[0], path, sizeof(path)))
		return NULL;
	file = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file < 0)
		return fail_errno(env, "open");
	failed = ioctl(file, BTRFS_IOC_GET_DEV_STATS, &stats);
	if (failed)
		return done(env, file, failed, "BTRFS_IOC_GET_DEV_STATS");
	close(file);
	for (int i = 0; i < BTRFS_DEV_STAT_VALUES_MAX; i++)
		sum += (double)stats.values[i];
	napi_create_double(env, sum, &result);
	return result;
}

static napi_value freeze(napi_env env, napi_callback_info info, unsigned long call, const char *name)
{
	napi_value v[MAX_ARGUMENTS];
	char path[PATH_BYTES];
	int file;

	if (!arguments(env, info, 1, v) || !text(env, v[0], path, sizeof(path)))
		return NULL;
	file = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file < 0)
		return fail_errno(env, "open");
	return done(env, file, ioctl(file, call, 0), name);
}

static napi_value do_freeze(napi_env env, napi_callback_info info)
{
	return freeze(env, info, FIFREEZE, "FIFREEZE");
}

static napi_value do_thaw(napi_env env, napi_callback_info info)
{
	return freeze(env, info, FITHAW, "FITHAW");
}

/* A commit under way, in a thread of its own: it takes as long as the disk does. */
struct commit {
	napi_async_work work;
	napi_deferred deferred;
	int file, error;
	const char *call;
	uint64_t generation;
};

/* syncfs(2) first: BTRFS_IOC_START_SYNC alone leaves what is only in memory out (fs/btrfs/ioctl.c). */
static void commit_run(napi_env env, void *data)
{
	struct commit *commit = data;

	(void)env;
	commit->call = "syncfs";
	if (syncfs(commit->file) ||
	    (commit->call = "BTRFS_IOC_START_SYNC", ioctl(commit->file, BTRFS_IOC_START_SYNC, &commit->generation)) ||
	    (commit->call = "BTRFS_IOC_WAIT_SYNC", ioctl(commit->file, BTRFS_IOC_WAIT_SYNC, &commit->generation)))
		commit->error = errno;
}

static void commit_done(napi_env env, napi_status status, void *data)
{
	struct commit *commit = data;
	napi_value value, code, message;

	if (status == napi_ok && commit->error == 0) {
		napi_create_bigint_uint64(env, commit->generation, &value);
		napi_resolve_deferred(env, commit->deferred, value);
	} else {
		const char *name = strerrorname_np(commit->error);

		napi_create_string_utf8(env, name ? name : "EUNKNOWN", NAPI_AUTO_LENGTH, &code);
		napi_create_string_utf8(env, commit->call, NAPI_AUTO_LENGTH, &message);
		napi_create_error(env, code, message, &value);
		napi_reject_deferred(env, commit->deferred, value);
	}
	napi_delete_async_work(env, commit->work);
	close(commit->file);
	free(commit);
}

static napi_value do_btrfs_commit(napi_env env, napi_callback_info info)
{
	napi_value v[MAX_ARGUMENTS], promise = NULL, name;
	char path[PATH_BYTES];
	struct commit *commit;

	if (!arguments(env, info, 1, v) || !text(env, v[0], path, sizeof(path)))
		return NULL;
	commit = calloc(1, sizeof(*commit));
	if (!commit)
		return fail(env, "ENOMEM", "calloc");
	commit->file = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (commit->file < 0) {
		int saved = errno;

		free(commit);
		errno = saved;
		return fail_errno(env, "open");
	}
	napi_create_string_utf8(env, "btrfsCommit", NAPI_AUTO_LENGTH, &name);
	if (napi_create_promise(env, &commit->deferred, &promise) != napi_ok ||
	    napi_create_async_work(env, NULL, name, commit_run, commit_done, commit, &commit->work) != napi_ok ||
	    napi_queue_async_work(env, commit->work) != napi_ok) {
		close(commit->file);
		free(commit);
		return fail(env, "EUNKNOWN", "the commit could not be started");
	}
	return promise;
}

const struct addon_function volume_functions[] = {
	{ "cryptOpen", do_crypt_open },
	{ "cryptClose", do_crypt_close },
	{ "btrfsInfo", do_btrfs_info },
	{ "btrfsResize", do_btrfs_resize },
	{ "btrfsErrors", do_btrfs_errors },
	{ "btrfsCommit", do_btrfs_commit },
	{ "freeze", do_freeze },
	{ "thaw", do_thaw },
	{ NULL, NULL },
};
