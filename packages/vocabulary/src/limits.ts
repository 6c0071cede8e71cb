// SPDX-License-Identifier: Apache-2.0
/** Largest parts of evidence, in bytes. A real quote has about 5 kB, a CCEL area at most 1 MiB. */
export const limits = {
  document: 4 << 20,
  quote: 64 << 10,
  bootLog: 1 << 20,
  /** Events, not bytes. */
  runtimeEvents: 4096,
  payload: 16 << 10,
  reportDataField: 1 << 10,
} as const;
