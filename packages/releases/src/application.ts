// SPDX-License-Identifier: Apache-2.0
/**
 * An application as its documents made it, one after the other: what a log's writer lets in, and what whoever follows a
 * log knows. The same rules for both, so that what the one refuses never counts for the other.
 *
 * Invariants: the first document is the identity that the id is the hash of; generations, releases and secrets follow
 * one another without a gap, each signed as the identity of that moment demands; what was revoked stays so.
 */
import type { Envelope } from "./envelope.ts";
import { ReleaseError } from "./errors.ts";
import { type Identity, nextGeneration, readIdentity, requireSigners } from "./identity.ts";
import type { EntryKind } from "./log/entry.ts";
import { checkSuccessor, emptyFloor, type Floor, raiseFloor, rebuildersOf, revoke } from "./release.ts";
import { readSecrets, type Secrets } from "./secrets.ts";
import { readStatement, type Statement } from "./statement.ts";

export interface Application {
  /** Hex. */
  id: string;
  /** Its newest generation. */
  identity: Identity;
  /** The first document and the signed ones after it, as evidence carries them. */
  first: Uint8Array;
  generations: readonly Envelope[];
  newest: Statement<"release"> | undefined;
  /** Statements' hashes of all releases, by number. */
  releases: ReadonlyMap<number, string>;
  floor: Floor;
  /** But those of releases below the minimum, which nobody asks about any more. */
  rebuilds: readonly Statement<"rebuild">[];
  /** The newest set of secrets for each KMS, by its identity (hex). */
  secrets: ReadonlyMap<string, Pick<Secrets, "hash"> & { number: number }>;
}

/** The application of a first identity document. Throws ReleaseError. */
export async function beginApplication(first: Uint8Array): Promise<Application> {
  const identity = await readIdentity(first);
  if (identity.document.generation !== 0) {
    throw new ReleaseError("identity/chain", "an application begins with generation 0");
  }
  return {
    id: identity.hash,
    identity,
    first,
    generations: [],
    newest: undefined,
    releases: new Map(),
    floor: { ...emptyFloor, identity: identity.hash },
    rebuilds: [],
    secrets: new Map(),
  };
}

/** The application after one more document. Throws ReleaseError where that is not the next one of its kind. */
export async function advance(
  application: Application,
  kind: EntryKind,
  envelope: Envelope,
): Promise<Application> {
  switch (kind) {
    case "identity":
      return withGeneration(application, envelope);
    case "release":
      return withRelease(application, envelope);
    case "revocation": {
      const revocation = await readStatement("revocation", envelope);
      return { ...application, floor: await revoke(application.floor, revocation, application) };
    }
    case "rebuild": {
      const { id, identity } = application;
      const rebuild = await readStatement("rebuild", envelope);
      checkApp(rebuild.predicate.app, id);
      const signers = await rebuildersOf(envelope, identity.document.rebuild?.keys ?? []);
      if (signers.length === 0) {
        throw new ReleaseError("rebuild/threshold", "none of the application's rebuilders signed this");
      }
      return { ...application, rebuilds: await withRebuild(application, rebuild) };
    }
    case "secrets":
      return withSecrets(application, envelope);
  }
}

async function withGeneration(application: Application, envelope: Envelope): Promise<Application> {
  const identity = await nextGeneration(application.identity, envelope);
  const { generation } = identity.document;
  return {
    ...application,
    identity,
    generations: [...application.generations, envelope],
    floor: { ...application.floor, generation, identity: identity.hash },
  };
}

async function withRelease(application: Application, envelope: Envelope): Promise<Application> {
  const { id, identity } = application;
  const release = await readStatement("release", envelope);
  checkApp(release.predicate.app, id);
  if (release.predicate.generation !== identity.document.generation) {
    throw new ReleaseError("release/generation", "owners of another generation than the newest signed this");
  }
  await requireSigners(envelope, identity.document.owners, "release/signature", "owners");
  checkSuccessor(application.newest, release);
  const floor = raiseFloor(application.floor, release);
  return {
    ...application,
    newest: release,
    releases: new Map([...application.releases, [release.predicate.release, release.hash]]),
    floor,
    rebuilds: rebuildsAbove(application, floor.minimum),
  };
}

async function withSecrets(application: Application, envelope: Envelope): Promise<Application> {
  const { document, hash } = await readSecrets(envelope, application.id, application.identity);
  const before = application.secrets.get(document.kms);
  if (document.number !== (before?.number ?? 0) + 1 || document.previous !== (before?.hash ?? null)) {
    throw new ReleaseError("secrets/previous", "these are not the secrets after those before them", {
      expected: `number ${(before?.number ?? 0) + 1} after ${before?.hash ?? null}`,
      actual: `number ${document.number} after ${document.previous}`,
    });
  }
  const { number } = document;
  return { ...application, secrets: new Map([...application.secrets, [document.kms, { number, hash }]]) };
}

/**
 * An application's rebuilds with one more. Of a release that may run yet each rebuilder has two results at most, which say
 * all that more could: that he got another image. Throws ReleaseError "log/proof" for a release that is not there.
 */
async function withRebuild(
  { releases, floor, rebuilds, identity }: Application,
  rebuild: Statement<"rebuild">,
): Promise<Application["rebuilds"]> {
  const { release } = rebuild.predicate;
  const [number] = [...releases].find(([, hash]) => hash === release) ?? [];
  if (number === undefined) {
    throw new ReleaseError("log/proof", "this is a rebuild of a release that is not there before it");
  }
  if (number < floor.minimum) return rebuilds;
  const keys = identity.document.rebuild?.keys ?? [];
  const said = new Map(keys.map(({ key }) => [key, new Set<string>()]));
  for (const { envelope, subjects, predicate } of rebuilds) {
    if (predicate.release !== release) continue;
    for (const { key } of await rebuildersOf(envelope, keys)) said.get(key)!.add(subjects[0]!);
  }
  const signers = await rebuildersOf(rebuild.envelope, keys);
  const isNew = signers.some(
    ({ key }) => said.get(key)!.size < 2 && !said.get(key)!.has(rebuild.subjects[0]!),
  );
  return isNew ? [...rebuilds, rebuild] : rebuilds;
}

/** An application's rebuilds but those of releases that a new minimum leaves behind. */
function rebuildsAbove({ floor, releases, rebuilds }: Application, minimum: number): Application["rebuilds"] {
  const below = new Set<string | undefined>();
  for (let number = floor.minimum; number < minimum; number++) below.add(releases.get(number));
  return below.size === 0 ? rebuilds : rebuilds.filter(({ predicate }) => !below.has(predicate.release));
}

function checkApp(app: string, id: string): void {
  if (app === id) return;
  throw new ReleaseError("release/app", "this is of another application", { expected: id, actual: app });
}
