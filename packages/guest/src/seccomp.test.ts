// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { keepChecksums, otherNumbers, seccompProfile } from "./seccomp.ts";

const refused = [
  { mask: 0xffff_ffff, value: 0x4008_6602 },
  { mask: 0xff00, value: 0x9400 },
];
const matches = (list: readonly { mask: number; value: number }[], number: number): number =>
  list.filter(({ mask, value }) => (number & mask) >>> 0 === value).length;

test("the rules of every other number hold for it, exactly one, and for none of the refused ones", () => {
  const others = otherNumbers(refused);
  const check = (number: number): void =>
    equal(matches(others, number), matches(refused, number) > 0 ? 0 : 1);
  for (const number of [
    0x4008_6602, 0x9401, 0x4004_9409, 0xffff_94ff, 0x8008_6601, 0x4008_6603, 0x5401, 0, 0xffff_ffff,
  ]) {
    check(number);
  }
  fc.assert(fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), check));
  fc.assert(fc.property(fc.nat(31), (bit) => check((0x4008_6602 ^ (2 ** bit)) >>> 0)));
});

test("only images with persistent volumes look at an ioctl's number, and nothing else changes for them", () => {
  const kept = keepChecksums(seccompProfile);
  const ioctls = kept.syscalls.filter(({ names }) => names.includes("ioctl"));
  equal(ioctls.length > 2, true);
  equal(
    ioctls.every(({ args, names }) => args !== undefined && names.length === 1),
    true,
  );
  const without = (profile: { syscalls: readonly { names: readonly string[] }[] }) =>
    profile.syscalls.flatMap(({ names }) => names).filter((name) => name !== "ioctl");
  deepEqual(without(kept), without(seccompProfile));
  equal(seccompProfile.syscalls.filter(({ names }) => (names as string[]).includes("ioctl")).length, 1);
});
