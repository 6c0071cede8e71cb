// SPDX-License-Identifier: Apache-2.0
/**
 * One running machine: swtpm, the quoting service and QEMU in a directory of their own that goes when they end.
 * The guest's console is read line by line, kept in a log, and decoded for whoever shows the boot.
 */

import type { ChildProcess } from "node:child_process";
import { EventEmitter } from "node:events";
import {
  closeSync,
  constants,
  copyFileSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import type { Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { type ConsoleEvent, consoleDecoder } from "@caisson/protocol/console";
import type { SignQuote } from "@caisson/simulated/simulated-platform";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { messageOf } from "@caisson/vocabulary/failure";
import { end, exited, runs, start, waitForSocket } from "./child.ts";
import { HostError } from "./errors.ts";
import { type Accelerator, emulatedMachine, type Forward, type Shape } from "./machine.ts";
import { Qmp } from "./qmp.ts";
import { serveQuotes } from "./quoting.ts";
import { startTpm } from "./swtpm.ts";

export interface VmOptions {
  shape: Shape;
  firmwareCode: string;
  /** Template; each machine gets its own copy. */
  firmwareVariables: string;
  kernel: string;
  commandLine: string;
  rootfs: string;
  /** Bytes of the instance document's device. */
  instance: Uint8Array;
  /** Disks of the persistent volumes, in the order of their names. */
  volumes?: readonly string[];
  forwards: readonly Forward[];
  signQuote: SignQuote;
  accelerator: Accelerator;
  /** Where the console's log is kept, whatever happens. */
  serialLog: string;
  /** The machine is killed when it is still there after this; without it, it runs until it is told to end. */
  limitMs?: number;
  /** Appended to QEMU's arguments. */
  extraArguments?: readonly string[];
}

interface LaunchOptions {
  /** QEMU, where it is not the one in PATH. */
  program?: string;
  qmpSocket: string;
  serialLog: string;
  limitMs?: number;
  /** What the machine writes to; none when left out. */
  volumes?: readonly string[];
  tidy: () => Promise<void>;
}

interface VmEvents {
  console: [event: ConsoleEvent];
  line: [line: string];
  /** The host has no room for what the machine writes, so that QEMU stopped it; or there is room again, and it goes on. */
  room: [there: boolean];
}

/** How often a machine with disks to write to is looked at; ms. */
const roomMs = 2_000;

export class Vm extends EventEmitter<VmEvents> {
  /** Everything the guest has said so far. */
  readonly events: ConsoleEvent[] = [];
  /** Resolves when QEMU is gone and everything of this machine is cleaned up. */
  readonly ended: Promise<number | NodeJS.Signals>;
  readonly #qemu: ChildProcess;
  readonly #qmpSocket: string;
  /** Puts a line of this host's among the console's, and in its log. */
  readonly #note: (line: string) => void;

  private constructor(qemu: ChildProcess, qmpSocket: string, serialLog: string, tidy: () => Promise<void>) {
    super();
    this.#qemu = qemu;
    this.#qmpSocket = qmpSocket;
    const log = openSync(serialLog, "w");
    const console = createInterface({ input: qemu.stdout! });
    const decode = consoleDecoder();
    this.#note = (line) => {
      writeSync(log, `${line}\n`);
      this.emit("line", line);
    };
    console.on("line", (line) => {
      this.#note(line);
      const event = decode(line);
      if (event === undefined) return;
      this.events.push(event);
      this.emit("console", event);
    });
    const read = new Promise<void>((resolve) => {
      console.once("close", resolve);
    });
    this.ended = exited(qemu).then(async (status) => {
      await read;
      closeSync(log);
      await tidy();
      return status;
    });
  }

  /** Starts everything; resolves when the machine runs. Throws HostError; nothing is left behind then. */
  static async start(options: VmOptions): Promise<Vm> {
    const directory = mkdtempSync(join(tmpdir(), "caisson-vm-"));
    let quotes: Server | undefined;
    let tpm: ChildProcess | undefined;
    const tidy = async (): Promise<void> => {
      quotes?.close();
      if (tpm !== undefined) await end(tpm);
      rmSync(directory, { recursive: true, force: true });
    };
    try {
      makeDirectory(dirname(options.serialLog));
      const parts = {
        ...options,
        instance: join(directory, "instance.img"),
        firmwareVariables: join(directory, "variables.fd"),
        tpmSocket: join(directory, "tpm.sock"),
        qmpSocket: join(directory, "qmp.sock"),
        quoteSocket: join(directory, "quotes.sock"),
      };
      writeFileSync(parts.instance, options.instance);
      copyFileSync(options.firmwareVariables, parts.firmwareVariables, constants.COPYFILE_FICLONE);
      quotes = await serveQuotes(parts.quoteSocket, options.signQuote);
      tpm = (await startTpm(directory)).process;
      const args = [...emulatedMachine(options.shape, parts), ...(options.extraArguments ?? [])];
      return await Vm.launch(args, { ...options, qmpSocket: parts.qmpSocket, tidy });
    } catch (error) {
      await tidy();
      throw error;
    }
  }

  /**
   * Starts QEMU with exactly these arguments, whose console is its standard output and whose control socket is
   * `qmpSocket`; resolves when the machine runs. `tidy` is called when it ended. Throws HostError; the machine is gone then.
   */
  static async launch(
    args: readonly string[],
    { program = "qemu-system-x86_64", qmpSocket, serialLog, limitMs, volumes = [], tidy }: LaunchOptions,
  ): Promise<Vm> {
    let timer: NodeJS.Timeout | undefined;
    const qemu = await start(program, [...args], "qemu-system-x86");
    let said = "";
    qemu.stderr!.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-2000);
    });
    // "close" comes when its output has been read to the end, later than "exit".
    const complained = new Promise<unknown>((resolve) => qemu.once("close", resolve));
    const vm = new Vm(qemu, qmpSocket, serialLog, async () => {
      clearTimeout(timer);
      await tidy();
    });
    if (limitMs !== undefined) timer = setTimeout(() => vm.kill(), limitMs);
    void kvmGaveUp(qemu).then(() => {
      if (!runs(qemu)) return;
      vm.#note("KVM cannot run this machine here (KVM internal error, says QEMU)");
      vm.kill();
    });
    try {
      await waitForSocket(qmpSocket, qemu);
      // The socket is there first; QEMU answers on it when it has made the machine.
      (await Qmp.connect(qmpSocket)).close();
    } catch (error) {
      vm.kill();
      await Promise.all([vm.ended, complained]);
      const code = error instanceof HostError ? error.code : "host/program-failed";
      const facts = [["QEMU said", said.trim() || `nothing: ${messageOf(error)}`]] as const;
      throw new HostError(code, "QEMU did not start the machine", { facts });
    }
    if (volumes.length > 0) vm.#watchRoom();
    return vm;
  }

  /** QEMU stops a machine whose write fails for want of room (`werror=enospc`), and repeats the write when told to go on. */
  #watchRoom(there = true): void {
    const timer = setTimeout(() => void this.#lookForRoom(there), roomMs).unref();
    void this.ended.then(() => clearTimeout(timer));
  }

  async #lookForRoom(there: boolean): Promise<void> {
    let now = there;
    try {
      const qmp = await this.qmp();
      const { status } = (await qmp.execute("query-status")) as { status: string };
      now = status !== "io-error";
      if (!now) await qmp.execute("cont");
      qmp.close();
    } catch {
      // It ended, or something else goes wrong with it, which is said elsewhere.
    }
    if (now !== there) this.emit("room", now);
    if (runs(this.#qemu)) this.#watchRoom(now);
  }

  /** A connection to QEMU's control socket; the caller closes it. */
  qmp(): Promise<Qmp> {
    return Qmp.connect(this.#qmpSocket);
  }

  /** The next event for which `wanted` holds, past ones included; undefined when the machine ends first. */
  async event(wanted: (event: ConsoleEvent) => boolean): Promise<ConsoleEvent | undefined> {
    const past = this.events.find(wanted);
    if (past !== undefined) return past;
    return new Promise((resolve) => {
      const look = (event: ConsoleEvent): void => {
        if (!wanted(event)) return;
        this.off("console", look);
        resolve(event);
      };
      this.on("console", look);
      void this.ended.then(() => resolve(this.events.find(wanted)));
    });
  }

  /** Asks for a clean power-off (ACPI power button), then kills after `graceMs`. */
  async powerDown(graceMs = 15_000): Promise<void> {
    if (!runs(this.#qemu)) return void (await this.ended);
    // QEMU itself may hang, so the time runs from before it is asked.
    const timer = setTimeout(() => this.kill(), graceMs);
    try {
      const qmp = await this.qmp();
      await qmp.execute("system_powerdown");
      qmp.close();
    } catch {
      this.kill();
    }
    await this.ended;
    clearTimeout(timer);
  }

  kill(): void {
    this.#qemu.kill("SIGKILL");
  }
}

/** Resolves where QEMU says that KVM cannot go on with its machine, which then stands still for ever. */
export const kvmGaveUp = (qemu: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    createInterface({ input: qemu.stderr! }).on("line", (line) => {
      if (line.startsWith("KVM internal error")) resolve();
    });
  });
