// SPDX-License-Identifier: Apache-2.0
/**
 * Which image an application may run today: a release that its owners signed, and that nobody took back.
 *
 * The order is that of a KMS and of a verifier: whose rules (identity.ts), who signed, what for, when, in a log that
 * others have seen, not below the minimum and not revoked, rebuilt by others. The first no is the answer.
 *
 * What must not go back (`Floor`) comes from the log that the caller follows, or from what he remembers; it is an
 * argument, because nothing here remembers anything.
 */

import { signersOf } from "./envelope.ts";
import { ReleaseError } from "./errors.ts";
import { type Identity, requireSigners } from "./identity.ts";
import { readTrustPolicy } from "./log/policy.ts";
import { type Logged, type LogProof, verifyLogged } from "./log/proof.ts";
import type { Statement } from "./statement.ts";

/** What was measured: digests (hex) of the image's manifest and of the application's description. */
export interface Measured {
  manifest: string;
  description: string;
}

/** What is known of an application's past. */
export interface Floor {
  /** The highest `minimum` of any release that was seen. */
  minimum: number;
  /** Releases and generations that were revoked. */
  releases: ReadonlySet<number>;
  generations: ReadonlySet<number>;
}

export const emptyFloor: Floor = { minimum: 0, releases: new Set(), generations: new Set() };

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
  /** That the release is logged; asked for where the identity names a log. */
  proof?: LogProof;
  /** The oldest view of the log that is good enough, in ms. */
  maximumLogAgeMs: number;
  rebuilds: readonly Statement<"rebuild">[];
}

/** Throws ReleaseError with the first reason why this release may not run; otherwise what the log said. */
export async function judgeRelease(
  release: Statement<"release">,
  judgement: ReleaseJudgement,
): Promise<{ logged?: Logged }> {
  const { identity, measured, now, floor } = judgement;
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
  const minimum = Math.max(floor.minimum, predicate.minimum);
  if (predicate.release < minimum) {
    throw new ReleaseError("release/below-minimum", "a later release has set a higher minimum", {
      expected: `${minimum}`,
      actual: `${predicate.release}`,
    });
  }
  if (floor.releases.has(predicate.release) || floor.generations.has(predicate.generation)) {
    throw new ReleaseError("release/revoked", "this release was revoked");
  }
  await checkRebuilds(judgement);
  return logged === undefined ? {} : { logged };
}

function checkOwner(
  { app, generation }: Statement<"release">["predicate"],
  { id, identity }: ReleaseJudgement,
): void {
  if (app !== id) {
    throw new ReleaseError("release/app", "this is a release of another application", {
      expected: id,
      actual: app,
    });
  }
  if (generation === identity.document.generation) return;
  throw new ReleaseError("release/generation", "owners of another generation than the newest signed this", {
    expected: `${identity.document.generation}`,
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
  { envelope }: Statement<"release">,
  { identity, proof, now, maximumLogAgeMs }: ReleaseJudgement,
): Promise<Logged | undefined> {
  const { log } = identity.document;
  if (log === null) return undefined;
  if (proof === undefined) {
    throw new ReleaseError(
      "log/proof",
      "releases of this application are logged, and there is no proof of this one",
    );
  }
  return verifyLogged(envelope.payload, proof, readTrustPolicy(log.policy), {
    now,
    maximumAgeMs: maximumLogAgeMs,
  });
}

/** Rebuilders that signed another result for the same sources stop the release, however many agree with it. */
async function checkRebuilds({ id, identity, measured, rebuilds }: ReleaseJudgement): Promise<void> {
  const { rebuild } = identity.document;
  if (rebuild === null) return;
  const agreeing = new Set<string>();
  for (const { envelope, subjects, predicate } of rebuilds) {
    if (predicate.app !== id) continue;
    const signers = await signersOf(envelope, rebuild.keys);
    if (signers.length > 0 && subjects[0] !== measured.manifest) {
      throw new ReleaseError("rebuild/differs", "somebody who built it again got another image", {
        expected: measured.manifest,
        actual: subjects[0]!,
      });
    }
    for (const { key } of signers) agreeing.add(key);
  }
  if (agreeing.size >= rebuild.threshold) return;
  throw new ReleaseError("rebuild/threshold", "too few have built this image again", {
    expected: `${rebuild.threshold} of ${rebuild.keys.length}`,
    actual: `${agreeing.size}`,
  });
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
  return { ...floor, minimum: Math.max(floor.minimum, predicate.minimum) };
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
    minimum: floor.minimum,
    releases: new Set([...floor.releases, ...predicate.releases]),
    generations: new Set([...floor.generations, ...predicate.generations]),
  };
}
