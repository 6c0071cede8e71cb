// SPDX-License-Identifier: Apache-2.0
/** Whether a quote's own certificates lead to a root: what can be said of its platform before there is any collateral. */
import { VerifyError } from "../errors.ts";
import { type TrustAnchor, verifyIssued, verifyRoot } from "../pki/x509.ts";
import { parseChain } from "./collateral.ts";
import { parseQuote } from "./quote.ts";
import { roles } from "./roles.ts";

/**
 * That the PCK chain of a quote leads to `trust` and is valid at `now`. It says nothing about the quote (its signature, whether
 * a certificate was revoked), only that the platform which it names exists.
 */
export async function verifyOwnChain(quote: Uint8Array, trust: TrustAnchor, now: Date): Promise<boolean> {
  try {
    const { pckChain } = parseQuote(quote);
    if (pckChain === undefined) return false;
    const [leaf, ca, top] = parseChain(pckChain, 3, "the PCK chain");
    const root = await verifyRoot(top!, trust, roles.root, now.getTime());
    await verifyIssued(
      leaf!,
      await verifyIssued(ca!, root, roles.pckCa, now.getTime()),
      roles.pck,
      now.getTime(),
    );
    return true;
  } catch (error) {
    if (error instanceof VerifyError) return false;
    throw error;
  }
}
