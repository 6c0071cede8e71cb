// SPDX-License-Identifier: Apache-2.0
/**
 * Policy files: which machines get the keys of which application.
 *
 *     version: caisson/kms-policy/v1
 *     app: <20 bytes, hex>              # whose keys: the payload of the event app-id
 *     keyVersion: 1                     # raise it to retire the keys released so far
 *     root: 2                           # which root its keys follow from (roots.ts); missing: 1
 *     volumeOwner: <an app, hex>        # whose volumes it opens, where they are not its own: an earlier version's
 *     manifests: [<SHA-256, hex>, …]    # images whose manifests lie in manifests/ and give reference values
 *     policy: { version: caisson/policy/v1, … }
 *
 * One file (YAML or JSON) for one application; what a KMS adds to its `policy`, because a KMS cannot do without, is in
 * `releasePolicy`. All files are read at once; one that cannot be read is an error of the whole directory.
 */

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { applicationId, type GuestConfig } from "@caisson/protocol/guest-config";
import { hex } from "@caisson/protocol/hex";
import { mistakesInWords } from "@caisson/protocol/zod-words";
import {
  acceptedPlatforms,
  comparedRegisters,
  coveringReferences,
  type Policy,
  type Reference,
  readPolicy,
  readReferences,
  VerifyError,
} from "@caisson/verify";
import { readYaml } from "@caisson/verify/policy-text";
import { bootEvents } from "@caisson/vocabulary/events";
import { messageOf } from "@caisson/vocabulary/failure";
import { provesHardware } from "@caisson/vocabulary/platforms";
import { reasonOf } from "@caisson/vocabulary/system-error";
import * as z from "zod";
import { KmsError } from "./errors.ts";
import { type AppPolicy, PolicySet, type PolicyWarning } from "./policy-set.ts";
import { mostRoots } from "./roots.ts";
import { checkWriters, readClosed } from "./writers.ts";

const schema = z.strictObject({
  version: z.literal("caisson/kms-policy/v1"),
  app: z.union([hex(20), hex(32)]),
  keyVersion: z.int().min(1).max(0xffff_ffff),
  root: z.int().min(1).max(mostRoots).optional(),
  manifests: z.array(hex(32)).max(256).optional(),
  volumeOwner: z.union([hex(20), hex(32)]).optional(),
  policy: z.unknown(),
});

/** Policy files are small; more is a mistake. */
const sizeLimit = 1024 * 1024;

/**
 * Reads all policy files of a directory, for the KMS with the identity `identityKey` (hex). Policies that accept the
 * emulated platform are an error unless `development`. Throws KmsError `policy/…`.
 */
export function loadPolicies(directory: string, identityKey: string, development: boolean): PolicySet {
  const reading = readDirectory(directory, identityKey, development);
  for (;;) {
    const { done, value } = reading.next();
    if (done === true) return value;
  }
}

/** For how long files are read while others wait for their turn, ms. */
const turnMs = 5;

/** As `loadPolicies`, in turns with whatever else this process does: a million files take a minute. */
export async function loadPoliciesInTurns(...about: Parameters<typeof loadPolicies>): Promise<PolicySet> {
  const reading = readDirectory(...about);
  for (let began = performance.now(); ; ) {
    const { done, value } = reading.next();
    if (done === true) return value;
    if (performance.now() - began < turnMs) continue;
    await setImmediate();
    began = performance.now();
  }
}

/** Yields after each file. */
function* readDirectory(
  directory: string,
  identityKey: string,
  development: boolean,
): Generator<void, PolicySet> {
  if (!existsSync(directory)) throw new KmsError("policy/none", `there is no directory ${directory}`);
  // Who can write here decides who gets keys, from the next start or SIGHUP on. Manifests are named by their hash.
  const writers = { code: "policy/permissions", parents: !development } as const;
  checkWriters(directory, writers);
  const manifests = loadManifests(join(directory, "manifests"));
  const reading = { manifests, identityKey, development };
  const policies = new PolicySet();
  const again = rereading(reading);
  for (const name of readdirSync(directory).sort()) {
    if (!/\.(ya?ml|json)$/.test(name)) continue;
    const path = join(directory, name);
    const bytes = readable(path, () => readClosed(path, writers));
    const { app, policy } = readAppPolicy(path, bytes, reading);
    if (policies.has(app)) {
      throw new KmsError("policy/duplicate", `${path}: another file has a policy for app ${app} already`);
    }
    policies.set(app, policy, bytes, again);
    yield;
  }
  if (policies.size === 0) {
    throw new KmsError("policy/none", `${directory} holds no policy file (*.yaml, *.yml, *.json)`);
  }
  return policies;
}

