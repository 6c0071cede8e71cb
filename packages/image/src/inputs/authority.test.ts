// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { rootCertificates } from "node:tls";
import { type AppDescription, authorityRootsLimit } from "@caisson/protocol/guest-config";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { nameAuthority } from "./authority.ts";
import type { FrontSpec } from "./spec.ts";

const place = temporaryDirectory("authority");

const directory = "https://ca.example/dir";
const described = {
  name: "test",
  front: { port: 443, service: "web", target: 80, names: ["a.example"], require: "tls", acme: { directory } },
} as unknown as AppDescription;
const front = (roots?: string): FrontSpec => ({
  port: 443,
  names: ["a.example"],
  require: "tls",
  direct: [],
  acme: { directory, ...(roots !== undefined && { roots }) },
});
const file = (name: string, text: string): string => {
  writeFileSync(join(place, name), text);
  return join(place, name);
};
const [first = "", second = ""] = rootCertificates;

test("the certificates of the file are in the description, and nothing else of it", async () => {
  const path = file("two.pem", `a comment\n${first}\nsubject=somebody\n${second}`);
  const { front: found } = await nameAuthority(described, front(path));
  const { roots = "" } = found!.acme!;
  equal(roots.match(/BEGIN CERTIFICATE/g)!.length, 2);
  equal(/comment|subject/.test(roots), false);
  const again = file("same.pem", `${first}\n${second}`);
  deepEqual(await nameAuthority(described, front(again)), { ...described, front: found });
});

test("without roots, or without a front, the description is what it was", async () => {
  equal(await nameAuthority(described, front()), described);
  equal(await nameAuthority(described, undefined), described);
});

test("refused: no file, no certificate, half of one, more than a front can be told", async () => {
  for (const path of [
    join(place, "missing.pem"),
    file("empty.pem", ""),
    file("half.pem", first.slice(0, first.length >> 1)),
    file("broken.pem", first.replace("MII", "AAA")),
    file("many.pem", first.repeat(Math.ceil(authorityRootsLimit / first.length) + 1)),
  ]) {
    await rejects(nameAuthority(described, front(path)), { code: "app/front" }, path);
  }
});
