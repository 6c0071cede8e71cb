// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  keepChecksums,
  otherNumbers,
  type SeccompProfile,
  seccompProfile,
  servingProfile,
  withChroot,
} from "./seccomp.ts";

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

/** Whether a call with these arguments is let through, as libseccomp judges: any rule of its name whose conditions hold. */
function passes(profile: SeccompProfile, name: string, ...args: number[]): boolean {
  const word = (index: number) => BigInt(args[index] ?? 0);
  return profile.syscalls.some(
    (rule) =>
      rule.action === "SCMP_ACT_ALLOW" &&
      rule.names.includes(name) &&
      (rule.args ?? []).every(({ index, op, value, valueTwo = 0 }) =>
        op === "SCMP_CMP_MASKED_EQ"
          ? (word(index) & BigInt(value)) === BigInt(valueTwo)
          : (word(index) === BigInt(value)) === (op === "SCMP_CMP_EQ"),
      ),
  );
}

test("the front starts threads alone, opens files to read alone, and knows few numbers of ioctl", () => {
  const front = (name: string, ...args: number[]) => passes(servingProfile, name, ...args);
  // glibc's pthread_create; its fork; a namespace; a thread with one.
  equal(front("clone", 0x003d0f00), true);
  for (const flags of [0x01200011, 0x11, 0x10000000, 0x10010f00, 0])
    equal(front("clone", flags), false, `${flags}`);
  const cwd = 0xffff_ff9c;
  for (const flags of [0, 0o2000000, 0o200000, 0o400000]) {
    equal(front("openat", cwd, 0, flags), true);
    equal(front("open", 0, flags), true);
  }
  for (const flags of [1, 2, 3, 0o100, 0o101, 0o1000, 0o20200000, 0o20200002]) {
    equal(front("openat", cwd, 0, flags), false, `${flags}`);
    equal(front("open", 0, flags), false, `${flags}`);
  }
  // FIONBIO and TCGETS2; TIOCSTI, TIOCLINUX, FS_IOC_SETFLAGS, and FIONBIO's bits among others.
  for (const number of [0x5421, 0x802c542a]) equal(front("ioctl", 0, number), true);
  for (const number of [0x5412, 0x541c, 0x40086602, 0x9404, 0x15421]) equal(front("ioctl", 0, number), false);
  for (const name of ["openat2", "clone3", "fork", "vfork", "creat", "kill", "tkill", "bind", "seccomp"]) {
    equal(front(name), false, name);
  }
  for (const name of ["accept4", "connect", "listen", "futex", "mmap", "tgkill"])
    equal(front(name), true, name);
  deepEqual(keepChecksums(servingProfile), servingProfile);
});

test("what a service may not do for want of privilege says so, and chroot works for who has it", () => {
  const answers = (profile: SeccompProfile, name: string) =>
    profile.syscalls.filter(({ names }) => names.includes(name)).map((rule) => rule.errnoRet ?? rule.action);
  const EPERM = 1;
  for (const name of ["chroot", "mount", "unshare", "setns"])
    deepEqual(answers(seccompProfile, name), [EPERM], name);
  deepEqual(answers(withChroot(seccompProfile), "chroot"), ["SCMP_ACT_ALLOW"]);
  deepEqual(answers(keepChecksums(withChroot(seccompProfile)), "chroot"), ["SCMP_ACT_ALLOW"]);
  deepEqual(answers(withChroot(seccompProfile), "mount"), [EPERM]);
});
