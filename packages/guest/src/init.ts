// SPDX-License-Identifier: Apache-2.0
/**
 * PID 1. Mounts the kernel's interfaces, runs the stages in order, watches the services, and powers off.
 *
 * Invariants: the stages run exactly once, in the order below; any failure, foreseen or not, is said on the console
 * and ends in power-off before a key exists or with the key gone; nothing is read from the console, and nothing that is
 * written to it is waited for; every wait has a timer, and so has every stage; no child is left unreaped for long; no
 * shell or helper program is ever run but crun.
 *
 * `main.ts` starts it. What it stands on is a parameter, so that a test starts it too: as a process of its own, in a
 * directory, with system calls that only say that they were made.
 */
import { createReadStream, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  bootSequenceOf,
  type GuestConfig,
  parseGuestConfig,
  persistentVolumes,
  secretNames,
} from "@caisson/protocol/guest-config";
import { SealedLog } from "@caisson/protocol/sealed-log";
import { answerChallenge } from "./challenge.ts";
import { Console, type Port, secondsSinceStart, type Unstamped } from "./console.ts";
import { RuntimeLog } from "./event-log.ts";
import { attester } from "./evidence.ts";
import { KeyFiles } from "./key-files.ts";
import { withLimit } from "./limit.ts";
import { limitReadAhead } from "./read-ahead.ts";
import type { Prepared } from "./services/launch.ts";
import type { Fronted } from "./services/prepare.ts";
import type { Supervisor } from "./services/supervisor.ts";
import { type Context, type Stage, StageFailure } from "./stage.ts";
import { appStage } from "./stages/app.ts";
import { entropyStage } from "./stages/entropy.ts";
import { frontStage } from "./stages/front.ts";
import { identity } from "./stages/identity.ts";
import { keys } from "./stages/keys.ts";
import { postureStage } from "./stages/posture.ts";
import { secrets } from "./stages/secrets.ts";
import { time } from "./stages/time.ts";
import { volumesStage } from "./stages/volumes.ts";
import { MS, type Syscalls } from "./syscalls.ts";
import { kernelPaths, tsmPlatform } from "./tsm.ts";
import type { Keeper } from "./volumes/keeper.ts";

/** What PID 1 stands on. */
export interface Ground {
  syscalls: Syscalls;
  /** Where files are read and written: "/", or a test's directory. */
  root: string;
  /** Where it says what it does. */
  port: Port;
  /** Lets whoever started the machine run programs beside the services; development images alone have it. */
  exec?: (context: Context, services: ReadonlyMap<string, Prepared>) => void;
}

let syscalls: Syscalls;
let root: string;
let terminal: Console;
let exec: Ground["exec"];
let services: Supervisor | undefined;
let keeper: Keeper | undefined;
/** What services write, for those whom the description names. */
let sealed: SealedLog | undefined;
/** How long a line waits for others. */
const sealMs = 1_000;

const at = (path: string): string => join(root, path);

const say = (event: Unstamped): void => terminal.say(event);

/** The kernel's interfaces, and the two places that can be written: both tmpfs, without programs or devices. */
function mountAll(): void {
  const quiet = MS.nosuid | MS.nodev | MS.noexec;
  syscalls.mount("proc", "/proc", "proc", quiet, "hidepid=2");
  syscalls.mount("sysfs", "/sys", "sysfs", quiet, "");
  syscalls.mount("securityfs", "/sys/kernel/security", "securityfs", quiet, "");
  syscalls.mount("configfs", "/sys/kernel/config", "configfs", quiet, "");
  syscalls.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", quiet, "");
  syscalls.mount("tmpfs", "/run", "tmpfs", quiet, "mode=755,size=64m");
  syscalls.mount("tmpfs", "/tmp", "tmpfs", quiet, "mode=1777,size=64m");
  mkdirSync(at("/run/caisson"), { mode: 0o700 });
}

