// SPDX-License-Identifier: Apache-2.0
/**
 * Everything that a release is judged by, in one document that travels with evidence (`caisson/bundle/v1`). Whoever
 * carries it is not believed: each part proves itself, or is compared with what was measured.
 */
import { text as utf8 } from "@caisson/vocabulary/frame";
import { list, object, oneOf, optional, type Schema, text } from "@caisson/vocabulary/schema";
import { readValue } from "./canonical.ts";
import { type Envelope, readEnvelope, writeEnvelope } from "./envelope.ts";
import { followIdentity, type Identity } from "./identity.ts";
import { type LogProof, readProof, writeProof } from "./log/proof.ts";
import { type Floor, judgeRelease, type ReleaseJudgement, raiseFloor, revoke } from "./release.ts";
import { readStatement, type Statement } from "./statement.ts";

export const bundleVersion = "caisson/bundle/v1";

export interface Bundle {
  /** The first identity document, and the signed generations after it. */
  identity: Uint8Array;
  generations: readonly Envelope[];
  release: Envelope;
  proof?: LogProof;
  rebuilds: readonly Envelope[];
  revocations: readonly Envelope[];
  /** Who built the image: a bundle of Sigstore, as parsed JSON. */
  provenance?: unknown;
  /** The manifest of the released image: whose registers are compared with those of the quote. */
  manifest?: Uint8Array;
}

const anything: Schema<unknown> = (value) => value;
const schema = object({
  version: oneOf(bundleVersion),
  identity: text("an identity document", /^/, 16 * 1024),
  generations: list(anything, 0, 256),
  release: anything,
  proof: optional(text("a tlog-proof", /^/, 64 * 1024)),
  rebuilds: list(anything, 0, 32),
  revocations: list(anything, 0, 64),
  provenance: optional(anything),
  manifest: optional(text("a manifest", /^/, 256 * 1024)),
});

/** Reads parsed JSON. Throws ReleaseError "bundle/malformed", or the code of the part that is malformed. */
export function readBundle(value: unknown): Bundle {
  const { identity, generations, release, proof, rebuilds, revocations, provenance, manifest } = readValue(
    value,
    schema,
    "bundle/malformed",
  );
  return {
    identity: utf8(identity),
    generations: generations.map(readEnvelope),
    release: readEnvelope(release),
    ...(proof !== undefined && { proof: readProof(proof) }),
    rebuilds: rebuilds.map(readEnvelope),
    revocations: revocations.map(readEnvelope),
    ...(provenance !== undefined && { provenance }),
    ...(manifest !== undefined && { manifest: utf8(manifest) }),
  };
}

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** A bundle as JSON that `readBundle` takes. */
export function writeBundle(bundle: Bundle): object {
  const { identity, generations, release, proof, rebuilds, revocations, provenance, manifest } = bundle;
  return {
    version: bundleVersion,
    identity: textOf(identity),
    generations: generations.map(writeEnvelope),
    release: writeEnvelope(release),
    ...(proof !== undefined && { proof: writeProof(proof) }),
    rebuilds: rebuilds.map(writeEnvelope),
    revocations: revocations.map(writeEnvelope),
    ...(provenance !== undefined && { provenance }),
    ...(manifest !== undefined && { manifest: textOf(manifest) }),
  };
}

/** A release that may run, and what is known since it was judged. */
export interface AcceptedRelease {
  identity: Identity;
  release: Statement<"release">;
  /** What was known before, raised by what the bundle proved. */
  floor: Floor;
}

/** What `judgeRelease` is asked, but for what the bundle carries; `rebuilds` are those known beside it. */
export type BundleJudgement = Omit<ReleaseJudgement, "identity" | "proof">;

/** Judges what a bundle carries. Throws ReleaseError with the first reason why this release may not run. */
export async function judgeBundle(bundle: Bundle, judgement: BundleJudgement): Promise<AcceptedRelease> {
  const { id } = judgement;
  const identity = await followIdentity(id, bundle.identity, bundle.generations);
  const release = await readStatement("release", bundle.release);
  let { floor } = judgement;
  for (const envelope of bundle.revocations) {
    floor = await revoke(floor, await readStatement("revocation", envelope), { id, identity });
  }
  const carried = await Promise.all(bundle.rebuilds.map((envelope) => readStatement("rebuild", envelope)));
  await judgeRelease(release, {
    ...judgement,
    identity,
    floor,
    rebuilds: [...judgement.rebuilds, ...carried],
    ...(bundle.proof !== undefined && { proof: bundle.proof }),
  });
  return { identity, release, floor: { ...raiseFloor(floor, release), identity: identity.hash } };
}
