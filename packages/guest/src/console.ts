// SPDX-License-Identifier: Apache-2.0
/**
 * The serial console, whose other end is the host's. It may read late, never, or say that we are to stop (XOFF), and
 * PID 1 has one thread: so a line is never waited for. What the port does not take at once waits in a bounded queue,
 * what does not fit is dropped and counted, and the count is said as soon as there is room again.
 */
import { constants, openSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type ConsoleEvent, encodeConsole } from "@caisson/protocol/console";
import type { Syscalls } from "./syscalls.ts";

/** An event without the time, which is added here. */
export type Unstamped = ConsoleEvent extends infer Event
  ? Event extends { at: number }
    ? Omit<Event, "at">
    : never
  : never;

/** Bytes that wait at most; enough for the evidence of a boot. */
const queueLimit = 256 * 1024;
/** Bytes that may wait when a line of the application is added: it cannot crowd out what PID 1 says. */
const applicationLimit = 64 * 1024;
/** Milliseconds between two attempts. The kernel's own buffer has a page, so this is not a bottleneck. */
const pause = 20;

/** Takes what it can of the bytes, at once, and says how many; 0 when it is full. */
export type Port = (bytes: Uint8Array) => number;

/** The serial port, opened so that writing never waits, and deaf: what the host sends stops and changes nothing. */
export function serialPort(syscalls: Pick<Syscalls, "deafen">): Port {
  const file = openSync("/dev/console", constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  syscalls.deafen(file);
  return (bytes) => {
    try {
      return writeSync(file, bytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return 0;
      throw error;
    }
  };
}

export class Console {
  readonly #port: Port;
  readonly #waiting: Uint8Array[] = [];
  #size = 0;
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(port: Port) {
    this.#port = port;
  }

  /** Says `event`, now or soon, or drops it. Returns at once and never throws for what the port does. */
  say(event: Unstamped): void {
    const line = encode(event);
    if (
      this.#size + line.length >
      (event.kind === "app" || event.kind === "log" ? applicationLimit : queueLimit)
    ) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(line);
    this.#size += line.length;
    if (this.#timer === undefined) this.#send();
  }

  /** Resolves when the port has taken everything, after `limitMs` at the latest. */
  async drained(limitMs: number): Promise<void> {
    const limit = performance.now() + limitMs;
    while (this.#size > 0 && performance.now() < limit) await sleep(pause);
  }

  #send(): void {
    this.#timer = undefined;
    for (let line = this.#waiting[0]; line !== undefined; line = this.#waiting[0]) {
      const taken = this.#take(line);
      this.#size -= taken;
      if (taken < line.length) {
        this.#waiting[0] = line.subarray(taken);
        this.#timer = setTimeout(() => this.#send(), pause);
        return;
      }
      this.#waiting.shift();
    }
    if (this.#dropped === 0) return;
    const text = `the console was not read: ${this.#dropped} lines were dropped`;
    this.#dropped = 0;
    this.say({ kind: "note", text });
  }

  /** A port that fails is one that takes nothing: there is nowhere to say so. */
  #take(bytes: Uint8Array): number {
    try {
      return this.#port(bytes);
    } catch {
      return 0;
    }
  }
}

/** By CLOCK_MONOTONIC, which does not move when the clock is set. */
export const secondsSinceStart = (): number => Number(process.hrtime.bigint() / 1_000_000n) / 1000;

function encode(event: Unstamped): Uint8Array {
  return Buffer.from(encodeConsole({ at: secondsSinceStart(), ...event } as ConsoleEvent));
}
