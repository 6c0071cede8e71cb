// SPDX-License-Identifier: Apache-2.0
/**
 * PID 1's native addon, built with the pinned toolchain and loaded here: what it exports, that no argument gets past its
 * checks, and that the kernel's refusals come back by name. Nothing here changes this machine.
 */
import { deepEqual, equal, match, notEqual, throws } from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { loadSyscalls, type Syscalls } from "../../packages/guest/src/syscalls.ts";
import { guestAddon, guestNode } from "../../packages/image/src/build/native.ts";
import { cache, lock, toolchain } from "../support/built.ts";

const scratch = mkdtempSync(join(tmpdir(), "caisson-addon-"));
const path = join(scratch, "syscalls.node");
let syscalls: Syscalls;
before(async () => {
  writeFileSync(path, await guestAddon(await guestNode(lock, toolchain, cache), toolchain, cache));
  syscalls = loadSyscalls(path);
});
after(() => rmSync(scratch, { recursive: true }));

test("it exports the calls of its interface and no others", () => {
  deepEqual(Object.keys(syscalls).sort(), [
    "adjtime",
    "btrfsCommit",
    "btrfsErrors",
    "btrfsInfo",
    "btrfsResize",
    "clockSettime",
    "comeFirst",
    "cpuRandom",
    "cryptClose",
    "cryptOpen",
    "deafen",
    "forbidCoreDumps",
    "forbidNewCode",
    "freeze",
    "mount",
    "mountMapped",
    "netlink",
    "newCodeForbidden",
    "pipe",
    "powerOff",
    "reap",
    "spawn",
    "thaw",
    "unmount",
    "unshared",
  ]);
});

/** Calls with arguments that are none; each must stop before the kernel sees it. */
const wrong: Record<string, [call: keyof Syscalls, ...values: unknown[]]> = {
  "an argument too few": ["mount", "a", "b", "c", 0],
  "an argument too many": ["forbidCoreDumps", 0],
  "a number for a string": ["mount", 1, "/", "tmpfs", 0, ""],
  "a NUL byte": ["mount", "a", "/nowhere\0/else", "tmpfs", 0, ""],
  "a path that is too long": ["mount", "a", "x".repeat(4096), "tmpfs", 0, ""],
  "a type that is too long": ["mount", "a", "/nowhere", "x".repeat(64), 0, ""],
  "flags that are not in range": ["mount", "a", "/nowhere", "tmpfs", 2 ** 32, ""],
  "a time that is none": ["clockSettime", Number.NaN],
  "a time before 1970": ["clockSettime", -1],
  "a step in place of a slew": ["adjtime", 500.1],
  "a file that is none": ["deafen", -1],
  "another instruction": ["cpuRandom", "rdtsc"],
  "PID 1": ["reap", 1],
  "a standard stream as a namespace": ["mountMapped", "a", "b", -1],
  "a program that is not a list": ["spawn", "sh", [], [3, 3, 3], 3],
  "a number among a program's arguments": ["spawn", ["sh", 1], [], [3, 3, 3], 3],
  "two streams": ["spawn", ["sh"], [], [3, 3], 3],
  "a standard stream for a child's": ["spawn", ["sh"], [], [0, 3, 3], 3],
  "messages that are text": ["netlink", 0, 0, "x", 1],
  "no acknowledgement": ["netlink", 0, 0, Buffer.alloc(0), 0],
  "a group of processes": ["reap", -1],
};
for (const [what, [call, ...values]] of Object.entries(wrong)) {
  test(`refused before the kernel is asked: ${call} with ${what}`, () => {
    throws(() => (syscalls[call] as (...values: unknown[]) => unknown)(...values), { code: "EINVAL" });
  });
}

test("what the kernel refuses comes back as the name of its errno", () => {
  throws(() => syscalls.mount("tmpfs", join(scratch, "nowhere"), "tmpfs", 0, ""), {
    code: /^(ENOENT|EPERM)$/,
  });
  throws(() => syscalls.reap(process.pid), { code: "ECHILD" });
  const file = openSync(path, "r");
  throws(() => syscalls.deafen(file), { code: "ENOTTY" });
  closeSync(file);
});

test("RDRAND gives another value each time, or says that it is not there", () => {
  const [first, second] = [syscalls.cpuRandom("rdrand"), syscalls.cpuRandom("rdrand")];
  equal(typeof first, typeof second);
  if (first !== undefined) notEqual(first, second);
});

test("core dumps are forbidden for the process and what it starts", () => {
  const program = `require(${JSON.stringify(path)}).forbidCoreDumps();
    process.stdout.write(require("node:child_process").execFileSync("cat", ["/proc/self/limits"]))`;
  const limits = execFileSync(process.execPath, ["-e", program], { encoding: "utf8" });
  match(limits, /^Max core file size +0 +0 /m);
});

/** Compiles a WebAssembly function, which needs new executable memory; "compiled", or how it ended. */
function compileAfter(first: string): string {
  // (module (func (export "f") (result i32) i32.const 42))
  const module = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 6, 1, 4, 0,
    65, 42, 11,
  ];
  const compile = `const f = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(${JSON.stringify(module)})));
    if (f.exports.f() === 42) process.stdout.write("compiled")`;
  const run = spawnSync(
    process.execPath,
    ["-e", `const addon = require(${JSON.stringify(path)}); ${first}; ${compile}`],
    {
      encoding: "utf8",
    },
  );
  return run.status === 0 ? run.stdout : "ended";
}

test("whether new code is forbidden is the kernel's answer", () => {
  const ask = (before: string) =>
    execFileSync(
      process.execPath,
      [
        "-e",
        `const addon = require(${JSON.stringify(path)}); ${before}; process.stdout.write(String(addon.newCodeForbidden()))`,
      ],
      { encoding: "utf8" },
    );
  equal(ask(""), "false");
  equal(ask("addon.forbidNewCode()"), "true");
});

test("no new code for the process, and as ever for what it starts", () => {
  equal(compileAfter(""), "compiled");
  equal(compileAfter("addon.forbidNewCode()"), "ended");
  const child = `addon.forbidNewCode();
    const { status } = require("node:child_process").spawnSync(process.execPath, ["-e", "0"]);
    process.stdout.write("child " + status); process.exit()`;
  equal(compileAfter(child), "child 0");
});
