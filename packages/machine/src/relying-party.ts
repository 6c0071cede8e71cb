// SPDX-License-Identifier: Apache-2.0
/**
 * A relying party: fresh evidence from a running application, judged by a policy. What it believes comes from its own
 * files, never from the machine.
 */
import { randomBytes } from "node:crypto";
import { type Judgement, type Report, readEvidence, VerifyError, verifyEvidence } from "@caisson/verify";
import { releaseJudge } from "@caisson/verify/releases";
import { firstBytes } from "@caisson/vocabulary/body";
import { Failure, messageOf } from "@caisson/vocabulary/failure";
import { limits } from "@caisson/vocabulary/limits";
import { evidencePath } from "@caisson/vocabulary/paths";
import { systemReason } from "@caisson/vocabulary/system-error";

const limitMs = 90_000;

/** The document as it came, and the nonce that its report data must bind. */
export interface FreshEvidence {
  bytes: Uint8Array;
  nonce: Uint8Array;
}

type SourceErrorCode = "evidence/address" | "evidence/unreachable" | "evidence/not-served";

/** No evidence that could be judged: nobody was asked, nobody answered, or who answered serves none. */
class EvidenceSourceError extends Failure<SourceErrorCode, "usage" | "unavailable" | "input"> {
  override readonly name = "EvidenceSourceError";
}

/** The address of a running application. Throws EvidenceSourceError `evidence/address`. */
function parseAddress(text: string): URL {
  const url = URL.parse(text);
  if (url?.protocol === "http:" || url?.protocol === "https:") return url;
  const meant = URL.parse(`http://${text}/`);
  throw new EvidenceSourceError(
    "evidence/address",
    "usage",
    `no evidence from '${text}': it is not an http or https address`,
    { fix: meant === null ? "http://HOST:PORT/" : `did you mean ${meant.href}?` },
  );
}

/**
 * Fetches evidence over a new nonce of 32 bytes. Throws EvidenceSourceError; VerifyError `evidence/malformed` when what
 * came cannot be evidence.
 */
export async function fetchEvidence(url: string): Promise<FreshEvidence> {
  const nonce = randomBytes(32);
  const from = new URL(`${evidencePath}?nonce=${nonce.toString("hex")}`, parseAddress(url));
  try {
    const response = await fetch(from, { redirect: "error", signal: AbortSignal.timeout(limitMs) });
    if (!response.ok) {
      throw new EvidenceSourceError(
        "evidence/not-served",
        "input",
        `no evidence from ${url}: GET ${evidencePath} answers ${response.status}`,
        { fix: "an application serves it with what /run/caisson.sock answers: docs/application.md" },
      );
    }
    const { bytes, more } = await firstBytes(response.body, limits.document);
    if (more) throw new Error(`it sends more than ${limits.document} bytes`);
    return { bytes, nonce };
  } catch (error) {
    if (error instanceof Failure) throw error;
    const reason = systemReason(error);
    if (reason !== undefined) {
      throw new EvidenceSourceError(
        "evidence/unreachable",
        "unavailable",
        `no evidence from ${url}: ${reason}`,
        {
          fix: "see whether the application runs, and whether this is its address",
          cause: error,
        },
      );
    }
    // What fetch itself refuses is said in its cause: a redirect, or a port of the list that browsers block.
    const said = messageOf((error as Error).cause ?? error);
    if (said === "bad port") {
      throw new EvidenceSourceError(
        "evidence/address",
        "usage",
        `no evidence from ${url}: nothing may be fetched from port ${from.port}`,
        { fix: "serve the application on another port: the Fetch standard blocks this one", cause: error },
      );
    }
    throw new VerifyError("evidence/malformed", `no evidence from ${url}: ${said}`);
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
    releases: releaseJudge(),
    ...judgement,
    expectedReportData: freshReportData(nonce),
  });
}
