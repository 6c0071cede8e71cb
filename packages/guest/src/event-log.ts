/**
 * The runtime event log: what was measured into RTMR3, in order.
 *
 * The register is extended first, the log is written and fsynced next, and only then does the caller go on. A crash
 * in between leaves a register that no log explains, so verification fails; the other order could leave an event in
 * the log that was never measured. The file is append-only and lives in a tmpfs that only PID 1 can reach.
 */
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { runtimeEventDigest } from "@caisson/measure";
import type { Platform } from "./platform.ts";

/** One measured event. `payload` is bytes; the digest follows from both. */
export interface RuntimeEvent {
  readonly name: string;
  readonly payload: Uint8Array;
}

/** Names of events: what keeps the digest's encoding unambiguous. */
const eventName = /^[a-z0-9-]{1,64}$/;

export class EventLog {
  readonly #platform: Platform;
  readonly #file: number;
  readonly #events: RuntimeEvent[] = [];
  /** Extending twice at once would make the order in the log a guess. */
  #last: Promise<unknown> = Promise.resolve();

  /** `path` must not exist yet. */
  constructor(platform: Platform, path: string) {
    this.#platform = platform;
    this.#file = openSync(path, "ax", 0o600);
  }

  get events(): readonly RuntimeEvent[] {
    return this.#events;
  }

  /** Measures one event; resolves with its 48-byte digest when register and log both hold it. */
  append(name: string, payload: Uint8Array): Promise<Uint8Array> {
    const done = this.#last.then(async () => {
      if (!eventName.test(name)) throw new Error(`'${name}' is no event name`);
      const digest = await runtimeEventDigest(name, payload);
      await this.#platform.extend(digest);
      this.#events.push({ name, payload });
      writeSync(this.#file, `${JSON.stringify({ name, payload: Buffer.from(payload).toString("hex") })}\n`);
      fsyncSync(this.#file);
      return digest;
    });
    this.#last = done.catch(() => {});
    return done;
  }

  close(): void {
    closeSync(this.#file);
  }
}
