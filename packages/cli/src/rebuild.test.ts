// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notEqual, throws } from "node:assert/strict";
import test from "node:test";
import type { Manifest } from "@caisson/image";
import { exampleManifest } from "@caisson/image/testing/manifest";
import { checkSources, filesOf, firstDifference, firstPath, toolchainHash } from "./commands/rebuild.ts";

const utf8 = (value: object) => new TextEncoder().encode(JSON.stringify(value));
const image = (change: (manifest: Manifest) => void = () => {}) => {
  const manifest = structuredClone(exampleManifest()) as unknown as Manifest;
  change(manifest);
  return { manifest, bytes: utf8(manifest) };
};

test("equal images differ in nothing; every file is compared, and the first that differs is named", () => {
  equal(firstDifference(image(), image()), undefined);
  const released = image();
  for (const file of filesOf(released.manifest).keys()) {
    const other = image((manifest) => {
      const parts = Object.values(manifest.firmware).flatMap(({ code, variables }) =>
        variables === undefined ? [code] : [code, variables],
      );
      for (const part of [manifest.kernel, manifest.rootfs, manifest.sbom, ...parts]) {
        if (part.file === file) part.sha256 = "ff".repeat(32);
      }
    });
    const found = firstDifference(released, other)!;
    deepEqual([found.file, found.rebuilt], [file, "ff".repeat(32)]);
  }
});

test("what no file shows is seen in the manifest itself", () => {
  const other = image((manifest) => {
    manifest.commandLine += " quiet";
  });
  equal(firstDifference(image(), other)?.file, "manifest.json");
});

test("the first path that two roots do not have alike: content, mode, one too many, one too few", () => {
  type Files = Parameters<typeof firstPath>[0];
  const fact = { kind: "file", mode: 0o644, uid: 0, gid: 0, size: 1, sha256: "aa".repeat(32) } as const;
  const files = (changes: Record<string, object | undefined>): Files => {
    const all = { "/a": fact, "/b/c": fact, "/d": fact, ...changes };
    return new Map(Object.entries(all).filter((entry) => entry[1] !== undefined)) as Files;
  };
  equal(firstPath(files({}), files({})), undefined);
  equal(firstPath(files({}), files({ "/d": { ...fact, sha256: "bb".repeat(32) } })), "/d");
  equal(firstPath(files({}), files({ "/b/c": { ...fact, mode: 0o755 }, "/d": undefined })), "/b/c");
  equal(firstPath(files({}), files({ "/aa": fact })), "/aa");
  equal(firstPath(files({}), files({ "/a": undefined })), "/a");
});

test("another Caisson, or another lock, is not the release's sources: nothing is built, nothing signed", () => {
  const { manifest } = image();
  const { sources } = manifest.caisson;
  checkSources(manifest, sources, manifest.lock);
  throws(() => checkSources(manifest, "ff".repeat(32), manifest.lock), /made by Caisson .* with sources/);
  throws(() => checkSources(manifest, sources, "ff".repeat(32)), /built from the lock/);
});

test("the toolchain's hash is that of its packages alone, in any order", () => {
  const one = { name: "gcc", version: "1", sha256: "aa".repeat(32), groups: ["toolchain"] };
  const two = { name: "bc", version: "2", sha256: "bb".repeat(32), groups: ["toolchain"] };
  const root = { name: "libc6", version: "3", sha256: "cc".repeat(32), groups: ["root"] };
  const of = (...packages: object[]) =>
    toolchainHash({ packages } as unknown as Parameters<typeof toolchainHash>[0]);
  equal(of(one, two), of(two, root, one));
  notEqual(of(one), of({ ...one, sha256: "dd".repeat(32) }));
});
