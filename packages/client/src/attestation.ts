// SPDX-License-Identifier: Apache-2.0
/**
 * What a client knows of a guest, and for how long. The same in Node and in browsers; who asks for the document, and over
 * what, is the caller's.
 */
import {
  type ChannelJudgement,
  type ChannelKeys,
  type Judgement,
  type Report,
  verifyChannel,
} from "@caisson/verify";
import { evidencePath } from "@caisson/vocabulary/paths";
import { ChannelError } from "./errors.ts";

export interface AttestationOptions extends Omit<Judgement, "expectedReportData" | "now"> {
  /** Milliseconds for which verified keys are good; at most until the collateral ends. */
  maximumAge?: number;
}

const defaultMaximumAge = 600_000;

/** How requests reach the guest: TLS ends in it, or each request is sealed to it. */
export type Way = "tls" | "tunnel";

export interface Attestation {
  report: Report;
  keys: ChannelKeys;
  way: Way;
  /** Milliseconds since 1970: not good any more. */
  until: number;
}

/** The last attestation of a guest, as long as it is good. */
export class LastAttestation {
  #last: Attestation | undefined;
  #asking: Promise<Attestation> | undefined;

  get good(): Attestation | undefined {
    return this.#last !== undefined && Date.now() < this.#last.until ? this.#last : undefined;
  }

  /** The good one, or what `anew` gives; whoever asks meanwhile shares its answer. Throws what `anew` throws. */
  async goodOr(anew: () => Promise<Attestation>): Promise<Attestation> {
    if (this.good !== undefined) return this.good;
    this.#asking ??= anew().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  keep(attestation: Attestation): Attestation {
    this.#last = attestation;
    return attestation;
  }

  forget(): void {
    this.#last = undefined;
  }
}

export const freshNonce = (): Uint8Array => crypto.getRandomValues(new Uint8Array(32));

/** Where evidence over a nonce is asked for. */
export const evidenceUrl = (origin: string | URL, nonce: Uint8Array, bind: Binding = "key"): URL =>
  new URL(`${evidencePath}?nonce=${nonce.toHex()}${bind === "session" ? "&bind=session" : ""}`, origin);

/** What evidence is asked to name: the key with which connections end, or one TLS session besides. */
export type Binding = "key" | "session";

/**
 * Judges what came. `tlsKey`: SHA-256 of the SubjectPublicKeyInfo that the connection ended with, where the caller has
 * seen it; `exporter`: of the session over which it was asked to be bound; `ways` that the caller can use. Throws
 * ChannelError `channel/refused`, VerifyError for what is not evidence.
 */
export async function attestationOf(
  document: Uint8Array,
  { nonce, tlsKey, exporter }: { nonce: Uint8Array; tlsKey?: Uint8Array; exporter?: Uint8Array },
  options: AttestationOptions,
  ways: readonly Way[],
): Promise<Attestation> {
  const now = new Date();
  const { maximumAge = defaultMaximumAge, ...judgement } = options;
  const seen = ways.includes("tls") && tlsKey !== undefined;
  const judged = await verifyChannel(
    document,
    { nonce, ...(seen && { tlsKey }), ...(exporter && { exporter }) },
    { ...judgement, now },
  );
  const way = wayOf(judged, seen, ways);
  const { report, keys } = judged;
  if (way === undefined || keys === undefined) throw refused(judged, ways);
  const ends = Date.parse(report.platform?.validUntil ?? "");
  return { report, keys, way, until: Math.min(now.getTime() + maximumAge, ends) };
}

function wayOf({ report, keys }: ChannelJudgement, seen: boolean, ways: readonly Way[]): Way | undefined {
  if (keys === undefined) return undefined;
  if (seen && report.verdict === "accepted") return "tls";
  return ways.includes("tunnel") ? "tunnel" : undefined;
}

function refused({ report, keys }: ChannelJudgement, ways: readonly Way[]): ChannelError {
  const because = report.codes.join(", ") || report.verdict;
  const sealed = keys !== undefined && !ways.includes("tunnel");
  return new ChannelError(
    "channel/refused",
    `this connection does not end in a guest that is accepted: ${because}`,
    {
      report,
      fix: sealed
        ? "TLS ends before the guest: sealed requests would still reach it (the tunnel)"
        : "see the report's checks; nothing was sent",
    },
  );
}