/** What one policy file is read with. */
export interface PolicyReading {
  manifests: ReadonlyMap<string, AllowedManifest>;
  /** The KMS's identity, hex. */
  identityKey: string;
  development: boolean;
}

/** Reads a text again that was read before (policy-set.ts). */
export const rereading =
  (reading: PolicyReading) =>
  (app: string, bytes: Uint8Array): AppPolicy =>
    readAppPolicy(`the policy of ${app}`, bytes, reading).policy;

/** One policy file; `path` says in messages which. Throws KmsError "policy/malformed". */
export function readAppPolicy(
  path: string,
  bytes: Uint8Array,
  { manifests, identityKey, development }: PolicyReading,
): { app: string; policy: AppPolicy } {
  const file = parseFile(path, Buffer.from(bytes));
  const policy = releasePolicy(path, file.policy, file.app, identityKey);
  if (!development && !acceptedPlatforms(policy).every((platform) => provesHardware[platform])) {
    throw new KmsError("policy/malformed", `${path} accepts the emulated platform, which proves nothing`, {
      fix: "caisson kms serve --development, on a machine that holds no production keys",
    });
  }
  const references = allowedReferences(path, file, manifests);
  return {
    app: file.app,
    policy: {
      policy,
      references,
      keyVersion: file.keyVersion,
      root: file.root ?? 1,
      ...(file.volumeOwner !== undefined && { volumeOwner: file.volumeOwner }),
      digest: createHash("sha256").update(bytes).digest(),
      warnings: warningsOf(path, policy, references),
    },
  };
}

/** Reference values of the manifests that a file allows, each of which must be of the file's application. */
function allowedReferences(
  path: string,
  { app, manifests: allowed = [] }: z.infer<typeof schema>,
  manifests: ReadonlyMap<string, AllowedManifest>,
): Reference[] {
  return allowed.flatMap((sha256) => {
    const manifest = manifests.get(sha256);
    if (manifest === undefined) {
      throw new KmsError(
        "policy/malformed",
        `${path} allows the manifest ${sha256}, which is not in manifests/`,
      );
    }
    if (manifest.app !== undefined && manifest.app !== app) {
      throw new KmsError("policy/malformed", `${path}: ${manifest.name} is of another application`, {
        facts: [
          ["found", manifest.app],
          ["expected", app],
        ],
        fix: "the file's app, or the manifest of this one",
      });
    }
    return manifest.references;
  });
}

function warningsOf(path: string, policy: Policy, references: readonly Reference[]): PolicyWarning[] {
  const warnings: PolicyWarning[] = [];
  if (
    policy.registers?.hostAcpi === "any" &&
    acceptedPlatforms(policy).some((name) => provesHardware[name])
  ) {
    warnings.push({
      code: "policy/host-acpi",
      message: `${path} leaves all of RTMR0 open: a host may run ACPI byte code of its own in the guest`,
    });
  }
  const compared = comparedRegisters(policy);
  for (const platform of acceptedPlatforms(policy)) {
    if (compared.length === 0 || coveringReferences(platform, policy, references).length > 0) continue;
    warnings.push({
      code: "policy/not-covered",
      message:
        `${path} compares ${compared.join(", ")}, and no reference for ${platform} says what all of them are:` +
        " every such machine will be denied",
    });
  }
  return warnings;
}

/**
 * What a KMS adds to a policy: this application (any instance of it, unless the policy says which; its compose hash
 * follows from its id, see release.ts); this KMS as key provider; a fresh nonce; and a log that ends with
 * `key-provider`, because a machine asks for its keys exactly once, before `system-ready`.
 */
function releasePolicy(path: string, document: unknown, app: string, identityKey: string): Policy {
  const policy = readRules(path, document);
  checkApplication(path, policy, app);
  const sequence: readonly string[] = policy.events?.sequence ?? bootEvents;
  const end = sequence.indexOf("key-provider");
  if (end < 0) {
    throw new KmsError("policy/malformed", `${path}: policy.events.sequence does not contain key-provider`);
  }
  const { afterBoundary: _, ...events } = policy.events ?? {};
  return {
    ...policy,
    app: { composeHash: "any", instanceId: "any", ...policy.app, id: [app] },
    events: { ...events, sequence: sequence.slice(0, end + 1) },
    keyProviders: [{ name: "kms", id: identityKey }],
    freshness: "nonce",
  };
}

