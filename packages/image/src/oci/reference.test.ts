// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ImageError } from "../errors.ts";
import { formatReference, parseReference } from "./reference.ts";

const digest = `sha256:${"0a".repeat(32)}`;

const names: [text: string, full: string][] = [
  ["nginx", "docker.io/library/nginx:latest"],
  ["nginx:1.27", "docker.io/library/nginx:1.27"],
  ["team/app", "docker.io/team/app:latest"],
  ["docker.io/nginx", "docker.io/library/nginx:latest"],
  ["index.docker.io/library/nginx:1", "docker.io/library/nginx:1"],
  ["registry.example/team/app:1.0", "registry.example/team/app:1.0"],
  ["localhost/app", "localhost/app:latest"],
  ["localhost:5000/app", "localhost:5000/app:latest"],
  ["[::1]:5000/app:1", "[::1]:5000/app:1"],
  [`nginx@${digest}`, `docker.io/library/nginx@${digest}`],
  [`host.example:5000/a/b__c-d.e:tag@${digest}`, `host.example:5000/a/b__c-d.e:tag@${digest}`],
  ["./layout", "/spec/layout"],
  ["../layout:1.0", "/layout:1.0"],
  ["/a/saved.tar:docker.io/library/redis:7", "/a/saved.tar:docker.io/library/redis:7"],
];
for (const [text, full] of names) {
  test(`'${text}' is ${full}`, () => {
    const reference = parseReference(text, "/spec");
    equal(formatReference(reference), full);
    deepEqual(parseReference(formatReference(reference), "/elsewhere"), reference);
  });
}

const refused = [
  "", "Nginx", "nginx:", "nginx:-a", `nginx:${"t".repeat(129)}`, "nginx@sha256:12", "nginx@md5:12", "a//b", "/x/./y:", "-host.example/a",
  "host.example:port/a", "a b", "a/b/", "./x:a b", "http://host.example/a", `${"a".repeat(256)}`, "registry.example/a@latest", "a..b/c/../d",
]; // biome-ignore format: a list
for (const text of refused) {
  test(`refused: '${text.slice(0, 40)}'`, () => {
    throws(() => parseReference(text, "/spec"), { name: "ImageError", code: "oci/reference" });
  });
}

test("any text is a reference that says the same when it is written and read again, or refused", () => {
  const character = fc.constantFrom(
    "a",
    "b1",
    ".",
    ":",
    "/",
    "@",
    "-",
    "_",
    "A",
    " ",
    "[",
    "sha256:",
    digest,
  );
  fc.assert(
    fc.property(fc.array(character, { maxLength: 12 }), (pieces) => {
      try {
        const reference = parseReference(pieces.join(""), "/");
        deepEqual(parseReference(formatReference(reference), "/"), reference);
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
      }
    }),
    { numRuns: 2000 },
  );
});
