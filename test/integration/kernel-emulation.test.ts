// SPDX-License-Identifier: Apache-2.0
/**
 * The development kernel in a real machine: the emulation driver against the in-tree driver's interface
 * (kernel/driver/abi.json), its registers against our own replay of the boot log, its quotes against what the quoting
 * service was asked to sign. PID 1 is kernel-probe.c; one boot does everything.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { closeSync, openSync, writeSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { Vm } from "@caisson/host/vm";
import { inGroup } from "@caisson/image/assemble";
import { layoutErofs } from "@caisson/image/erofs";
import { cachePath } from "@caisson/image/fetch";
import { firmwareFiles } from "@caisson/image/recipe";
import { run } from "@caisson/image/toolchain";
import { directory, put } from "@caisson/image/tree";
import { measuredEvents, parseEventLog } from "@caisson/measure";
import { fold } from "@caisson/measure/rtmr";
import { replayPcrs } from "@caisson/measure/tpm-log";
import { cachedKernels } from "../../packages/image/src/build/kernel.ts";
import { readPackageFile } from "../../packages/image/src/build/rootfs.ts";
import { cache, lock, source, toolchain } from "../support/built.ts";

const repository = new URL("../../", import.meta.url).pathname;
const measurements = "/sys/devices/virtual/misc/tdx_guest/measurements";
const report = "/sys/kernel/config/tsm/report";
const bootLog = "/sys/kernel/security/tpm0/binary_bios_measurements";
const pauseMs = 2_000;

interface Step {
  step: string;
  answer: string;
}

const kernels = await cachedKernels({ toolchain, source, directory: join(repository, "kernel"), cache });
const kernel = kernels.get("development")!.image;
const firmware = inGroup(lock, "firmware-emulated")[0]!;

/** What the quoting service was asked to sign, and what it does with each request in turn. */
const bodies: Uint8Array[] = [];
const quote = Buffer.from(Array.from({ length: 5000 }, (_, index) => index % 251));
const answers: (() => Uint8Array)[] = [
  () => quote,
  () => {
    throw new Error("refused");
  },
  () => quote.subarray(0, 16),
  () => new Uint8Array(16 * 1024 + 1),
];

const quoteSteps = [
  `mkdir ${report}/q`,
  `write ${report}/q/inblob 0 64 0xa5`,
  `all ${report}/q/outblob`,
  `all ${report}/q/outblob`, // unchanged input: the same quote, no new request
  `write ${report}/q/inblob 0 64 0xa6`,
  `all ${report}/q/outblob`,
  `write ${report}/q/inblob 0 64 0xa7`,
  `all ${report}/q/outblob`,
  `write ${report}/q/inblob 0 64 0xa8`,
  `all ${report}/q/outblob`,
  `write ${report}/q/inblob 0 64 0xa9`,
  `all ${report}/q/outblob`,
  `read ${report}/q/generation`,
];
const pcrs = Array.from({ length: 16 }, (_, index) => index);
const machineSteps = [
  "all /proc/config.gz",
  `all ${bootLog}`,
  ...["mrtd", "rtmr0", "rtmr1", "rtmr2"].map((name) => `read ${measurements}/${name}:sha384`),
  ...pcrs.map((pcr) => `read /sys/class/tpm/tpm0/pcr-sha384/${pcr}`),
  "read /sys/kernel/security/lockdown",
  "list /dev",
  "list /sys/bus/serio",
];

async function readAbi(): Promise<Step[]> {
  const abi = await readFile(join(repository, "kernel/driver/abi.json"), "utf8");
  const paths = (text: string) => text.replace("$MEASUREMENTS", measurements).replace("$REPORT", report);
  return (JSON.parse(abi) as { steps: Step[] }).steps.map(({ step, answer }) => ({
    step: paths(step),
    answer,
  }));
}