/** Name servers that the kernel's DHCP client learned: untrusted, as every name is authenticated above it. */
function configureResolver(): void {
  const learned = at("/proc/net/pnp");
  const lines = existsSync(learned) ? readFileSync(learned, "utf8").split("\n") : [];
  const servers = lines.filter((line) => /^nameserver [0-9.]+$/.test(line)).slice(0, 3);
  writeFileSync(at("/run/resolv.conf"), `${servers.join("\n")}\n`);
}

/** A fault that no stage foresaw: all that is known about it. */
const described = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : String(error);

async function runStage(stage: Stage, context: Context): Promise<void> {
  const started = performance.now();
  const seconds = () => Number(((performance.now() - started) / 1000).toFixed(3));
  say({ kind: "stage", stage: stage.name, state: "started" });
  try {
    const note = await withLimit(
      stage.run(context),
      stage.limitMs,
      () => new StageFailure(`${stage.name}/no-end`, `it did not end within ${stage.limitMs / 1000} s`),
    );
    say({
      kind: "stage",
      stage: stage.name,
      state: "done",
      seconds: seconds(),
      ...(note !== undefined && { note }),
    });
  } catch (error) {
    const failure =
      error instanceof StageFailure ? error : new StageFailure(`${stage.name}/internal`, described(error));
    const { reason, message } = failure;
    say({ kind: "stage", stage: stage.name, state: "failed", seconds: seconds(), reason, message });
    throw failure;
  }
}

/** What stages get: the platform, the log of events, and how each says what it did. */
function contextOf(config: GuestConfig): Context {
  const platform = tsmPlatform("caisson", kernelPaths(root));
  const log = new RuntimeLog(platform, at("/run/caisson/runtime-events.jsonl"), bootSequenceOf(config.app));
  const context: Context = {
    config,
    platform,
    syscalls,
    attest: attester(platform, log, () => context.instance),
    events: () => log.events,
    keyFiles: new KeyFiles(),
    log: (text) => say({ kind: "note", text }),
    certificate: (report) => say({ kind: "certificate", names: config.app.front?.names ?? [], ...report }),
    async measure(event, payload) {
      const digest = Buffer.from(await log.append(event, payload)).toString("hex");
      say({ kind: "measured", event, digest, payload: Buffer.from(payload).toString("hex") });
    },
  };
  return context;
}

const boundary: Stage = {
  name: "boundary",
  limitMs: 60_000,
  async run({ measure }) {
    await measure("boot-mr-done", new Uint8Array());
    return undefined;
  },
};

/** Services, and what connections reach of them: their stage, the front's, and the port once it is known. */
function applicationStages({ flavour, app }: GuestConfig, context: Context) {
  const several = Object.keys(app.services).length > 1;
  // A front listens, whether the application behind it does yet or not.
  const found: { port?: number | undefined; fronted?: Fronted } = {};
  const running = appStage({
    line(service, line) {
      if (flavour === "development") say({ kind: "app", ...(several && { service }), line });
      sealed?.add([secondsSinceStart(), service, line]);
    },
    state(service, state, detail) {
      say({ kind: "service", service, state, ...(detail !== undefined && { detail }) });
    },
    began(supervisor, prepared) {
      services = supervisor;
      exec?.(context, prepared);
    },
    listens(main) {
      found.port = main;
    },
    fronted(prepared) {
      found.fronted = prepared;
    },
    waits(service, wanted, others) {
      const instead = others.length === 0 ? "it listens on no port" : `it listens on ${others.join(", ")}`;
      say({ kind: "note", text: `waiting for ${service} on port ${wanted}: ${instead}` });
    },
  });
  const front = frontStage(
    () => found.fronted!,
    ({ ended }) => void ended.then(({ status }) => powerOff(`the front ended with status ${status}`)),
  );
  return {
    stages: [running, ...(app.front === undefined ? [] : [front])],
    port: () => found.port ?? app.front?.port,
  };
}

/** The stages in order; images without persistent volumes, secrets or a front have no such stage. */
function stagesOf(config: GuestConfig, application: readonly Stage[]): Stage[] {
  const volumes = volumesStage(root, (reason, message) => {
    say({ kind: "note", text: `${reason}: ${message}` });
    void powerOff(reason);
  });
  return [
    postureStage(root),
    entropyStage(root),
    identity,
    time,
    boundary,
    keys,
    ...(persistentVolumes(config.app).length > 0 ? [volumes] : []),
    ...(secretNames(config.app).length > 0 ? [secrets] : []),
    ...application,
  ];
}

