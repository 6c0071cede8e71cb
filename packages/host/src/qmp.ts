// SPDX-License-Identifier: Apache-2.0
/** QEMU's machine protocol (QMP): one JSON document a line over a Unix socket. */
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { HostError } from "./errors.ts";

interface Answer {
  return?: unknown;
  error?: { class: string; desc: string };
  id?: number;
}

/** What a command gets when there is nobody to answer it. */
const closed: Answer = { error: { class: "Closed", desc: "QEMU closed its socket" } };

/** For one answer: QEMU makes its machine, or writes its memory to a file, before it gives some. */
const usualLimitMs = 300_000;

export class Qmp {
  readonly #socket: Socket;
  readonly #limitMs: number;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #next = 1;

  private constructor(socket: Socket, limitMs: number) {
    this.#socket = socket;
    this.#limitMs = limitMs;
    const lines = createInterface({ input: socket });
    lines.on("line", (line) => {
      const answer = JSON.parse(line) as Answer;
      if (answer.id !== undefined) this.#waiting.get(answer.id)?.(answer);
    });
    const fail = (): void => {
      for (const settle of this.#waiting.values()) settle(closed);
    };
    socket.on("close", fail).on("error", fail);
    // The interface passes the socket's errors on; they are dealt with above.
    lines.on("error", () => {});
  }

  /** Throws HostError when QEMU does not answer; `limitMs` is for each answer. */
  static async connect(path: string, limitMs = usualLimitMs): Promise<Qmp> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve).once("error", reject);
    });
    const qmp = new Qmp(socket, limitMs);
    try {
      await qmp.execute("qmp_capabilities");
    } catch (error) {
      qmp.close();
      throw error;
    }
    return qmp;
  }

  /** Runs one command and returns what it answers. Throws HostError when QEMU refuses, is gone or hangs. */
  async execute(command: string, args: object = {}): Promise<unknown> {
    const id = this.#next++;
    let timer: NodeJS.Timeout | undefined;
    const answer = new Promise<Answer>((resolve, reject) => {
      if (this.#socket.destroyed) return resolve(closed);
      this.#waiting.set(id, resolve);
      const late = `QEMU does not answer ${command} within ${this.#limitMs / 1000} s`;
      timer = setTimeout(() => reject(new HostError("host/time-limit", late)), this.#limitMs);
    });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    const { error, return: value } = await answer.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(id);
    });
    if (error !== undefined)
      throw new HostError("host/program-failed", `QEMU refuses ${command}: ${error.desc}`);
    return value;
  }

  close(): void {
    this.#socket.destroy();
  }
}
