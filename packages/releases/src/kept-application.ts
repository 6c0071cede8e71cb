// SPDX-License-Identifier: Apache-2.0
/**
 * What is known of an application, kept to go on from: a log's writer and who follows a log need not read its documents
 * again. An entry of its own (`@caisson/releases/kept-application`), for who judges a release keeps nothing.
 */
import { text as utf8 } from "@caisson/vocabulary/frame";
import { hex, integer, list, nullable, object, oneOf, type Schema, text } from "@caisson/vocabulary/schema";
import type { Application } from "./application.ts";
import { readValue } from "./canonical.ts";
import { readEnvelope, writeEnvelope } from "./envelope.ts";
import { followIdentity, readIdentity } from "./identity.ts";
import { readStatement } from "./statement.ts";

const number = integer(0, 0xffff_ffff);
const anything: Schema<unknown> = (value) => value;
const many = <T>(item: Schema<T>): Schema<T[]> => list(item, 0, 2 ** 32);
const schema = object({
  version: oneOf("caisson/application/v1"),
  first: text("an identity document", /^/, 16 * 1024),
  generations: many(anything),
  newest: nullable(anything),
  releases: many(object({ number, hash: hex(32) })),
  minimum: number,
  revoked: object({ releases: many(number), generations: many(number) }),
  rebuilds: many(anything),
  secrets: many(object({ kms: hex(32), number, hash: hex(32) })),
});

/** What is known of an application as JSON that `readApplication` takes, so that its documents need not be read again. */
export function writeApplication(application: Application): object {
  const { first, generations, newest, releases, floor, rebuilds, secrets } = application;
  return {
    version: "caisson/application/v1",
    first: new TextDecoder().decode(first),
    generations: generations.map(writeEnvelope),
    newest: newest === undefined ? null : writeEnvelope(newest.envelope),
    releases: [...releases].map(([number, hash]) => ({ number, hash })),
    minimum: floor.minimum,
    revoked: { releases: [...floor.releases], generations: [...floor.generations] },
    rebuilds: rebuilds.map(({ envelope }) => writeEnvelope(envelope)),
    secrets: [...secrets].map(([kms, { number, hash }]) => ({ kms, number, hash })),
  };
}

/**
 * Reads parsed JSON of `writeApplication`. Whose application it is follows from its documents; what was said of it since
 * is believed, so it comes from where nobody else writes. Throws ReleaseError "log/malformed", or a document's code.
 */
export async function readApplication(value: unknown): Promise<Application> {
  const found = readValue(value, schema, "log/malformed");
  const first = utf8(found.first);
  const { hash: id } = await readIdentity(first);
  const generations = found.generations.map(readEnvelope);
  const identity = await followIdentity(id, first, generations);
  const { generation } = identity.document;
  const { minimum, revoked } = found;
  return {
    id,
    identity,
    first,
    generations,
    newest: found.newest === null ? undefined : await readStatement("release", readEnvelope(found.newest)),
    releases: new Map(found.releases.map(({ number, hash }) => [number, hash])),
    floor: {
      generation,
      identity: identity.hash,
      minimum,
      releases: new Set(revoked.releases),
      generations: new Set(revoked.generations),
    },
    rebuilds: await Promise.all(found.rebuilds.map((one) => readStatement("rebuild", readEnvelope(one)))),
    secrets: new Map(found.secrets.map(({ kms, number, hash }) => [kms, { number, hash }])),
  };
}
