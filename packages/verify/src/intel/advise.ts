// SPDX-License-Identifier: Apache-2.0
/** Advice for a quote that is genuine but, maybe, for its TCB. */
import { VerifyError } from "../errors.ts";
import type { TrustAnchor } from "../pki/chain.ts";
import { parsePemChain } from "../pki/pem.ts";
import { type Collateral, verifyCollateral } from "./collateral.ts";
import { verifyQuote } from "./genuine.ts";
import { pckExtension } from "./pck.ts";
import { parseQuote } from "./quote.ts";
import { softwareLevel, type TcbStatus } from "./tcb.ts";
import { type Advice, adviseTcb } from "./tcb-advice.ts";

/**
 * What one set of documents says of a quote's platform. A quote that is refused for anything but its TCB gets no advice: the
 * refusal is thrown.
 */
export async function adviseQuote(
  quote: Uint8Array,
  collateral: Collateral,
  now: Date,
  trust: TrustAnchor,
  accepted: readonly TcbStatus[],
): Promise<Advice> {
  const verified = await verifyCollateral(collateral, now, trust);
  try {
    return (await verifyQuote(quote, verified, now, trust)).advise(accepted);
  } catch (error) {
    if (!(error instanceof VerifyError) || !/^(?:tcb\/|qe\/svn$)/.test(error.code)) throw error;
    const { tcbInfo, qeIdentity } = verified.at(now.getTime(), trust);
    const { body, qeReport } = parseQuote(quote);
    const pck = pckExtension(parsePemChain(parseQuote(quote).pckChain!)[0]!)!;
    const td = body.tee === "tdx" ? body.report : undefined;
    const qeSvn = qeReport.isvSvn;
    const revoked =
      error.code === "tcb/revoked" || softwareLevel(qeIdentity.tcbLevels, qeSvn)?.tcbStatus === "Revoked";
    return adviseTcb({ pck, td, qeSvn }, tcbInfo, qeIdentity, revoked ? "Revoked" : undefined, accepted);
  }
}

/** Which platform a quote names, for people. Throws VerifyError where it names none. */
export function ppidOf(quote: Uint8Array): Record<"fmspc" | "ppid" | "sgx" | "pce" | "tdx", string> {
  const { pckChain, body } = parseQuote(quote);
  const [leaf] = pckChain === undefined ? [] : parsePemChain(pckChain);
  const pck = leaf && pckExtension(leaf);
  if (pck === undefined)
    throw new VerifyError("collateral/missing", "this quote does not carry its platform's certificate");
  const { fmspc, ppid, sgxSvns, pceSvn } = pck;
  return {
    fmspc,
    ppid,
    sgx: sgxSvns.join(" "),
    pce: `${pceSvn}`,
    tdx: body.tee === "tdx" ? [...body.report.teeTcbSvn].join(" ") : "none: an enclave",
  };
}
