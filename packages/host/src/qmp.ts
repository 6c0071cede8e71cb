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

export class Qmp {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #next = 1;

  private constructor(socket: Socket) {
    this.#socket = socket;
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

  static async connect(path: string): Promise<Qmp> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve).once("error", reject);
    });
    const qmp = new Qmp(socket);
    await qmp.execute("qmp_capabilities");
    return qmp;
  }

  /** Runs one command and returns what it answers. Throws HostError when QEMU refuses or is gone. */
  async execute(command: string, args: object = {}): Promise<unknown> {
    const id = this.#next++;
    const answer = new Promise<Answer>((resolve) => {
      if (this.#socket.destroyed) resolve(closed);
      else this.#waiting.set(id, resolve);
    });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    const { error, return: value } = await answer;
    this.#waiting.delete(id);
    if (error !== undefined)
      throw new HostError("host/program-failed", `QEMU refuses ${command}: ${error.desc}`);
    return value;
  }

  close(): void {
    this.#socket.destroy();
  }
}
