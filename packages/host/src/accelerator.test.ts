// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { tryKvm } from "./accelerator.ts";

const place = temporaryDirectory("accelerator");
const device = join(place, "kvm");
writeFileSync(device, "");
const processors = join(place, "cpuinfo");

/** What a program that behaves like this in QEMU's place is taken for; only what a test is about is short. */
function tried(
  lines: string,
  { signMs = 60_000, trialMs = 60_000, flags = "fpu vmx ssse3" } = {},
): ReturnType<typeof tryKvm> {
  writeFileSync(processors, `processor\t: 0\nflags\t\t: ${flags}\nvmx flags\t: vnmi svm\n`);
  const program = join(place, "qemu");
  writeFileSync(program, `#!/bin/sh\n${lines}\n`);
  chmodSync(program, 0o755);
  return tryKvm(program, device, { signMs, trialMs, processors });
}

test("a guest that gives a sign and runs on: KVM works", async () => {
  equal(await tried("echo SeaBIOS; exec sleep 60", { trialMs: 400 }), "kvm");
});

test("QEMU aborts later than a trial would take, because the host is busy: KVM does not work", async () => {
  equal(await tried("sleep 1; kill -ABRT $$", { trialMs: 400 }), "tcg");
});

test("a sign, and then the end: KVM does not work", async () => {
  equal(await tried("echo SeaBIOS; exit 1"), "tcg");
});

test("no sign: KVM does not work, and QEMU is ended", async () => {
  equal(await tried("exec sleep 60", { signMs: 1000 }), "tcg");
});

test("no device: nothing is started", async () => {
  equal(await tryKvm("/nowhere/qemu", join(place, "none")), "tcg");
});

for (const flags of ["fpu svm ssse3", "vmx", "fpu svm"]) {
  test(`processors with the flags ${flags}: KVM works`, async () => {
    equal(await tried("echo SeaBIOS; exec sleep 60", { trialMs: 400, flags }), "kvm");
  });
}

test("processors without VT-x and AMD-V: KVM emulates, and nothing is started", async () => {
  equal(await tried("echo SeaBIOS; exec sleep 60", { trialMs: 400, flags: "fpu hypervisor vmx_no" }), "tcg");
});

test("a sign, and then KVM gives up, while QEMU stays: KVM does not work", async () => {
  equal(await tried("echo SeaBIOS; echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60"), "tcg");
});
