// SPDX-License-Identifier: Apache-2.0
/**
 * Who answers as a KMS: evidence of the guest that it runs in, bound to its identity key.
 *
 * An image of a KMS (`guest.ts`) has its root secret from nowhere but itself, or from a replica that it judged like this.
 * So evidence that such an image runs, has this identity key, and measured as its key provider either nobody or that same
 * identity, says that the identity key was made in such a guest, and by induction that the root secret never left them.
 * One that keeps it on a volume measured the KMS that opens the volume: whoever verifies names that one in the policy.
 */
import { createHash, randomBytes } from "node:crypto";
import { refusalSchema } from "@caisson/protocol/key-release";
import {
  type AnyEvidence,
  type Judgement,
  type Report,
  readEvidence,
  type VerifiedCollateral,
  verifyEvidence,
} from "@caisson/verify";
import { firstBytes } from "@caisson/vocabulary/body";
import { messageOf } from "@caisson/vocabulary/failure";
import { frame } from "@caisson/vocabulary/frame";
import { limits } from "@caisson/vocabulary/limits";
import { hex, object, oneOf, type Schema, SchemaError } from "@caisson/vocabulary/schema";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { KmsError } from "./errors.ts";

/** What a guest attests to: a KMS's identity key, or the key to which keepers seal shares for one that recovers. */
export type Attested = "caisson/kms-attestation/v1" | "caisson/kms-recovery/v1";
export const attestationPath = "/v1/attestation";
/** Longer than the longest quote takes. */
const answerMs = 90_000;

/** What the guest is asked for evidence over (`POST /evidence` of its socket): 32 bytes. */
export function attestationNonce(version: Attested, nonce: Uint8Array, key: Uint8Array): Uint8Array {
  return createHash("sha256")
    .update(frame(version, nonce, key))
    .digest();
}

/**
 * What a KMS in a guest answers when it is asked over `nonce` (32 bytes); `evidence` asks its guest, over 32 bytes.
 */
export async function attest(
  version: Attested,
  nonce: Uint8Array,
  key: Uint8Array,
  evidence: (nonce: Uint8Array) => Promise<unknown>,
): Promise<{ version: Attested; key: string; evidence: unknown }> {
  return { version, key: key.toHex(), evidence: await evidence(attestationNonce(version, nonce, key)) };
}

const schema = object({
  version: oneOf("caisson/kms-attestation/v1", "caisson/kms-recovery/v1"),
  key: hex(32),
  evidence: ((value) => value) as Schema<unknown>,
});

/** Whose evidence it is, by whom its root secret was made, and what became of the judgement. */
export interface JudgedKms {
  /** Its identity key, or the key to seal shares to; hexadecimal. */
  key: string;
  /** Whether its guest had no key provider, so that it made the root secret; otherwise it took that of a replica. */
  first: boolean;
  /** The other KMS that opens the volume on which it keeps the root secret; hexadecimal. */
  upstream?: string;
  report: Report;
}

/** By what a KMS's guest is judged. */
export interface KmsJudgement extends Omit<Judgement, "expectedReportData"> {
  /** Finds collateral for evidence, in place of `collateral`. */
  collateralFor?: (evidence: AnyEvidence) => Promise<VerifiedCollateral | undefined>;
}

/** Judges what a KMS answered to `nonce`. Throws KmsError "kms/attestation", VerifyError. */
export async function judgeKms(
  bytes: Uint8Array,
  nonce: Uint8Array,
  { collateralFor, ...judgement }: KmsJudgement,
  version: Attested = "caisson/kms-attestation/v1",
): Promise<JudgedKms> {
  let document: ReturnType<typeof schema>;
  try {
    document = schema(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
  } catch (error) {
    if (!(error instanceof SchemaError || error instanceof SyntaxError || error instanceof TypeError))
      throw error;
    throw new KmsError("kms/attestation", `what the KMS answered is not an attestation: ${messageOf(error)}`);
  }
  const { key } = document;
  if (document.version !== version) {
    throw new KmsError("kms/attestation", `the KMS answers with ${document.version}, not ${version}`);
  }
  const evidence = readEvidence(new TextEncoder().encode(JSON.stringify(document.evidence)));
  const nobody = { name: "none", id: "" } as const;
  const bound = attestationNonce(version, nonce, Uint8Array.fromHex(key));
  const { keyProviders: named = [] } = judgement.policy;
  const others = named === "any" ? [] : named.filter(({ name, id }) => name === "kms" && id !== key);
  // A guest that recovers has no keys of anybody's, but for those of its volume.
  const itself = version === "caisson/kms-recovery/v1" ? [] : [{ name: "kms" as const, id: key }];
  const providers = [nobody, ...itself, ...others];
  const collateral = await collateralFor?.(evidence);
  const report = await verifyEvidence(evidence, {
    ...judgement,
    ...(collateral !== undefined && { collateral }),
    policy: {
      ...judgement.policy,
      keyProviders: providers,
      freshness: "nonce",
    },
    expectedReportData: { scheme: "caisson/app/v1", fields: { nonce: bound } },
  });
  const provider = report.checks.find(({ id }) => id === "keys/key-provider")?.actual;
  const upstream = others.find(({ id }) => provider === `kms ${id}`)?.id;
  return { key, first: provider === nobody.name, ...(upstream !== undefined && { upstream }), report };
}

/** Asks the KMS at `url` who it is, over a new nonce, and judges what it answers. Throws KmsError, VerifyError. */
export async function askKms(url: string, judgement: KmsJudgement, version?: Attested): Promise<JudgedKms> {
  const nonce = randomBytes(32);
  return judgeKms(await get(url, `${attestationPath}?nonce=${nonce.toHex()}`), nonce, judgement, version);
}

/** What a KMS answers at `path`, to `body` where there is one. Throws KmsError "kms/unreachable", "kms/refused". */
export async function get(url: string, path: string, body?: string): Promise<Uint8Array> {
  let answer: { status: number; bytes: Uint8Array };
  try {
    const within = {
      redirect: "error",
      signal: AbortSignal.timeout(answerMs),
      ...(body !== undefined && { method: "POST", body }),
    } as const;
    const response = await fetch(new URL(path, url), within);
    const { bytes, more } = await firstBytes(response.body, limits.document);
    if (more) throw new Error(`it sends more than ${limits.document} bytes`);
    answer = { status: response.status, bytes };
  } catch (error) {
    throw new KmsError("kms/unreachable", `${url}: ${reasonOf(error)}`);
  }
  if (answer.status === 200) return answer.bytes;
  const refusal = refusalSchema.safeParse(jsonOf(answer.bytes));
  const said = refusal.success
    ? `${refusal.data.error.message}   [${refusal.data.error.code}]`
    : answer.status;
  throw new KmsError("kms/refused", `the KMS at ${url} refuses ${path.replace(/\?.*/, "")}: ${said}`);
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}
