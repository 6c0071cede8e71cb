// SPDX-License-Identifier: Apache-2.0
/** The files that the commands of docs/releases.md write are those of docs/schemas, and what refuses them says why. */
import { equal, ok } from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { exampleManifest } from "@caisson/image/testing/manifest";
import * as z from "zod";
import { OwnerCommands } from "../support/owner-commands.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-release-files-"));
const owners = new OwnerCommands(place);
after(async () => {
  await owners.end();
  rmSync(place, { recursive: true, force: true });
});
const read = (file: string): unknown => JSON.parse(readFileSync(join(place, file), "utf8"));
const schemas = new URL("../../docs/schemas/", import.meta.url);

/** That a file, or the payload of an envelope in it, is what a schema says. */
function is(schema: string, value: unknown): void {
  const document: unknown = JSON.parse(readFileSync(new URL(`${schema}.schema.json`, schemas), "utf8"));
  const { error } = z.fromJSONSchema(document as Parameters<typeof z.fromJSONSchema>[0]).safeParse(value);
  equal(error, undefined, schema);
}
const payloadOf = (file: string): unknown =>
  JSON.parse(Buffer.from((read(file) as { payload: string }).payload, "base64").toString());

test("keys, identities, releases, revocations, rotations, bundles and readings", async () => {
  const keys = await owners.keys("a", "b", "stop");
  await owners.run("owner new token --type p256 --passphrase-file pass");
  const logKey = await owners.run("log key log.example/files --output log.key");
  const url = await owners.serve("log serve --data log --key log.key");
  writeFileSync(join(place, "policy"), `log ${logKey}\nquorum none\n`);
  writeFileSync(join(place, "manifest.json"), JSON.stringify(exampleManifest()));
  writeFileSync(join(place, "sigstore.json"), JSON.stringify({ mediaType: "of a bundle" }));
  const who = `--owner a ${keys.b} --threshold 2 --stop stop --log-policy policy`;
  await owners.run(`identity new --name files ${who} --output identity.json`);
  await owners.run("release prepare --identity identity.json --image manifest.json --output r1");
  await owners.sign("release", "r1", "a", "b");
  await owners.run(`release publish r1 --identity identity.json --log ${url}`);
  await owners.run(
    `release bundle r1 --identity identity.json --image manifest.json --log ${url} --provenance sigstore.json --output bundle`,
  );
  await owners.run("release revoke --identity identity.json --release 1 --output revoked --reason", "a test");
  await owners.sign("release", "revoked", "stop");
  await owners.run("identity rotate identity.json --owner a --threshold 1 --output next");
  await owners.sign("identity", "next", "a", "b");
  await owners.run(`log follow ${url} --policy policy --state kept`);
  // Nothing new: read from what was kept.
  await owners.run(`release publish revoked --identity identity.json --log ${url}`);
  const said = await owners.run(`log follow ${url} --policy policy --state kept --json`);
  equal((JSON.parse(said) as { entries: number }).entries, 3);

  for (const file of ["a", "token"]) is("owner-key", read(file));
  is("note-key", read("log.key"));
  is("identity", read("identity.json"));
  is("bundle", read("bundle"));
  is("following", read("kept"));
  for (const [file, schema] of [
    ["r1", "release"],
    ["revoked", "revocation"],
    ["next", "identity"],
  ] as const) {
    is("envelope", read(file));
    is(schema, payloadOf(file));
  }
  for (const file of readdirSync(join(place, "log/envelope"))) is("envelope", read(`log/envelope/${file}`));
  ok((read("bundle") as { provenance: object }).provenance);

  // What follows a release of another application, and a reading that somebody altered.
  await owners.run("identity new --name other --owner a --stop stop --output other.json");
  const prepare = "release prepare --identity other.json --image manifest.json --after r1 --output r2";
  await owners.refused(2, "cli/usage", prepare);
  writeFileSync(join(place, "kept"), JSON.stringify({ ...(read("kept") as object), peaks: [] }));
  await owners.refused(10, "log-service/damaged", `log follow ${url} --policy policy --state kept`);
});
