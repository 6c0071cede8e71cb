/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of a call, checked, and failures as an Error whose `code` is the errno name. */
#ifndef CAISSON_ARGUMENTS_H
#define CAISSON_ARGUMENTS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* strerrorname_np */
#endif
#include <errno.h>
#include <math.h>
#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MAX_ARGUMENTS 5
#define PATH_BYTES 4096

static inline napi_value fail(napi_env env, const char *code, const char *message)
{
	napi_throw_error(env, code, message);
	return NULL;
}

static inline napi_value fail_errno(napi_env env, const char *call)
{
	const char *name = strerrorname_np(errno);
	return fail(env, name ? name : "EUNKNOWN", call);
}

static inline bool arguments(napi_env env, napi_callback_info info, size_t want, napi_value *values)
{
	size_t count = MAX_ARGUMENTS;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) == napi_ok && count == want)
		return true;
	fail(env, "EINVAL", "wrong number of arguments");
	return false;
}

/* A string without NUL bytes that fits with its terminator. */
static inline bool text(napi_env env, napi_value value, char *buffer, size_t size)
{
	size_t length;

	if (napi_get_value_string_utf8(env, value, NULL, 0, &length) == napi_ok && length < size &&
	    napi_get_value_string_utf8(env, value, buffer, size, &length) == napi_ok && strlen(buffer) == length)
		return true;
	fail(env, "EINVAL", "not a string, too long, or with a NUL byte");
	return false;
}

static inline bool number(napi_env env, napi_value value, double least, double most, double *out)
{
	if (napi_get_value_double(env, value, out) == napi_ok && isfinite(*out) && *out >= least && *out <= most)
		return true;
	fail(env, "EINVAL", "not a number in range");
	return false;
}

struct addon_function {
	const char *name;
	napi_callback call;
};

/* What containers.c and volumes.c add; each ends with a name that is NULL. */
extern const struct addon_function container_functions[];
extern const struct addon_function volume_functions[];

#endif
