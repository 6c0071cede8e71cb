// SPDX-License-Identifier: Apache-2.0
/** The life of PID 1 around its stages, as a process: what it does first, and that each fault ends the machine. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type ConsoleEvent, decodeConsole } from "@caisson/protocol/console";
import { plainService } from "@caisson/protocol/testing/service";
import { expectedLine, type Files, guestTree } from "./testing/tree.ts";

const program = new URL("./testing/pid1.ts", import.meta.url).pathname;

/** Runs it on a tree until it powers off; returns its console, as lines and as events, and the tree. */
function boot(t: TestContext, changes: Files, ...more: string[]) {
  const root = guestTree(t, changes);
  mkdirSync(join(root, "run"), { recursive: true });
  const run = spawnSync(process.execPath, ["--disable-warning=ExperimentalWarning", program, root, ...more], {
    encoding: "utf8",
    timeout: 60_000,
  });
  equal(run.status, 0, `${run.stdout}${run.stderr}`);
  const lines = run.stdout.trimEnd().split("\n");
  const events = lines.map(decodeConsole).filter((event): event is ConsoleEvent => event !== undefined);
  return { root, lines, events, calls: lines.filter((line) => line.startsWith("call ")) };
}

const configuration = {
  version: "caisson/guest/v1",
  flavour: "production",
  epoch: 1_793_491_200,
  commandLine: expectedLine,
  app: { name: "hello", services: { hello: plainService() }, networks: {}, volumes: {} },
  time: { secure_time: true },
};
const guestJson = { "etc/caisson/guest.json": JSON.stringify(configuration) };
const said = (events: ConsoleEvent[]) =>
  events.map((event) => (event.kind === "stopping" ? `stopping: ${event.reason}` : event.kind));

test("before anything is read: every file system without programs and devices, no core dumps, no new code", (t) => {
  const { calls, events } = boot(t, {});
  // Flags: nosuid 2, nodev 4, noexec 8 (include/uapi/linux/mount.h).
  deepEqual(calls, [
    "call comeFirst",
    "call mount proc /proc proc 14 hidepid=2",
    "call mount sysfs /sys sysfs 14 ",
    "call mount securityfs /sys/kernel/security securityfs 14 ",
    "call mount configfs /sys/kernel/config configfs 14 ",
    "call mount cgroup2 /sys/fs/cgroup cgroup2 14 ",
    "call mount tmpfs /run tmpfs 14 mode=755,size=64m",
    "call mount tmpfs /tmp tmpfs 14 mode=1777,size=64m",
    "call forbidCoreDumps",
    "call forbidNewCode",
    "call powerOff",
  ]);
  // There is no guest.json.
  deepEqual(said(events), ["note", "stopping: a fault in PID 1"]);
  match(JSON.stringify(events[0]), /before the first stage: .*guest\.json/);
});

test("its own directory is root's alone, and of the host's name servers three addresses at most are taken", (t) => {
  const pnp =
    "#PROTO: DHCP\ndomain evil\nnameserver 10.0.2.3\nnameserver x;y\n" + "nameserver 10.0.0.9\n".repeat(9);
  const { root } = boot(t, { "proc/net/pnp": pnp });
  equal(statSync(join(root, "run/caisson")).mode & 0o777, 0o700);
  equal(
    readFileSync(join(root, "run/resolv.conf"), "utf8"),
    "nameserver 10.0.2.3\nnameserver 10.0.0.9\nnameserver 10.0.0.9\n",
  );
});

test("a stage that refuses says why, no later one runs, and the machine ends", (t) => {
  const { root, calls, events } = boot(t, {
    ...guestJson,
    "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
  });
  deepEqual(said(events), ["stage", "stage", "stopping: posture/lockdown"]);
  deepEqual(
    events.flatMap((event) => (event.kind === "stage" ? [`${event.stage} ${event.state}`] : [])),
    ["posture started", "posture failed"],
  );
  equal(calls.at(-1), "call powerOff");
  // Nothing was measured.
  equal(readFileSync(join(root, "run/caisson/runtime-events.jsonl"), "utf8"), "");
});

test("an error that no stage foresaw is told as that, and the machine ends", (t) => {
  const { events, calls } = boot(t, { ...guestJson, "proc/mounts": undefined });
  deepEqual(said(events), ["stage", "stage", "stopping: posture/internal"]);
  equal(calls.at(-1), "call powerOff");
});

test("an exception that nobody catches, in the middle of a stage, ends the machine", (t) => {
  // The stage waits for a clock that is never calibrated, for ten seconds.
  const waiting = { "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc-early\n" };
  const { events, calls, root } = boot(t, { ...guestJson, ...waiting }, "200");
  deepEqual(said(events), ["stage", "note", "stopping: a fault in PID 1"]);
  match(JSON.stringify(events[1]), /fault in PID 1: Error: nobody expected this/);
  equal(calls.at(-1), "call powerOff");
  ok(existsSync(join(root, "run/caisson/runtime-events.jsonl")));
});

test("a development image says first that it protects nothing", (t) => {
  const development = { ...configuration, flavour: "development" };
  const { events } = boot(t, {
    "etc/caisson/guest.json": JSON.stringify(development),
    "proc/cmdline": "x\n",
  });
  match(JSON.stringify(events[0]), /DEVELOPMENT IMAGE/);
  equal(said(events).at(-1), "stopping: posture/command-line");
});