/** A policy as a verifier's is, without what a KMS decides itself or no guest has. Throws KmsError. */
function readRules(path: string, document: unknown): Policy {
  let policy: Policy;
  try {
    policy = readPolicy(document);
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    throw new KmsError("policy/malformed", `${path}: policy: ${error.message}`);
  }
  for (const field of ["sgx", "runtimeEvents"] as const) {
    if (policy[field] === undefined) continue;
    throw new KmsError(
      "policy/malformed",
      `${path}: policy.${field}: keys go to guests whose events say which`,
    );
  }
  for (const field of ["keyProviders", "freshness"] as const) {
    if (policy[field] !== undefined) {
      throw new KmsError("policy/malformed", `${path}: policy.${field} is the KMS's to decide; leave it out`);
    }
  }
  return policy;
}

/** The rules are this application's, and tell its image from others. Throws KmsError. */
function checkApplication(path: string, policy: Policy, app: string): void {
  const { identity } = policy.app ?? {};
  if ((app.length === 64) !== (identity !== undefined) || (identity !== undefined && identity.id !== app)) {
    throw new KmsError(
      "policy/malformed",
      `${path}: policy.app.identity.id is the id of an application that has an identity (32 bytes), and of no other`,
      {
        facts: [
          ["found", identity?.id ?? "none"],
          ["app", app],
        ],
      },
    );
  }
  if (policy.app?.id !== undefined && (policy.app.id === "any" || policy.app.id.join() !== app)) {
    throw new KmsError("policy/malformed", `${path}: policy.app.id is not the file's app ${app}`);
  }
  // The image is in these three; RTMR0 is the machine around it, which not every prediction determines.
  const open = (["mrtd", "rtmr1", "rtmr2"] as const).find((name) => policy.registers?.[name] === "any");
  if (
    identity === undefined &&
    open !== undefined &&
    acceptedPlatforms(policy).every((platform) => provesHardware[platform])
  ) {
    throw new KmsError(
      "policy/malformed",
      `${path}: policy.registers.${open} is open, so that keys would go to any image`,
    );
  }
}

function readable(path: string, read: () => Buffer): Buffer {
  try {
    return read();
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw new KmsError("policy/malformed", `${path} cannot be read: ${reasonOf(error)}`);
  }
}

function parseFile(path: string, bytes: Buffer): z.infer<typeof schema> {
  if (bytes.length > sizeLimit) throw new KmsError("policy/malformed", `${path} has ${bytes.length} bytes`);
  let document: unknown;
  try {
    document = readYaml(bytes.toString("utf8"));
  } catch (error) {
    throw new KmsError("policy/malformed", `${path}: ${messageOf(error)}`);
  }
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  throw new KmsError(
    "policy/malformed",
    `${path}: ${mistakesInWords(result.error.issues, document, "the file")}`,
  );
}

/** What a manifest says to a KMS. A file of reference values alone names no application. */
export interface AllowedManifest {
  name: string;
  app: string | undefined;
  references: Reference[];
}

/** Manifests by the SHA-256 of their bytes. */
/** The manifests of a directory by their SHA-256, hex; none where there is no directory. Throws KmsError. */
export function loadManifests(directory: string): ReadonlyMap<string, AllowedManifest> {
  const manifests = new Map<string, AllowedManifest>();
  if (!existsSync(directory)) return manifests;
  for (const name of readdirSync(directory).sort()) {
    if (!name.endsWith(".json")) continue;
    const path = join(directory, name);
    const bytes = readable(path, () => readFileSync(path));
    try {
      const document = JSON.parse(bytes.toString("utf8")) as { guest?: Pick<GuestConfig, "app"> } | null;
      const { guest } = document ?? {};
      manifests.set(createHash("sha256").update(bytes).digest("hex"), {
        name: `manifests/${name}`,
        app: guest?.app === undefined ? undefined : applicationId(guest).toHex(),
        references: readReferences(document, `manifests/${name}`),
      });
    } catch (error) {
      throw new KmsError("policy/malformed", `${join(directory, name)}: ${messageOf(error)}`);
    }
  }
  return manifests;
}
