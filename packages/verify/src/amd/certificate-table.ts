// SPDX-License-Identifier: Apache-2.0
/**
 * The table of certificates that a host hands to a guest with its report (GHCB, SNP_GUEST_REQUEST extended; Linux's
 * `auxblob`): GUID, offset and length of each, ended by a zero entry. It is the host's: a cache of what AMD serves, and
 * no more.
 */
import { isZero, toHex } from "@caisson/vocabulary/bytes";
import { VerifyError } from "../errors.ts";
import type { AmdCollateral } from "./collateral.ts";

const ENTRY = 24;
const MOST_ENTRIES = 32;

/** GUIDs as they lie there: the first three fields little-endian. */
const kinds: Readonly<Record<string, "endorsement" | "intermediate" | "root">> = {
  "8d75da6364e66445adc5f4b93be8accd": "endorsement",
  c24b07a85aa23e48aae639c045a0b8a1: "endorsement",
  "79b3b74aacbbe44fa02f05aef327c782": "intermediate",
  a406b4c003a8524997433fb6014cd0ae: "root",
};

/** Of certificates, by one of which a table begins; hexadecimal. */
export const amdTableGuids: readonly string[] = Object.keys(kinds);

/** The certificates of a table; others are read past. Throws VerifyError "evidence/malformed". */
export function readCertificateTable(table: Uint8Array): AmdCollateral {
  const malformed = (what: string, entry: number): never => {
    throw new VerifyError(
      "evidence/malformed",
      `the table of certificates behind the report is malformed: ${what}`,
      {
        where: `entry ${entry}`,
      },
    );
  };
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  const found: Partial<Record<"endorsement" | "intermediate" | "root", Uint8Array>> = {};
  const entries: { guid: Uint8Array; offset: number; length: number }[] = [];
  for (let i = 0; ; i++) {
    if ((i + 1) * ENTRY > table.length) malformed("it has no end", i);
    const guid = table.subarray(i * ENTRY, i * ENTRY + 16);
    if (isZero(table.subarray(i * ENTRY, (i + 1) * ENTRY))) break;
    if (i === MOST_ENTRIES) malformed(`more than ${MOST_ENTRIES} entries`, i);
    entries.push({
      guid,
      offset: view.getUint32(i * ENTRY + 16, true),
      length: view.getUint32(i * ENTRY + 20, true),
    });
  }
  const end = (entries.length + 1) * ENTRY;
  for (const [i, { guid, offset, length }] of entries.entries()) {
    if (offset < end || offset + length > table.length) malformed("a certificate lies outside of it", i);
    const kind = kinds[toHex(guid)];
    if (kind === undefined) continue;
    if (found[kind] !== undefined) malformed("two certificates of one kind", i);
    found[kind] = table.subarray(offset, offset + length);
  }
  const { endorsement, intermediate, root } = found;
  return {
    ...(endorsement && { endorsement }),
    ...(intermediate && root && { chain: [intermediate, root] }),
  };
}