async function boot(): Promise<void> {
  syscalls.comeFirst();
  mountAll();
  limitReadAhead(root);
  configureResolver();
  syscalls.forbidCoreDumps();
  syscalls.forbidNewCode();
  const config = parseGuestConfig(JSON.parse(readFileSync(at("/etc/caisson/guest.json"), "utf8")));
  if (config.flavour === "development") {
    say({
      kind: "note",
      text: "DEVELOPMENT IMAGE: it protects nothing and its evidence proves nothing about hardware",
    });
  }
  const context = contextOf(config);
  if (config.app.logs !== undefined) {
    const recipients = config.app.logs.to.map((key) => Buffer.from(key, "hex"));
    sealed = new SealedLog(recipients, (data) => say({ kind: "log", data }));
    setInterval(() => sealed?.flush(), sealMs).unref();
  }
  const application = applicationStages(config, context);
  for (const stage of stagesOf(config, application.stages)) {
    await runStage(stage, context);
    keeper = context.keeper;
  }
  const port = application.port();
  say({ kind: "ready", ...(port !== undefined && { port }) });
  if (config.flavour === "development") await answerChallenge(context, say);
  const outcome = await services!.ended();
  if (stopping) return;
  say({ kind: "ended", ...outcome });
  await powerOff(`the application ended with status ${outcome.status}`);
}

/** How long the host may take to read what was said last, before the port's own buffer is waited for. */
const lastWordsMs = 2_000;
/** All services, one after the other, each with its grace period; after that the machine ends without them. */
const stopLimitMs = 300_000;
/** What services wrote last. */
const lastCheckpointMs = 60_000;
let stopping = false;

async function powerOff(reason: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  say({ kind: "stopping", reason });
  try {
    await orSay(services?.stop(), stopLimitMs, "services do not end");
    await orSay(keeper?.close(), lastCheckpointMs, "the last checkpoint does not end");
    sealed?.flush(true);
    await terminal.drained(lastWordsMs);
  } finally {
    syscalls.powerOff();
  }
}

/** What is to be done at the end, each part whether the one before succeeded or not. */
async function orSay(part: Promise<void> | undefined, limitMs: number, late: string): Promise<void> {
  try {
    await withLimit(part ?? Promise.resolve(), limitMs, () => new Error(late));
  } catch (error) {
    say({ kind: "note", text: described(error) });
  }
}

/** The host asks for a clean end with the ACPI power button: KEY_POWER of the only input device there can be. */
function watchPowerButton(): void {
  const device = at("/dev/input/event0");
  if (!existsSync(device)) return;
  // struct input_event on x86-64: two u64 of time, u16 type, u16 code, s32 value (include/uapi/linux/input.h).
  const KEY_POWER = 116;
  createReadStream(device, { highWaterMark: 24 }).on("data", (event) => {
    const bytes = event as Buffer;
    if (bytes.length >= 24 && bytes.readUInt16LE(16) === 1 && bytes.readUInt16LE(18) === KEY_POWER) {
      void powerOff("the host pressed the power button");
    }
  });
}

/** The whole life of PID 1. Returns, if ever, after the kernel was asked to power off. */
export async function init(ground: Ground): Promise<void> {
  ({ syscalls, root, exec } = ground);
  terminal = new Console(ground.port);
  process.on("uncaughtException", (error) => {
    say({ kind: "note", text: `fault in PID 1: ${described(error)}` });
    void powerOff("a fault in PID 1");
  });
  try {
    watchPowerButton();
    await boot();
  } catch (error) {
    // A stage has said by itself why it failed; what failed before the first one has not.
    if (!(error instanceof StageFailure))
      say({ kind: "note", text: `before the first stage: ${described(error)}` });
    await powerOff(error instanceof StageFailure ? error.reason : "a fault in PID 1");
  }
}
