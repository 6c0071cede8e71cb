// SPDX-License-Identifier: Apache-2.0
/** The JSON Schemas of docs/schemas take what our writers write, and refuse what our readers refuse. */
import { equal, ok } from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { followLog, LogWriter, noteSigningKey, openLogDirectory, writeFollowing } from "@caisson/log";
import { identityPayloadType, readTrustPolicy, writeBundle, writeEnvelope } from "@caisson/releases";
import { keysOf, Owners } from "@caisson/releases/testing/owners";
import { signer } from "@caisson/releases/testing/signers";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import * as z from "zod";
import { newOwnerKey } from "./owner-keys.ts";

const directory = new URL("../../../docs/schemas/", import.meta.url);
const schemas = new Map(
  readdirSync(directory).map((file) => {
    const document = JSON.parse(readFileSync(new URL(file, directory), "utf8")) as Parameters<
      typeof z.fromJSONSchema
    >[0];
    return [file.replace(".schema.json", ""), z.fromJSONSchema(document)] as const;
  }),
);
const builder = signer("builder");
const owners = new Owners(Date.parse("2026-06-01T12:00:00Z"), "schemas", { rebuild: keysOf(1, builder) });
const release = owners.release(["aa".repeat(32), "bb".repeat(32)]);
const rebuild = owners.rebuild(release, "aa".repeat(32), builder);
const payload = ({ payload: bytes }: { payload: Uint8Array }): object =>
  JSON.parse(new TextDecoder().decode(bytes)) as object;
const key = { enc: "03".repeat(32), ciphertext: "04".repeat(20) };
const place = temporaryDirectory("schemas");
newOwnerKey(join(place, "owner"), "p256", "correct horse battery");
await noteSigningKey(join(place, "log"), { name: "log.example", kind: "note" });
/** What is kept of a log with the application's identity and release. */
async function following(): Promise<object> {
  const key = await noteSigningKey(join(place, "log"));
  const writer = await LogWriter.open(join(place, "tree"), key);
  await writer.add("identity", owners.id, {
    payload: owners.first,
    payloadType: identityPayloadType,
    signatures: [],
  });
  await writer.add("release", owners.id, release);
  await writer.close();
  const policy = readTrustPolicy(`log ${key.verifier}\nquorum none\n`);
  return writeFollowing(await followLog(openLogDirectory(join(place, "tree")), policy, { now: owners.now }));
}
const file = (name: string): object => JSON.parse(readFileSync(join(place, name), "utf8")) as object;
const documents: Record<string, object> = {
  "owner-key": file("owner"),
  "note-key": file("log"),
  envelope: writeEnvelope(release),
  following: await following(),
  identity: payload({ payload: owners.first }),
  release: payload(release),
  revocation: payload(owners.revocation([1, 2], [0])),
  rebuild: payload(rebuild),
  secrets: payload(owners.secrets("01".repeat(32), { DB_URL: key })),
  bundle: writeBundle(owners.bundle(release, new TextEncoder().encode("{}"), { rebuilds: [rebuild] })),
  "sealing-key": {
    version: "caisson/sealing-key/v1",
    app: owners.id,
    kms: "01".repeat(32),
    keyVersion: 1,
    key: "02".repeat(32),
    signature: "03".repeat(64),
  },
};

test("every format of docs/releases.md that is JSON has a schema", () => {
  equal([...schemas.keys()].sort().join(), Object.keys(documents).sort().join());
});

for (const [name, document] of Object.entries(documents)) {
  test(`${name}: what is written is taken; an unknown, a missing and a wrong field are not`, () => {
    const schema = schemas.get(name)!;
    const accepts = (value: object) => schema.safeParse(value).success;
    ok(accepts(document), JSON.stringify(schema.safeParse(document).error?.issues[0]));
    // DSSE's readers ignore fields that they do not know.
    equal(accepts({ ...document, more: 1 }), name === "envelope");
    for (const field of Object.keys(document)) {
      if (name === "bundle" && field === "manifest") continue;
      const { [field]: _, ...rest } = document as Record<string, unknown>;
      equal(accepts(rest), false, field);
      equal(accepts({ ...document, [field]: 1.5 }), false, field);
    }
  });
}
