// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const releases = within("packages/releases/src", [
  [
    "a document may be written in many ways",
    "canonical.ts",
    "if (!equal(text(canonical), bytes)) {",
    "if (false) {",
    "canonical.test.ts",
  ],
  [
    "one signature is as good as two",
    "keys.ts",
    'if (type === "p256" && BigInt(`0x${toHex(signature.subarray(32))}`) > halfOrder) return false;',
    "",
    "keys.test.ts",
  ],
  [
    "fewer owners than the threshold will do",
    "identity.ts",
    "if (signers.length >= threshold) return;",
    "if (signers.length > 0) return;",
    "identity.test.ts",
  ],
  [
    "a key counts twice",
    "identity.ts",
    "if (new Set(set.keys.map(({ type, key }) => `${type} ${key}`)).size < set.keys.length) {",
    "if (false) {",
    "identity.test.ts",
  ],
  [
    "an application's id need not be its first document's hash",
    "identity.ts",
    "if (current.document.generation !== 0 || current.hash !== id) {",
    "if (current.document.generation !== 0) {",
    "identity.test.ts",
  ],
  [
    "generations need not follow one another",
    "identity.ts",
    "if (document.generation !== old.generation + 1 || document.previous !== current.hash) {",
    "if (document.generation !== old.generation + 1) {",
    "identity.test.ts",
  ],
  [
    "an immutable application changes",
    "identity.ts",
    "if (old.immutable !== null && document.immutable !== old.immutable) {",
    "if (false) {",
    "identity.test.ts",
  ],
  [
    "a release that has expired is good",
    "release.ts",
    "if (now >= predicate.expires) {",
    "if (false) {",
    "release.test.ts",
  ],
  [
    "a release below the minimum is good",
    "release.ts",
    "if (predicate.release < minimum) {",
    "if (false) {",
    "release.test.ts",
  ],
  [
    "a revoked release is good",
    "release.ts",
    "if (floor.releases.has(predicate.release) || floor.generations",
    "if (floor.generations",
    "release.test.ts",
  ],
  [
    "a release of another image is good",
    "release.ts",
    "if (manifest === measured.manifest && description",
    "if (description",
    "release.test.ts",
  ],
  [
    "the payload's type is not signed",
    "envelope.ts",
    "return concat(utf8(`DSSEv1 ${type.length} `), type, utf8(",
    "return concat(utf8(`DSSEv1 ${type.length} `), utf8(",
    "envelope.test.ts",
  ],
]);
