// SPDX-License-Identifier: Apache-2.0
/**
 * One bit changed in every byte of a quote and of each part of its collateral: none of it may be accepted. Hexadecimal
 * parts are changed as bytes, because a letter of another case is the same byte.
 */
import { deepEqual } from "node:assert/strict";
import { test } from "node:test";
import { type Collateral, VerifyError, verifyCollateral, verifyQuote } from "@caisson/verify";
import { buildEvidence } from "@caisson/verify/testing/evidence";
import { fromHex, toHex } from "@caisson/vocabulary/bytes";

/** Offsets of bytes whose change was accepted. `accept` must refuse by a VerifyError. */
async function acceptedFlips(
  bytes: Uint8Array,
  accept: (changed: Uint8Array) => Promise<unknown>,
): Promise<number[]> {
  const accepted: number[] = [];
  for (let at = 0; at < bytes.length; at++) {
    const changed = Uint8Array.from(bytes);
    changed[at]! ^= 1 << (at % 8);
    try {
      await accept(changed);
      accepted.push(at);
    } catch (error) {
      if (!(error instanceof VerifyError)) throw error;
    }
  }
  return accepted;
}

for (const format of ["td15-v5", "td10-v4", "sgx-v3"] as const) {
  const right = buildEvidence({ format });
  test(`${format}: every byte of the quote`, async (t) => {
    const verified = await verifyCollateral(right.collateral, right.now, right.trust);
    const flips = await acceptedFlips(right.quote, (quote) =>
      verifyQuote(quote, verified, right.now, right.trust),
    );
    deepEqual(flips, []);
    t.diagnostic(`${right.quote.length} bytes`);
  });
}

const { collateral, now, trust, quote } = buildEvidence({});
const utf8 = new TextEncoder();
for (const [field, text] of Object.entries(collateral) as [keyof Collateral, string][]) {
  const bytes = fromHex(text);
  test(`every byte of ${field}`, async (t) => {
    const flips = await acceptedFlips(bytes ?? utf8.encode(text), (changed) => {
      const value = bytes === undefined ? new TextDecoder().decode(changed) : toHex(changed);
      return verifyQuote(quote, { ...collateral, [field]: value }, now, trust);
    });
    deepEqual(flips, []);
    t.diagnostic(`${(bytes ?? text).length} bytes`);
  });
}
