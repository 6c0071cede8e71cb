// SPDX-License-Identifier: Apache-2.0
/**
 * JSON with one spelling for one value, so that it can be hashed: keys sorted by UTF-16 code units, no spaces
 * (RFC 8785). Numbers are safe integers only, which spares us its rules for floating point. Throws TypeError for a value
 * that has none, and for one that is nested more than 100 deep: what is read may be somebody else's.
 */
export function canonicalJson(value: unknown, depth = 0): string {
  if (depth > 100) throw new TypeError("nested more than 100 deep");
  if (value === null || typeof value === "boolean" || typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number" && Number.isSafeInteger(value)) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item, depth + 1)).join(",")}]`;
  if (typeof value === "object" && [Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member, depth + 1)}`).join(",")}}`;
  }
  throw new TypeError(`${typeof value} has no canonical JSON`);
}
