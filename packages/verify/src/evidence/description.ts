// SPDX-License-Identifier: Apache-2.0
/** What evidence says, field by field, whatever its kind. */

/** Fields by group and name, in the order in which they are shown. Values are hexadecimal, numbers or words. */
export interface Description {
  /** What takes away all protection; empty in a production TEE. */
  warnings: string[];
  groups: Record<string, Record<string, string>>;
}
