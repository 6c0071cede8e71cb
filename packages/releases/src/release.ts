// SPDX-License-Identifier: Apache-2.0
/**
 * Which image an application may run today: a release that its owners signed, and that nobody took back.
 *
 * The order is that of a KMS and of a verifier: whose rules (identity.ts), who signed, what for, when, in a log that
 * others have seen, not below the minimum and not revoked, rebuilt by others. The first no is the answer.
 *
 * What must not go back (`Floor`) comes from the log that the caller follows (application.ts), or from what he
 * remembers; it is an argument, because nothing here remembers anything.
 */

import { type Envelope, signersOf } from "./envelope.ts";
import { ReleaseError } from "./errors.ts";
import { type Identity, requireSigners } from "./identity.ts";
import type { PublicKey } from "./keys.ts";
import { logEntry } from "./log/entry.ts";
import { readTrustPolicy } from "./log/policy.ts";
import { checkAge, type Logged, type LogProof, verifyLogged } from "./log/proof.ts";
import type { Statement } from "./statement.ts";

/** What was measured: digests (hex) of the image's manifest and of the application's description. */
export interface Measured {
  manifest: string;
  description: string;
}

/** What is known of an application's past, and does not go back. */
export interface Floor {
  /** The newest generation of its identity that was seen, and its document's hash where that is known. */
  generation: number;
  identity?: string;
  /** The highest `minimum` of any release that was seen. */
  minimum: number;
  /** Releases and generations that were revoked. */
  releases: ReadonlySet<number>;
  generations: ReadonlySet<number>;
}

export const emptyFloor: Floor = { generation: 0, minimum: 0, releases: new Set(), generations: new Set() };

/** What a log says that the asker follows by himself. */
export interface Followed {
  /** Statements' hashes of the application's releases, by number. */
  releases: ReadonlyMap<number, string>;
  /** When the newest quorum saw the newest checkpoint, ms since 1970; undefined where the policy needs none. */
  seen: number | undefined;
}

/** Everything that one release is judged by. */
export interface ReleaseJudgement {
  /** The application's id, hex. */
  id: string;
  /** Its newest generation (`followIdentity`). */
  identity: Identity;
  measured: Measured;
  /** Milliseconds since 1970. */
  now: number;
  floor: Floor;
  /** That the release is logged; asked for where the identity names a log and `followed` does not say it. */
  proof?: LogProof;
  followed?: Followed;
  /** The oldest view of the log that is good enough, in ms. */
  maximumLogAgeMs: number;
  rebuilds: readonly Statement<"rebuild">[];
  /** What the asker demands beyond the identity's own rules. */
  demands?: Demands;
}

/** A relying party may want more than the owners promised. */
export interface Demands {
  minimumRelease?: number;
  /** A release has to be logged, whatever its identity says. */
  requireLog?: boolean;
  /** How many rebuilders have to agree, at least. */
  requireRebuilds?: number;
}

/** Throws ReleaseError with the first reason why this release may not run; otherwise what the log said. */
export async function judgeRelease(
  release: Statement<"release">,
  judgement: ReleaseJudgement,
): Promise<{ logged?: Logged }> {
  const { identity, measured, now, floor, demands = {} } = judgement;
  const { predicate } = release;
  checkOwner(predicate, judgement);
  await requireSigners(release.envelope, identity.document.owners, "release/signature", "owners");
  checkSubjects(release.subjects, measured, identity);
  if (now < predicate.notBefore) {
    throw new ReleaseError("release/not-yet-valid", "this release is for later", {
      expected: new Date(predicate.notBefore).toISOString(),
      actual: new Date(now).toISOString(),
    });
  }
  if (now >= predicate.expires) {
    throw new ReleaseError("release/expired", "this release has expired", {
      expected: `before ${new Date(predicate.expires).toISOString()}`,
      actual: new Date(now).toISOString(),
    });
  }
  const logged = await checkLogged(release, judgement);
  const minimum = Math.max(floor.minimum, predicate.minimum, demands.minimumRelease ?? 0);
  if (predicate.release < minimum) {
    throw new ReleaseError("release/below-minimum", "a later release has set a higher minimum", {
      expected: `${minimum}`,
      actual: `${predicate.release}`,
    });
  }
  if (floor.releases.has(predicate.release) || floor.generations.has(predicate.generation)) {
    throw new ReleaseError("release/revoked", "this release was revoked");
  }
  await checkRebuilds(release, judgement);
  return logged === undefined ? {} : { logged };
}

function checkOwner(
  { app, generation }: Statement<"release">["predicate"],
  { id, identity, floor }: ReleaseJudgement,
): void {
  if (app !== id) {
    throw new ReleaseError("release/app", "this is a release of another application", {
      expected: id,
      actual: app,
    });
  }
  const own = identity.document.generation;
  if (own === floor.generation && floor.identity !== undefined && floor.identity !== identity.hash) {
    // Whoever had the keys of a generation can sign a second one after it.
    throw new ReleaseError("identity/chain", `another generation ${own} of this application is known`, {
      expected: floor.identity,
      actual: identity.hash,
    });
  }
  const newest = Math.max(own, floor.generation);
  if (generation === newest && own === newest) return;
  throw new ReleaseError("release/generation", "owners of another generation than the newest signed this", {
    expected: `${newest}`,
    actual: `${generation}`,
  });
}

