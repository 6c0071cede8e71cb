// SPDX-License-Identifier: Apache-2.0
/**
 * The console is the host's to read, at its own pace. However late it reads, it learns why a boot stopped; and neither
 * a port that it never reads nor one that it says is to stop holds PID 1 up.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Vm } from "@caisson/host/vm";
import { type SessionHooks, startSession } from "@caisson/machine/session";
import { type ConsoleEvent, consoleDecoder } from "@caisson/protocol/console";
import type { LiveReport } from "@caisson/protocol/live-report";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { image, references, shape } from "../support/image.ts";

const state = temporaryDirectory("attack");

/** Longer than a machine takes to go once PID 1 has said why; PID 1 waits for the console for 2 s. */
const pauseMs = 1_500;

async function start(hooks: SessionHooks) {
  const { directory, manifest } = await image();
  return startSession({
    image: directory,
    manifest,
    shape,
    state,
    references: await references(directory),
    limitMs: 600_000,
    hooks,
  });
}

test("a host that stops reading for a while still gets PID 1's last words", async () => {
  const session = await start({
    machine: (options) => ({ ...options, commandLine: `${options.commandLine} --inspect` }),
  });
  const { vm } = session;
  vm.on("console", (event) => {
    const starts = event.kind === "stage" && event.stage === "posture" && event.state === "started";
    if (starts) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
  });
  try {
    await vm.ended;
    const last = vm.events.at(-1);
    equal(last?.kind === "stopping" && last.reason, "posture/command-line");
  } finally {
    await session.stop();
  }
});

/** Gives the machine's first serial port another other end (QEMU's QAPI, ChardevBackend). */
async function replug(vm: Vm, backend: object): Promise<void> {
  const qmp = await vm.qmp();
  await qmp.execute("chardev-change", { id: "console", backend });
  qmp.close();
}

/** A pipe that is full and that nobody reads, for as long as the file is open. */
function fullPipe(): { path: string; file: number } {
  const path = join(state, "console");
  for (const end of ["in", "out"]) execFileSync("mkfifo", [`${path}.${end}`]);
  const file = openSync(`${path}.out`, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    for (;;) writeSync(file, Buffer.alloc(4096));
  } catch (error) {
    if ((error as { code?: string }).code !== "EAGAIN") throw error;
  }
  return { path, file };
}

/** Listens for QEMU, says XOFF again and again, and reads what the guest says all the same. */
async function forbidding(path: string) {
  const XOFF = Buffer.of(0x13);
  const events: ConsoleEvent[] = [];
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    const timer = setInterval(() => socket.write(XOFF), 20);
    socket.on("close", () => clearInterval(timer)).on("error", () => {});
    const lines = createInterface({ input: socket });
    const decode = consoleDecoder();
    lines.on("line", (line) => {
      const event = decode(line);
      if (event !== undefined) events.push(event);
    });
    // The interface passes the socket's errors on: a machine that is killed resets its connections.
    lines.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    events,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

test("a port that is never read, then one that says XOFF: the boot goes on, keys come, and nothing is lost", async () => {
  const session = await start({});
  const { vm } = session;
  const pipe = fullPipe();
  const host = await forbidding(join(state, "host.sock"));
  const ask = async <T>(path: string): Promise<T> => {
    const headers = { accept: "application/json" };
    const response = await fetch(new URL(path, session.url), {
      headers,
      signal: AbortSignal.timeout(30_000),
    });
    return (await response.json()) as T;
  };
  try {
    const started = await vm.event((event) => event.kind === "stage" && event.stage === "posture");
    ok(started, "PID 1 runs");
    await replug(vm, { type: "pipe", data: { device: pipe.path } });
    // From here on the guest cannot say a word. Its application answers when PID 1 has gone through all stages.
    let answer: { publicKey?: string } | undefined;
    for (let left = 240; left > 0 && answer === undefined; left--) {
      await sleep(1000);
      answer = await ask<{ publicKey: string }>("/").catch(() => undefined);
    }
    equal(answer?.publicKey?.length, 64, "the application has its key");

    const listening = { addr: { type: "unix", data: { path: join(state, "host.sock") } }, server: false };
    await replug(vm, { type: "socket", data: listening });
    const evidence = (event: ConsoleEvent) => event.kind === "evidence";
    for (let left = 240; left > 0 && !host.events.some(evidence); left--) await sleep(1000);
    const kinds = host.events.map(({ kind }) => kind);
    ok(kinds.includes("ready") && kinds.includes("evidence"), `after XOFF came: ${kinds.join(" ")}`);

    // The scheduler's order is the other half: whatever the application computes, PID 1 comes first.
    const { processes } = await ask<LiveReport>("/.well-known/caisson/live");
    const nice = (wanted: (process: LiveReport["processes"][number]) => boolean) => [
      ...new Set(processes.filter(wanted).map((process) => process.nice)),
    ];
    deepEqual(
      nice(({ pid }) => pid === 1),
      [-20],
    );
    deepEqual(
      nice(({ uid, kernelThread }) => uid !== 0 && !kernelThread),
      [0],
    );

    const qmp = await vm.qmp();
    await qmp.execute("system_powerdown");
    qmp.close();
    const last = (event: ConsoleEvent) => event.kind === "stopping";
    for (let left = 240; left > 0 && !host.events.some(last); left--) await sleep(500);
    ok(host.events.some(last), "the last words came");
  } finally {
    vm.kill();
    host.close();
    closeSync(pipe.file);
    await session.stop();
  }
});
