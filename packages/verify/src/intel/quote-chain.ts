// SPDX-License-Identifier: Apache-2.0
/**
 * What a quote says by itself: what can be told of it, and of its platform, before there is any collateral. Its
 * certificates lead to a root or not, and its signatures fit together or not, whatever anybody brings beside it.
 */
import { VerifyError } from "../errors.ts";
import { type Authority, type TrustAnchor, verifyIssued, verifyRoot } from "../pki/chain.ts";
import type { Certificate } from "../pki/x509.ts";
import { parseChain } from "./collateral.ts";
import { verifyKeyBinding, verifyQeReport, verifyQuoteSignature } from "./genuine.ts";
import { type PckExtension, pckExtension } from "./pck.ts";
import { parseQuote, type Quote } from "./quote.ts";
import { roles } from "./roles.ts";

/**
 * That the PCK chain of a quote leads to `trust` and is valid at `now`. It says nothing about the quote (its signature,
 * whether a certificate was revoked), only that the platform which it names exists.
 */
export async function verifyOwnChain(quote: Uint8Array, trust: TrustAnchor, now: Date): Promise<boolean> {
  try {
    const { pckChain } = parseQuote(quote);
    if (pckChain === undefined) return false;
    await verifyPath(parseChain(pckChain, 3, "the PCK chain"), trust, now.getTime());
    return true;
  } catch (error) {
    if (error instanceof VerifyError) return false;
    throw error;
  }
}

async function verifyPath(
  [leaf, ca, top]: readonly Certificate[],
  trust: TrustAnchor,
  at: number,
): Promise<Authority> {
  const root = await verifyRoot(top!, trust, roles.root, at);
  return verifyIssued(leaf!, await verifyIssued(ca!, root, roles.pckCa, at), roles.pck, at);
}

/**
 * That everything which a quote carries fits together, up to `trust`. Its certificates are judged as of a day on which
 * all of them were valid: that they have expired does not make it a forgery. A quote without a chain has its own two
 * signatures.
 * @throws VerifyError whose code says what is wrong with the quote
 */
export async function checkOwnSignatures(quote: Quote, trust: TrustAnchor): Promise<void> {
  if (quote.pckChain !== undefined) {
    const chain = parseChain(quote.pckChain, 3, "the PCK chain");
    const pck = await verifyPath(chain, trust, Math.max(...chain.map(({ notBefore }) => notBefore)));
    await verifyQeReport(quote, pck);
  }
  await verifyKeyBinding(quote);
  await verifyQuoteSignature(quote);
}

/** What the certificate in a quote says of its platform, if it can be read; nothing is verified. */
export function ownPck({ pckChain }: Quote): { pck?: PckExtension } {
  try {
    const [leaf] = pckChain === undefined ? [] : parseChain(pckChain, 3, "the PCK chain");
    const pck = leaf && pckExtension(leaf);
    return pck === undefined ? {} : { pck };
  } catch (error) {
    if (error instanceof VerifyError) return {};
    throw error;
  }
}
