// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { exampleManifest } from "@caisson/image/testing/manifest";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { readKit, writeKit } from "./kit.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const lockText = '{"lock":1}\n';

const register = (digit: string) => digit.repeat(96);
const references = (change: Record<string, string>) =>
  JSON.stringify({
    tdx: {
      shape: {
        mrtd: register("a"),
        rtmr0: register("9"),
        rtmr1: register("b"),
        rtmr2: register("c"),
        ...change,
      },
    },
  });

/** An image directory as `instance` leaves it, with its lock beside it. */
function image(t: TestContext): { image: string; lock: string; out: string } {
  const place = temporaryDirectory("kit", t);
  const directory = join(place, "image");
  const relying = join(place, "image.state", "relying-party");
  mkdirSync(directory);
  mkdirSync(relying, { recursive: true });
  const manifest = exampleManifest({
    lock: sha256(lockText),
    measurements: { tdx: { "in one pass": { mrtd: register("a"), rtmr1: register("b") } }, emulated: {} },
  });
  writeFileSync(join(directory, "manifest.json"), JSON.stringify(manifest));
  writeFileSync(join(directory, "sbom.cdx.json"), "{}");
  writeFileSync(join(relying, "policy.yaml"), "version: caisson/policy/v1\n");
  writeFileSync(join(relying, "references.json"), references({}));
  const lock = join(place, "caisson.lock");
  writeFileSync(lock, lockText);
  return { image: directory, lock, out: join(place, "kit") };
}

test("a kit has everything, and is read as it was written", (t) => {
  const { image: directory, lock, out } = image(t);
  const kit = writeKit(directory, out, lock);
  deepEqual(readKit(out), kit);
  equal(kit.collateral, undefined);
  equal(readFileSync(join(out, "caisson.lock"), "utf8"), lockText);
  equal(kit.manifest, sha256(readFileSync(join(directory, "manifest.json"), "utf8")));
  match(readFileSync(join(out, "README.md"), "utf8"), /caisson verify --from http:\/\/HOST:PORT\/ --kit \./);
});

test("collateral is in it where there is some", (t) => {
  const { image: directory, lock, out } = image(t);
  const collateral = join(out, "..", "mine.json");
  writeFileSync(collateral, "{}");
  equal(writeKit(directory, out, lock, collateral).collateral, join(out, "collateral.json"));
});

test("refused: another lock, no policy yet, a place that is taken", (t) => {
  const { image: directory, lock, out } = image(t);
  appendFileSync(lock, " ");
  throws(() => writeKit(directory, out, lock), { code: "kit/lock", fix: /--lock/ });
  writeFileSync(lock, lockText);
  writeKit(directory, out, lock);
  throws(() => writeKit(directory, out, lock), { code: "kit/occupied" });
  rmSync(join(`${directory}.state`, "relying-party", "policy.yaml"));
  throws(() => writeKit(directory, `${out}2`, lock), { code: "kit/incomplete", fix: /caisson instance/ });
});

test("refused: reference values of another image, when it is written and when it is read", (t) => {
  const { image: directory, lock, out } = image(t);
  const path = join(`${directory}.state`, "relying-party", "references.json");
  for (const change of [{ mrtd: register("1") }, { rtmr1: register("1") }]) {
    writeFileSync(path, references(change));
    throws(() => writeKit(directory, out, lock), { code: "kit/altered", message: /another image/ });
    rmSync(out, { recursive: true });
  }
  // RTMR0 is the machine's, and of RTMR2 this manifest says nothing.
  writeFileSync(path, references({ rtmr0: register("1"), rtmr2: register("1") }));
  writeKit(directory, out, lock);
  const forged = references({ mrtd: register("1") });
  writeFileSync(join(out, "references.json"), forged);
  const list = JSON.parse(readFileSync(join(out, "kit.json"), "utf8"));
  list.files["references.json"] = sha256(forged);
  writeFileSync(join(out, "kit.json"), JSON.stringify(list));
  throws(() => readKit(out), { code: "kit/altered", message: /another image/ });
});

const alterations: Record<string, (out: string) => void> = {
  "a policy with a line more": (out) => appendFileSync(join(out, "policy.yaml"), "freshness: any\n"),
  "other reference values": (out) => writeFileSync(join(out, "references.json"), "[]"),
  "a file that is gone": (out) => rmSync(join(out, "manifest.json")),
  "collateral that was put beside it": (out) => writeFileSync(join(out, "collateral.json"), "{}"),
};
for (const [name, alter] of Object.entries(alterations)) {
  test(`refused as altered: ${name}`, (t) => {
    const { image: directory, lock, out } = image(t);
    writeKit(directory, out, lock);
    alter(out);
    throws(() => readKit(out), { code: "kit/altered", kind: "rejected" });
  });
}

const lists: Record<string, (list: { version: string; files: Record<string, string> }) => unknown> = {
  "another version": (list) => ({ ...list, version: "caisson/kit/v2" }),
  "a file outside": (list) => ({ ...list, files: { ...list.files, "../policy.yaml": "00".repeat(32) } }),
  "a hash that is not one": (list) => ({ ...list, files: { ...list.files, "policy.yaml": "00" } }),
  "no policy": ({ files: { "policy.yaml": _, ...files }, ...list }) => ({ ...list, files }),
  "not a document": () => [],
};
for (const [name, change] of Object.entries(lists)) {
  test(`refused as malformed: ${name}`, (t) => {
    const { image: directory, lock, out } = image(t);
    writeKit(directory, out, lock);
    const path = join(out, "kit.json");
    writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, "utf8")))));
    throws(() => readKit(out), { code: "kit/malformed" });
  });
}
