// SPDX-License-Identifier: Apache-2.0
/**
 * QEMU's qtest protocol (docs/devel/testing/qtest.rst): port and memory access on a machine whose CPUs do not run.
 * One line a command, one line an answer; lines that begin with IRQ are notices.
 */
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { end, start } from "./child.ts";
import { HostError } from "./errors.ts";

/** A QEMU binary: the program, and what comes before its own arguments (a loader with its library path, say). */
export interface Qemu {
  program: string;
  prefix?: readonly string[];
}

/** For QEMU to come up, and for each of its answers. */
const usualLimitMs = 30_000;

/** A stopped machine. Always `close` it. */
export class Qtest {
  readonly #child: ChildProcess;
  readonly #socket: Socket;
  readonly #answers: AsyncIterator<string>;
  readonly #cleanUp: () => void;
  readonly #limitMs: number;

  private constructor(child: ChildProcess, socket: Socket, cleanUp: () => void, limitMs: number) {
    this.#child = child;
    this.#socket = socket;
    this.#answers = createInterface({ input: socket, crlfDelay: Number.POSITIVE_INFINITY })[
      Symbol.asyncIterator
    ]();
    this.#cleanUp = cleanUp;
    this.#limitMs = limitMs;
  }

  /**
   * Starts QEMU with a machine's arguments, stopped (or, for tests that look at a live machine, running), without any
   * accelerator that would need a device of the host.
   * Throws HostError "host/program-failed" with what QEMU said when it does not come up, "host/time-limit" after `limitMs`.
   */
  static async start(
    qemu: Qemu,
    machine: readonly string[],
    running = false,
    limitMs = usualLimitMs,
  ): Promise<Qtest> {
    const directory = mkdtempSync(join(tmpdir(), "caisson-qtest-"));
    const path = join(directory, "qtest.sock");
    const server = createServer();
    const cleanUp = () => {
      server.close();
      rmSync(directory, { recursive: true, force: true });
    };
    try {
      await new Promise<void>((resolve) => server.listen(path, resolve));
      // "-accel qtest" is not built into every QEMU; stopped TCG is the same machine.
      const args = [
        "-qtest",
        `unix:${path}`,
        "-qtest-log",
        "none",
        "-display",
        "none",
        "-accel",
        "tcg",
        ...(running ? [] : ["-S"]),
      ];
      const child = await start(
        qemu.program,
        [...(qemu.prefix ?? []), ...machine, ...args],
        "qemu-system-x86",
      );
      const socket = await connection(server, child, limitMs);
      return new Qtest(child, socket, cleanUp, limitMs);
    } catch (error) {
      cleanUp();
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#socket.destroy();
    await end(this.#child);
    this.#cleanUp();
  }

  async #command(line: string): Promise<string> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#child.kill("SIGKILL");
    }, this.#limitMs);
    try {
      return await this.#answerTo(line);
    } catch (error) {
      if (!late) throw error;
      const seconds = this.#limitMs / 1000;
      throw new HostError(
        "host/time-limit",
        `QEMU did not answer '${line.slice(0, 40)}' within ${seconds} s`,
      );
    } finally {
      clearTimeout(timer);
    }
  }

  async #answerTo(line: string): Promise<string> {
    this.#socket.write(`${line}\n`);
    for (;;) {
      const { value, done } = await this.#answers.next();
      if (done === true) throw new HostError("host/vm-ended", `QEMU ended during '${line.slice(0, 40)}'`);
      if (value.startsWith("IRQ")) continue;
      if (!value.startsWith("OK")) {
        throw new HostError(
          "host/program-failed",
          `qtest refused '${line.slice(0, 40)}': ${value.slice(0, 80)}`,
        );
      }
      return value.slice(3);
    }
  }

  async outb(port: number, value: number): Promise<void> {
    await this.#command(`outb ${hex(port)} ${hex(value)}`);
  }
  async outl(port: number, value: number): Promise<void> {
    await this.#command(`outl ${hex(port)} ${hex(value >>> 0)}`);
  }
  async inl(port: number): Promise<number> {
    return Number(await this.#command(`inl ${hex(port)}`));
  }
  async writel(address: number, value: number): Promise<void> {
    await this.#command(`writel ${hex(address)} ${hex(value)}`);
  }
  async readl(address: number): Promise<number> {
    return Number(await this.#command(`readl ${hex(address)}`));
  }
  async write(address: number, bytes: Uint8Array): Promise<void> {
    await this.#command(`write ${hex(address)} ${hex(bytes.length)} 0x${Buffer.from(bytes).toString("hex")}`);
  }
  async read(address: number, size: number): Promise<Uint8Array> {
    const answer = await this.#command(`read ${hex(address)} ${hex(size)}`);
    return new Uint8Array(Buffer.from(answer.slice(2), "hex"));
  }
}

const hex = (value: number) => `0x${value.toString(16)}`;

/** The connection that QEMU opens; an error with QEMU's own words if it ends or stays away. */
async function connection(server: Server, child: ChildProcess, limitMs: number): Promise<Socket> {
  const said: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (data: Buffer) => {
      if (said.length < 64) said.push(data);
    });
  }
  const facts = (): [string, string][] => [
    ["said", Buffer.concat(said).toString("utf8").trim().slice(0, 2000)],
  ];
  // "close" comes when its output has been read to the end, later than "exit".
  const closed = new Promise<unknown>((resolve) => child.once("close", resolve));
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      new Promise<Socket>((resolve) => server.once("connection", resolve)),
      closed.then((status) => {
        throw new HostError("host/program-failed", `QEMU ended with ${String(status)}`, { facts: facts() });
      }),
      new Promise<never>((_, reject) => {
        const expired = () =>
          reject(new HostError("host/time-limit", "QEMU did not open its qtest connection"));
        timer = setTimeout(expired, limitMs);
      }),
    ]);
  } catch (error) {
    if (child.exitCode === null) await end(child);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