/** The answers of the guest, in the order of the steps. */
async function boot(steps: readonly string[], place: string): Promise<string[]> {
  await copyFile(new URL("kernel-probe.c", import.meta.url), join(place, "probe.c"));
  const compile = [
    "gcc",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-static",
    "/scratch/probe.c",
    "-o",
    "/scratch/init",
  ];
  await run(toolchain, compile, { binds: { "/scratch": place } });

  const root = directory();
  const content = await readFile(join(place, "init"));
  put(root, "init", { kind: "file", mode: 0o755, content });
  put(root, "steps", { kind: "file", mode: 0o644, content: Buffer.from(`${steps.join("\n")}\n`) });
  for (const name of ["dev", "proc", "sys"]) put(root, name, directory());
  const rootfs = join(place, "root.img");
  const file = openSync(rootfs, "w");
  for (const chunk of layoutErofs(root, 0).chunks()) writeSync(file, chunk);
  closeSync(file);
  for (const { name, group, source } of firmwareFiles) {
    if (group !== "firmware-emulated") continue;
    await writeFile(
      join(place, name),
      await readPackageFile(cachePath(cache, firmware.sha256), source, firmware),
    );
  }

  const vm = await Vm.start({
    shape: { vcpus: 2, memory: 512 },
    firmwareCode: join(place, "emulated-code.fd"),
    firmwareVariables: join(place, "emulated-variables.fd"),
    kernel,
    commandLine: "console=ttyS0 no_timer_check root=/dev/vda rootfstype=erofs ro init=/init",
    rootfs,
    instance: new Uint8Array(4096),
    forwards: [],
    signQuote: async (body) => {
      bodies.push(Uint8Array.from(body));
      return answers[bodies.length - 1]!();
    },
    accelerator: "tcg",
    serialLog: join(place, "serial.log"),
    limitMs: 150_000,
  });
  const found: string[] = [];
  let banner = false;
  vm.on("line", (line) => {
    banner ||= line.includes("emulated TDX for development: proves nothing");
    const at = line.indexOf("probe: ");
    // A host that is busy just then must not cost the last answers, which the guest has written when it ends.
    if (line.includes("pcr-sha384/15")) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
    if (at !== -1) found.push(line.slice(at + "probe: ".length).trimEnd());
  });
  await vm.ended;
  ok(banner, "the driver announced itself");
  equal(found.pop(), "end", "the console came to its end");
  return found.map((line, index) => {
    const prefix = `${steps[index]}:`;
    ok(line.startsWith(prefix), `step ${index}: ${line.slice(0, 200)} is the answer to ${prefix}`);
    return line.slice(prefix.length).trim();
  });
}

const abi = await readAbi();
let abiAnswers: string[] = [];
let quoteAnswers: string[] = [];
const machine = new Map<string, string>();

before(
  async () => {
    const place = await mkdtemp(join(tmpdir(), "caisson-emulation-"));
    try {
      await mkdir(join(place, "out"));
      const steps = [...abi.map(({ step }) => step), ...quoteSteps, ...machineSteps];
      const found = await boot(steps, place);
      equal(found.length, steps.length, "every step was answered");
      abiAnswers = found.slice(0, abi.length);
      quoteAnswers = found.slice(abi.length, abi.length + quoteSteps.length);
      for (const [index, step] of machineSteps.entries()) {
        machine.set(step, found[abi.length + quoteSteps.length + index]!);
      }
    } finally {
      await rm(place, { recursive: true, force: true });
    }
  },
  { timeout: 170_000 },
);

const bytesOf = (step: string) => Buffer.from(machine.get(step)!, "hex");

for (const [index, { step, answer }] of abi.entries()) {
  test(`as the in-tree driver: ${step} → ${answer === "" ? "(nothing)" : answer.slice(0, 40)}`, () => {
    equal(abiAnswers[index], answer);
  });
}