function checkSubjects(
  [manifest, description]: readonly string[],
  measured: Measured,
  { document: { immutable } }: Identity,
): void {
  if (immutable !== null && immutable !== measured.description) {
    throw new ReleaseError(
      "release/subject",
      "this application was made immutable, with another description",
      {
        expected: immutable,
        actual: measured.description,
      },
    );
  }
  if (manifest === measured.manifest && description === measured.description) return;
  throw new ReleaseError("release/subject", "the release is not of what was measured", {
    expected: `manifest ${manifest}, description ${description}`,
    actual: `manifest ${measured.manifest}, description ${measured.description}`,
  });
}

async function checkLogged(
  release: Statement<"release">,
  { id, identity, proof, followed, now, maximumLogAgeMs, demands = {} }: ReleaseJudgement,
): Promise<Logged | undefined> {
  const { log } = identity.document;
  if (log === null) {
    if (demands.requireLog !== true) return undefined;
    throw new ReleaseError("log/proof", "only logged releases are wanted, and this application names no log");
  }
  if (followed !== undefined) {
    checkFollowed(release, followed, now, maximumLogAgeMs);
    return undefined;
  }
  if (proof === undefined) {
    throw new ReleaseError(
      "log/proof",
      "releases of this application are logged, and there is no proof of this one",
    );
  }
  const entry = logEntry("release", id, release.hash);
  return verifyLogged(entry, proof, readTrustPolicy(log.policy), { now, maximumAgeMs: maximumLogAgeMs });
}

/** By a log that was read to its end: nobody can hide a later view, nor show a second release of the same number. */
function checkFollowed(
  { hash, predicate }: Statement<"release">,
  { releases, seen }: Followed,
  now: number,
  maximumAgeMs: number,
): void {
  checkAge(seen, now, maximumAgeMs);
  const logged = releases.get(predicate.release);
  if (logged === hash) return;
  throw logged === undefined
    ? new ReleaseError("log/proof", `release ${predicate.release} is not in the log`)
    : new ReleaseError("release/previous", `the log has another release ${predicate.release}`, {
        expected: logged,
        actual: hash,
      });
}

/**
 * Rebuilders that got another image from this release's sources stop it, however many agree with it. What they say of
 * other releases says nothing of this one.
 */
async function checkRebuilds(
  { hash }: Statement<"release">,
  { id, identity, measured, rebuilds, demands = {} }: ReleaseJudgement,
): Promise<void> {
  const rebuild = identity.document.rebuild ?? { threshold: 0, keys: [] };
  const threshold = Math.max(rebuild.threshold, demands.requireRebuilds ?? 0);
  const agreeing = new Set<string>();
  for (const { envelope, subjects, predicate } of rebuilds) {
    if (predicate.app !== id || predicate.release !== hash) continue;
    const signers = await rebuildersOf(envelope, rebuild.keys);
    if (signers.length > 0 && subjects[0] !== measured.manifest) {
      throw new ReleaseError("rebuild/differs", "somebody who built it again got another image", {
        expected: measured.manifest,
        actual: subjects[0]!,
      });
    }
    for (const { key } of signers) agreeing.add(key);
  }
  if (agreeing.size >= threshold) return;
  throw new ReleaseError("rebuild/threshold", "too few have built this image again", {
    expected: `${threshold} of ${rebuild.keys.length}`,
    actual: `${agreeing.size}`,
  });
}

/**
 * Who signed a rebuild. More signatures than rebuilders are refused: trying each with each key would be work that anybody
 * can ask for. Throws ReleaseError "envelope/malformed".
 */
export function rebuildersOf(envelope: Envelope, keys: readonly PublicKey[]): Promise<PublicKey[]> {
  if (envelope.signatures.length <= Math.max(1, keys.length)) return signersOf(envelope, keys);
  throw new ReleaseError("envelope/malformed", "a rebuild has more signatures than there are rebuilders");
}

/** That `next` is the release after `before` (undefined: the first). Throws ReleaseError "release/previous". */
export function checkSuccessor(before: Statement<"release"> | undefined, next: Statement<"release">): void {
  const expected = {
    release: (before?.predicate.release ?? 0) + 1,
    previous: before?.hash ?? null,
    minimum: before?.predicate.minimum ?? 1,
  };
  const { release, previous, minimum } = next.predicate;
  if (
    release === expected.release &&
    previous === expected.previous &&
    minimum >= expected.minimum &&
    minimum <= release
  ) {
    return;
  }
  throw new ReleaseError("release/previous", "this is not the release after the one before it", {
    expected: `release ${expected.release} after ${expected.previous}, minimum ${expected.minimum} or more`,
    actual: `release ${release} after ${previous}, minimum ${minimum}`,
  });
}

/** The floor with what one more release says. */
export function raiseFloor(floor: Floor, { predicate }: Statement<"release">): Floor {
  return {
    ...floor,
    generation: Math.max(floor.generation, predicate.generation),
    minimum: Math.max(floor.minimum, predicate.minimum),
  };
}

/** The floor with a revocation, once its stop keys are checked. Throws ReleaseError. */
export async function revoke(
  floor: Floor,
  { predicate, subjects, envelope }: Statement<"revocation">,
  { id, identity }: Pick<ReleaseJudgement, "id" | "identity">,
): Promise<Floor> {
  if (predicate.app !== id || subjects[0] !== id) {
    throw new ReleaseError("release/app", "this revokes releases of another application", {
      expected: id,
      actual: predicate.app,
    });
  }
  await requireSigners(envelope, identity.document.stop, "release/signature", "stop keys");
  return {
    ...floor,
    releases: new Set([...floor.releases, ...predicate.releases]),
    generations: new Set([...floor.generations, ...predicate.generations]),
  };
}
