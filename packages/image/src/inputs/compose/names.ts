// SPDX-License-Identifier: Apache-2.0
/** Names of services, networks and volumes; those of services are host names, too, so they have no capitals. */
export const namePattern = /^[a-z0-9](?:[a-z0-9_.-]{0,61}[a-z0-9])?$/;
export const nameRule = "1 to 63 of a-z, 0-9, '_', '.' and '-', a letter or digit first and last";

/** Host names and aliases. */
export const hostPattern = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
