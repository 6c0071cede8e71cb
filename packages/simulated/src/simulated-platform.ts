// SPDX-License-Identifier: Apache-2.0
/**
 * The platform that the emulated quoting service pretends to be: a simulated Intel PKI and the collateral that Intel
 * would publish for it. Its keys follow from a fixed seed, so anyone can sign with them: evidence that it signs
 * proves nothing, and a policy must name its root to accept it.
 */

import type { Collateral } from "@caisson/verify";
import { hierarchy, mint } from "./pki.ts";
import { issueQuote, type TdSpec } from "./quotes.ts";

const seed = "caisson/simulated-platform/v1";
const day = 24 * 3600 * 1000;

/** Turns a TD 1.0 quote body (584 bytes) into a quote. */
export type SignQuote = (body: Uint8Array) => Promise<Uint8Array>;

export interface SimulatedPlatform {
  /** Uncompressed P-256 point of the root, hex: what a development policy names as `simulatedRoot`. */
  root: string;
  /** Valid from a day before `now` to a month after. */
  collateral: Collateral;
  sign: SignQuote;
}

/** Fields of a TD 1.0 quote body in order, with their sizes in bytes (Intel TDX DCAP quote format, A.3.2). */
const bodyFields: readonly [keyof TdSpec, number][] = [
  ["teeTcbSvn", 16],
  ["mrSeam", 48],
  ["mrSignerSeam", 48],
  ["seamAttributes", 8],
  ["tdAttributes", 8],
  ["xfam", 8],
  ["mrTd", 48],
  ["mrConfigId", 48],
  ["mrOwner", 48],
  ["mrOwnerConfig", 48],
  ["rtmr0", 48],
  ["rtmr1", 48],
  ["rtmr2", 48],
  ["rtmr3", 48],
  ["reportData", 64],
];

/** The TDX module is the platform's to report, not the guest's: these, and what TD 1.5 adds, are the simulated platform's. */
const platformFields: readonly (keyof TdSpec)[] = ["teeTcbSvn", "mrSeam", "mrSignerSeam", "seamAttributes"];

/** `now` in milliseconds since 1970; `evaluationNumber`: another one than its collateral has by default. */
export function simulatedPlatform(now: number, evaluationNumber?: number): SimulatedPlatform {
  const described = hierarchy(seed, { issued: new Date(now - day), expires: new Date(now + 30 * day) });
  if (evaluationNumber !== undefined) {
    described.tcbInfo.tcbEvaluationDataNumber = evaluationNumber;
    described.qeIdentity.tcbEvaluationDataNumber = evaluationNumber;
  }
  const { trust, collateral, pckChain } = mint(described);
  return {
    root: Buffer.from(trust.rootKey).toString("hex"),
    collateral,
    async sign(body) {
      const td: Partial<TdSpec> = {};
      let offset = 0;
      for (const [field, size] of bodyFields) {
        const value = Buffer.from(body.subarray(offset, offset + size)).toString("hex");
        if (!platformFields.includes(field)) td[field] = value;
        offset += size;
      }
      return issueQuote(described, pckChain, td, "td15-v5");
    },
  };
}
