// SPDX-License-Identifier: Apache-2.0
/**
 * Authenticated time from several operators (RFC 8915 and an agreement among intervals).
 *
 * `synchronize(parseTimeConfiguration(value), { floor })` is all that most callers need.
 */
export * from "./agreement.ts";
export * from "./certificates.ts";
export * from "./configuration.ts";
export * from "./environment.ts";
export * from "./errors.ts";
export * as ntp from "./ntp.ts";
export * as ntske from "./ntske.ts";
export * from "./ntske-client.ts";
export * from "./public-sources.ts";
export * from "./source.ts";
export * from "./synchronize.ts";
