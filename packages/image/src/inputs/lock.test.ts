// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { type Lock, lockLike } from "./lock.ts";
import { debianKeys, parseSpec } from "./spec.ts";

const spec = (keys = "") =>
  parseSpec(`version: 1\nname: a\napp:\n  node: ./a.mjs\n${keys}`, "/nowhere/caisson.yaml");
const npm = [{ name: "zod", version: "1.0.0", integrity: `sha512-${"A".repeat(86)}==` }];
const options = { npm, environment: {}, cache: "/nowhere" };
const other: Lock = {
  version: 1,
  suites: [
    {
      name: "trixie",
      archive: "debian",
      inRelease: "00".repeat(32),
      date: "2026-11-01T00:00:00Z",
      signedBy: [debianKeys[0]],
    },
  ],
  packages: [],
  npm: [],
  images: [{ reference: "of/the:other", digest: `sha256:${"ab".repeat(32)}` }],
};

test("a lock like another has its packages, our npm packages, and images of its own", async () => {
  const lock = await lockLike(spec(), other, options);
  deepEqual(lock, { version: 1, suites: other.suites, packages: [], npm });
  equal(other.images?.length, 1);
});

test("a lock that nobody signed whom this spec trusts is refused", async () => {
  await rejects(lockLike(spec(`archive: { keys: ["${"AB".repeat(20)}"] }\n`), other, options), {
    code: "lock/untrusted-key",
    message: /trixie/,
  });
});
