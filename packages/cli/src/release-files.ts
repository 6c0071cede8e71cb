// SPDX-License-Identifier: Apache-2.0
/** Files of identities and releases: what is in them, in words, and one more signature under them. */
import { hash } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Manifest } from "@caisson/image";
import { secretNames } from "@caisson/protocol/guest-config";
import type { Instance } from "@caisson/protocol/instance";
import {
  type Envelope,
  followIdentity,
  type Identity,
  identityPayloadType,
  type KeySet,
  ReleaseError,
  readBundle,
  readEnvelope,
  readIdentity,
  readSecretsDocument,
  readStatement,
  type Secrets,
  type Statement,
  secretsPayloadType,
  signedBytes,
  signersOf,
  writeEnvelope,
} from "@caisson/releases";
import { UsageError } from "./failure.ts";
import { readBounded } from "./judgement-files.ts";
import { keyText, openOwnerKey } from "./owner-keys.ts";
import { readPassphrase, readTextFile } from "./passphrase-file.ts";
import { jsonText } from "./views/answer.ts";

function readJsonFile(path: string): unknown {
  try {
    return JSON.parse(readTextFile(path));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new ReleaseError("envelope/malformed", `${path} is not JSON`);
  }
}

export const readEnvelopeFile = (path: string): Envelope => readEnvelope(readJsonFile(path));

/** An image's manifest, which is named by its directory or by itself. */
export const manifestPath = (image: string): string =>
  image.endsWith(".json") ? image : join(image, "manifest.json");

export const envelopeText = (envelope: Envelope): string => jsonText(writeEnvelope(envelope));

/** The newest generation of the identity in `first`, whose hash is the application's id. */
export async function readIdentityFiles(
  first: string,
  later: readonly string[],
): Promise<{ id: string; identity: Identity }> {
  const bytes = readBounded(first);
  const { hash: id } = await readIdentity(bytes);
  return { id, identity: await followIdentity(id, bytes, later.map(readEnvelopeFile)) };
}

const set = ({ threshold, keys }: KeySet): string[] => [
  `${threshold} of ${keys.length}`,
  ...keys.map((key) => `    ${keyText(key)}`),
];

/** An identity document in words, a line each. */
export function identityLines({ document, hash }: Identity): string[] {
  const { name, generation, previous, owners, stop, rebuild, secrets, log, immutable } = document;
  return [
    `identity ${name}, generation ${generation}`,
    `  hash       ${hash}`,
    ...(previous === null ? [] : [`  after      ${previous}`]),
    `  owners     ${set(owners).join("\n")}`,
    `  may stop   ${set(stop).join("\n")}`,
    `  rebuild    ${rebuild === null ? "nobody has to" : set(rebuild).join("\n")}`,
    `  secrets    ${secrets === null ? "from its owners" : set(secrets).join("\n")}`,
    `  log        ${log === null ? "none" : log.policy.trimEnd().replaceAll("\n", "\n             ")}`,
    `  immutable  ${immutable ?? "no"}`,
  ];
}

const day = (ms: number): string => new Date(ms).toISOString().replace(".000", "");
/** As statements have times: whole seconds. */
export const writtenTime = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

export function releaseLines({
  subjects: [manifest, description],
  predicate,
  hash,
}: Statement<"release">): string[] {
  const { app, generation, release, previous, minimum, notBefore, expires, notes } = predicate;
  return [
    `release ${release} of application ${app}`,
    `  signed for generation ${generation}`,
    `  image        ${manifest}`,
    `  description  ${description}`,
    `  after        ${previous ?? "nothing: it is the first"}`,
    `  valid        from ${day(notBefore)}, until ${day(expires)}`,
    `  minimum      ${minimum}: earlier releases are refused once this one is known`,
    `  hash         ${hash}`,
    ...(notes === "" ? [] : [`  notes        ${notes.replaceAll("\n", "\n               ")}`]),
  ];
}

function revocationLines({ predicate }: Statement<"revocation">): string[] {
  const { app, releases, generations, reason } = predicate;
  return [
    `revocation, for ever, of application ${app}`,
    `  releases     ${releases.join(", ") || "none"}`,
    `  generations  ${generations.join(", ") || "none"}`,
    `  reason       ${reason.replaceAll("\n", " ")}`,
  ];
}

