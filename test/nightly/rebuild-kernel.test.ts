// SPDX-License-Identifier: Apache-2.0
/**
 * A rebuilder who believes no cache: every package is fetched, the toolchain unpacked, the kernel compiled from source, and
 * each file of the production image is the released one. Takes as long as a kernel does.
 */
import { deepEqual, equal, match } from "node:assert/strict";
import { hash } from "node:crypto";
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { parseManifest } from "@caisson/image";
import { readEnvelope, readStatement } from "@caisson/releases";
import { OwnerCommands } from "../support/owner-commands.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-rebuild-kernel-"));
const owners = new OwnerCommands(place, 3 * 3600_000);
after(() => rmSync(place, { recursive: true, force: true }));

test("a rebuilder without a cache compiles the kernel, and gets the released image byte for byte", async () => {
  await owners.keys("owner", "stop", "builder");
  const who = "--owner owner --threshold 1 --stop stop --rebuilder builder --rebuilds 1";
  await owners.run(`identity new --name again ${who} --output identity.json`);
  const spec = join(place, "hello");
  const example = new URL("../../examples/hello", import.meta.url).pathname;
  cpSync(example, spec, { recursive: true, filter: (path) => !path.endsWith("/out") });
  appendFileSync(join(spec, "caisson.yaml"), "  identity: ../identity.json\n");
  await owners.run("build hello --flavour production --out image");
  await owners.run("release prepare --identity identity.json --image image --output r1");
  await owners.sign("release", "r1", "owner");
  const judged = "release verify r1 --identity identity.json --image image";
  await owners.refused(10, "rebuild/threshold", judged);

  const before = Date.now();
  const options = "--spec hello --manifest image --identity identity.json --output again";
  await owners.run(owners.rebuild("r1", "builder", options));
  process.stderr.write(`rebuilt in ${Math.round((Date.now() - before) / 1000)} s\n`);

  const manifest = readFileSync(join(place, "image/manifest.json"));
  const { kernel } = parseManifest(manifest.toString(), "the released manifest");
  const envelope = readEnvelope(JSON.parse(readFileSync(join(place, "again"), "utf8")));
  const { subjects, predicate } = await readStatement("rebuild", envelope);
  deepEqual(subjects, [hash("sha256", manifest)]);
  equal(kernel.sha256, hash("sha256", readFileSync(join(place, "image", kernel.file))));
  match(predicate.toolchain, /^[0-9a-f]{64}$/);
  match(await owners.run(`${judged} --rebuild again`), /^accepted: release 1 /);
});
