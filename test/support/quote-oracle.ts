// SPDX-License-Identifier: Apache-2.0
/**
 * @phala/dcap-qvl-web (Rust compiled to WASM, rustls-webpki for chains and CRLs) as a second verifier of quotes under the
 * test root. It has Intel's root built in, so that its bytes are changed to a test root of the same length; it reads quotes
 * of versions 3 and 4 only.
 */
import { ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { issueCertificate } from "@caisson/simulated/certificates";
import { hierarchy } from "@caisson/simulated/pki";
import { type Collateral, VerifyError, verifyQuote } from "@caisson/verify";
import { sequence } from "@caisson/verify/der-writer";
import { times } from "@caisson/verify/testing/evidence";
import { initSync, js_verify } from "@phala/dcap-qvl-web";

/** Intel's root as the oracle holds it: a certificate of 659 bytes with this subject key. */
const INTEL_ROOT_SIZE = 659;
const intelRootStart = Buffer.from("3082028f30820234a0030201020214", "hex");

/** Once, before it is asked. */
export function loadOracle(): void {
  const wasm = readFileSync(new URL(import.meta.resolve("@phala/dcap-qvl-web/dcap-qvl-web_bg.wasm")));
  const at = wasm.indexOf(intelRootStart);
  ok(at > 0 && wasm.indexOf(intelRootStart, at + 1) < 0, "the oracle's root is not where it was");
  wasm.set(paddedRoot(), at);
  initSync({ module: wasm });
}

/** The test root, with a distribution point that makes it as long as Intel's. Signatures differ in length: try. */
function paddedRoot(): Uint8Array {
  for (let filler = 60; filler < 90; filler++) {
    const { root } = hierarchy("refusals", times);
    root.extensions.find(({ oid }) => oid === "2.5.29.31")!.value = sequence(new Uint8Array(filler));
    const certificate = issueCertificate(root);
    if (certificate.length === INTEL_ROOT_SIZE) return certificate;
  }
  throw new Error("no root of the right length");
}

/** A status with advisories, or the code of a refusal (ours), or what was said (theirs). */
export interface Verdict {
  status?: string;
  advisories?: string[];
  code?: string;
}

export async function ours(quote: Uint8Array, collateral: Collateral, at: Date): Promise<Verdict> {
  const trust = { name: "test root", rootKey: hierarchy("refusals", times).keys.root.publicKey };
  try {
    const { tcb } = await verifyQuote(quote, collateral, at, trust);
    return { status: tcb.status, advisories: tcb.advisories };
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    return { code: error.code };
  }
}

export function theirs(quote: Uint8Array, collateral: Collateral, at: Date): Verdict {
  try {
    const { status, advisory_ids } = js_verify(quote, collateral, BigInt(at.getTime() / 1000)) as {
      status: string;
      advisory_ids: string[];
    };
    return { status, advisories: [...advisory_ids].sort() };
  } catch (error) {
    return { code: String(error) };
  }
}