function secretsLines({ document, hash }: Secrets): string[] {
  const { app, kms, keyVersion, number, previous, minimumRelease, expires, entries } = document;
  return [
    `secrets ${number} of application ${app}`,
    `  names        ${Object.keys(entries).join(", ") || "none"}`,
    `  sealed to    KMS ${kms}, key version ${keyVersion}`,
    `  after        ${previous ?? "nothing: they are the first"}`,
    `  given to     release ${minimumRelease} and later`,
    `  valid        until ${day(expires)}`,
    `  hash         ${hash}`,
  ];
}

function rebuildLines({ subjects: [manifest], predicate }: Statement<"rebuild">): string[] {
  const { app, release, lock, toolchain, caisson, system, finished } = predicate;
  return [
    `rebuild for application ${app}`,
    `  of release   ${release}`,
    `  gave         ${manifest}`,
    `  lock         ${lock}, toolchain ${toolchain}`,
    `  by           Caisson ${caisson} on ${system}, ${day(finished)}`,
  ];
}

/** What a signature under an envelope would say. Throws ReleaseError. */
export async function inWords(envelope: Envelope): Promise<string[]> {
  if (envelope.payloadType === identityPayloadType)
    return identityLines(await readIdentity(envelope.payload));
  if (envelope.payloadType === secretsPayloadType) return secretsLines(await readSecretsDocument(envelope));
  for (const [kind, lines] of [
    ["release", releaseLines],
    ["rebuild", rebuildLines],
    ["revocation", revocationLines],
  ] as const) {
    try {
      return (lines as (statement: unknown) => string[])(await readStatement(kind, envelope));
    } catch (error) {
      // A statement of another kind; the last answer is that of the last kind.
      if (kind === "revocation" || !(error instanceof ReleaseError)) throw error;
    }
  }
  return [];
}

/**
 * What owners give a machine of an image, from files; a host passes it on, so all that is asked here is whether it is of
 * this image. Throws ReleaseError, UsageError.
 */
export async function readGiven(
  image: string,
  { guest: { app } }: Manifest,
  { release, secrets }: { release?: string; secrets?: string },
): Promise<Pick<Instance, "release" | "secrets">> {
  const given: Pick<Instance, "release" | "secrets"> = {};
  if (release !== undefined) {
    const bundle = readBundle((given.release = readJsonFile(release)));
    const { hash: id } = await readIdentity(bundle.identity);
    const { subjects } = await readStatement("release", bundle.release);
    const manifest = hash("sha256", readBounded(join(image, "manifest.json")));
    if (id !== app.identity || subjects[0] !== manifest) {
      throw new UsageError(
        `${release} is the release of another image than ${image}`,
        "caisson release bundle",
      );
    }
  }
  if (secrets !== undefined) {
    if (secretNames(app).length === 0)
      throw new UsageError("the image declares no secrets", "leave --secrets out");
    const { document } = await readSecretsDocument(readEnvelope((given.secrets = readJsonFile(secrets))));
    if (document.app !== app.identity) {
      throw new UsageError(
        `${secrets} are secrets of application ${document.app}`,
        "those of this image's owners",
      );
    }
  }
  return given;
}

/** Says in words what is signed, then adds the key's signature to the file; a key signs once. */
export async function signFile(
  path: string,
  { key, passphraseFile }: { key: string; passphraseFile: string },
): Promise<void> {
  const envelope = readEnvelopeFile(path);
  process.stdout.write(`${(await inWords(envelope)).join("\n")}\n`);
  const own = openOwnerKey(key, readPassphrase(passphraseFile));
  const [already] = await signersOf(envelope, [own.publicKey]);
  if (already === undefined) {
    const signatures = [...envelope.signatures, own.sign(signedBytes(envelope))];
    writeFileSync(`${path}.new`, envelopeText({ ...envelope, signatures }), { flush: true });
    renameSync(`${path}.new`, path);
  }
  const done = already === undefined ? "signed" : "signed before";
  process.stdout.write(`${done} by ${keyText(own.publicKey)}\n`);
}