test("the log that user space reads replays to the TPM's PCRs", async () => {
  const replayed = await replayPcrs(parseEventLog(bytesOf(`all ${bootLog}`)));
  for (const pcr of pcrs) {
    const held = bytesOf(`read /sys/class/tpm/tpm0/pcr-sha384/${pcr}`)
      .toString("latin1")
      .trim()
      .toLowerCase();
    equal(Buffer.from(replayed.get(pcr) ?? new Uint8Array(48)).toString("hex"), held, `PCR ${pcr}`);
  }
});

test("MRTD and RTMR0–2 are our own replay of that log", async () => {
  const events = measuredEvents(parseEventLog(bytesOf(`all ${bootLog}`)), "pcr");
  for (const register of ["mrtd", "rtmr0", "rtmr1", "rtmr2"] as const) {
    const digests = events.filter((event) => event.register === register).map(({ digest }) => digest);
    ok(digests.length > 0, `${register} has events`);
    const expected = Buffer.from(await fold(digests)).toString("hex");
    equal(machine.get(`read ${measurements}/${register}:sha384`), expected, register);
  }
});

test("a quote's body has the registers and the report data where a TD 1.0 quote has them", () => {
  equal(bodies[0]!.length, 584);
  const body = Buffer.from(bodies[0]!);
  const field = (offset: number, size = 48) => body.subarray(offset, offset + size).toString("hex");
  equal(field(0, 120), "00".repeat(120)); // TEE_TCB_SVN, MRSEAM, MRSIGNERSEAM, SEAMATTRIBUTES
  equal(body.readBigUInt64LE(120), 0x1000_0000n); // TDATTRIBUTES: SEPT_VE_DISABLE
  equal(body.readBigUInt64LE(128), 0xe7n); // XFAM
  equal(field(136), machine.get(`read ${measurements}/mrtd:sha384`));
  equal(field(184, 144), "00".repeat(144)); // MRCONFIGID, MROWNER, MROWNERCONFIG
  for (const index of [0, 1, 2]) {
    equal(field(328 + 48 * index), machine.get(`read ${measurements}/rtmr${index}:sha384`));
  }
  const sha384 = (...parts: Uint8Array[]) => createHash("sha384").update(Buffer.concat(parts)).digest();
  const once = sha384(new Uint8Array(48), new Uint8Array(48).fill(1)); // the two writes of abi.json
  equal(field(472), sha384(once, new Uint8Array(48).fill(2)).toString("hex"));
  equal(field(520, 64), "a5".repeat(64));
});

test("a quote arrives whole, once; a refusal is EIO, the next quote works; one too long is EFBIG and ends it", () => {
  const reads = quoteAnswers.filter((_, index) => quoteSteps[index]!.startsWith("all "));
  const whole = quote.toString("hex");
  const named = reads.map((answer) => (answer === whole ? "whole" : answer.slice(0, 40)));
  deepEqual(named, ["whole", "whole", "EIO", quote.subarray(0, 16).toString("hex"), "EFBIG", "EIO"]);
  equal(bodies.length, 4);
  equal(Buffer.from(quoteAnswers.at(-1)!, "hex").toString(), "5\n");
});

test("the kernel is locked down, shows no memory, no TPM of somebody else, and its committed configuration", async () => {
  match(bytesOf("read /sys/kernel/security/lockdown").toString(), /\[confidentiality\]/);
  const devices = machine.get("list /dev")!.split(" ");
  for (const name of [
    "mem",
    "kmem",
    "port",
    "hpet",
    "hwrng",
    "rtc0",
    "fuse",
    "vsock",
    "loop-control",
    "kvm",
  ]) {
    equal(devices.includes(name), false, `/dev/${name}`);
  }
  equal(machine.get("list /sys/bus/serio"), "ENOENT");
  const committed = await readFile(join(repository, "kernel/resolved-development.config"), "utf8");
  equal(gunzipSync(bytesOf("all /proc/config.gz")).toString(), committed);
});
