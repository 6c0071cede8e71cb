// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import type { HostError } from "./errors.ts";
import { Vm } from "./vm.ts";

const scratch = temporaryDirectory("test");

test("a machine that QEMU refuses: its words, and nothing left behind", async () => {
  const place = join(scratch, "places");
  mkdirSync(place);
  const file = join(scratch, "file");
  writeFileSync(file, new Uint8Array(4096));
  const usual = process.env.TMPDIR;
  process.env.TMPDIR = place;
  try {
    const start = Vm.start({
      shape: { vcpus: 1, memory: 64 },
      firmwareCode: file,
      firmwareVariables: file,
      kernel: join(scratch, "no-such-kernel"),
      commandLine: "",
      rootfs: file,
      instance: new Uint8Array(512),
      forwards: [],
      signQuote: () => Promise.reject(new Error("unused")),
      accelerator: "tcg",
      serialLog: join(scratch, "serial.log"),
    });
    await rejects(start, (error: HostError) => {
      equal(error.code, "host/program-failed");
      match(error.facts?.[0]?.[1] ?? "", /could not open kernel file/);
      return true;
    });
  } finally {
    if (usual === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = usual;
  }
  equal(readdirSync(place).join(), "");
});

/** What `Vm` needs of QEMU: a control socket, whose machine stops for want of room once and goes on at the second asking. */
const fakeQemu = (socket: string) => `#!${process.execPath}
let asked = 0;
const states = ["running", "io-error", "io-error", "running"];
require("node:net").createServer((client) => {
  client.write(JSON.stringify({ QMP: {} }) + "\\n");
  require("node:readline").createInterface({ input: client }).on("line", (line) => {
    const { execute, id } = JSON.parse(line);
    if (execute === "query-status") client.write(JSON.stringify({ return: { status: states[Math.min(asked++, 3)] }, id }) + "\\n");
    else {
      if (execute === "cont") console.log("told to go on");
      client.write(JSON.stringify({ return: {}, id }) + "\\n");
    }
  }).on("error", () => {});
  client.on("error", () => {});
}).listen(${JSON.stringify(socket)});
`;

test("a machine that QEMU stopped for want of room: it is said once, told to go on until it does, and said again", async () => {
  const [program, qmpSocket] = [join(scratch, "fake-qemu.cjs"), join(scratch, "fake.sock")];
  writeFileSync(program, fakeQemu(qmpSocket), { mode: 0o755 });
  const serialLog = join(scratch, "fake.log");
  const vm = await Vm.launch([], { program, qmpSocket, serialLog, volumes: ["a"], tidy: async () => {} });
  const said: boolean[] = [];
  const told: string[] = [];
  vm.on("room", (there) => said.push(there)).on("line", (line) => told.push(line));
  try {
    await once(vm, "room", { signal: AbortSignal.timeout(60_000) });
    await once(vm, "room", { signal: AbortSignal.timeout(60_000) });
  } finally {
    vm.kill();
    await vm.ended;
  }
  deepEqual(
    [said, told],
    [
      [false, true],
      ["told to go on", "told to go on"],
    ],
  );
});

test("a machine that KVM gives up stands still: it is ended, and the console's log says why", async () => {
  const [program, qmpSocket] = [join(scratch, "given-up.cjs"), join(scratch, "given-up.sock")];
  const said = "setTimeout(() => console.error('KVM internal error. Suberror: 1'), 200);";
  writeFileSync(program, fakeQemu(qmpSocket) + said, { mode: 0o755 });
  const serialLog = join(scratch, "given-up.log");
  const vm = await Vm.launch([], {
    program,
    qmpSocket,
    serialLog,
    limitMs: 60_000,
    tidy: async () => {},
  });
  const started = performance.now();
  equal(await vm.ended, "SIGKILL");
  equal(performance.now() - started < 50_000, true, "not by its time limit");
  match(readFileSync(serialLog, "utf8"), /KVM cannot run this machine/);
});
