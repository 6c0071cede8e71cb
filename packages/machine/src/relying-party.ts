/**
 * A relying party: fresh evidence from a running application, judged by a policy. What it believes comes from its own
 * files, never from the machine.
 */
import { randomBytes } from "node:crypto";
import { type Judgement, type Report, readEvidence, VerifyError, verifyEvidence } from "@caisson/verify";
import { firstBytes } from "@caisson/vocabulary/body";
import { messageOf } from "@caisson/vocabulary/failure";
import { limits } from "@caisson/vocabulary/limits";
import { evidencePath } from "@caisson/vocabulary/paths";

const limitMs = 90_000;

/** The document as it came, and the nonce that its report data must bind. */
export interface FreshEvidence {
  bytes: Uint8Array;
  nonce: Uint8Array;
}

/** Fetches evidence over a new nonce of 32 bytes. Throws VerifyError `evidence/malformed` when there is none. */
export async function fetchEvidence(url: string): Promise<FreshEvidence> {
  const nonce = randomBytes(32);
  try {
    const from = new URL(`${evidencePath}?nonce=${nonce.toString("hex")}`, url);
    const response = await fetch(from, { redirect: "error", signal: AbortSignal.timeout(limitMs) });
    if (!response.ok) throw new Error(`it answers ${response.status}`);
    const { bytes, more } = await firstBytes(response.body, limits.document);
    if (more) throw new Error(`it sends more than ${limits.document} bytes`);
    return { bytes, nonce };
  } catch (error) {
    throw new VerifyError("evidence/malformed", `no evidence from ${url}: ${messageOf(error)}`);
  }
}

/** What fresh evidence must bind. The machine does not choose the scheme: only applications' evidence counts here. */
export const freshReportData = (nonce: Uint8Array) =>
  ({ scheme: "caisson/app/v1", fields: { nonce } }) as const;

/** Judges it: genuine, acceptable, and bound to this nonce. */
export async function judgeFresh(
  { bytes, nonce }: FreshEvidence,
  judgement: Omit<Judgement, "expectedReportData">,
): Promise<Report> {
  return verifyEvidence(readEvidence(bytes), {
    ...judgement,
    expectedReportData: freshReportData(nonce),
  });
}
