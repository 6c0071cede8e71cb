/**
 * The runtime event log: what was measured into RTMR3, in order.
 *
 * A boot's events are a fixed list, each once and in its order; the log measures nothing else before the
 * last of them, `system-ready`, and never again a name of the list after it. The register is extended first, the log is written and fsynced next, and only then does the caller go on. A crash
 * in between leaves a register that no log explains, so verification fails; the other order could leave an event in
 * the log that was never measured. The file is append-only and lives in a tmpfs that only PID 1 can reach.
 */
import { fsyncSync, openSync, writeFileSync } from "node:fs";
import { runtimeEventDigest } from "@caisson/measure";
import type { guestEvents } from "@caisson/verify";
import type { Platform } from "./platform.ts";

/** One measured event. `payload` is bytes; the digest follows from both. */
export interface RuntimeEvent {
  readonly name: string;
  readonly payload: Uint8Array;
}

/** Names of events: what keeps the digest's encoding unambiguous. */
const eventName = /^[a-z0-9-]{1,64}$/;

/** The events of a boot. The type makes the list the one that verifiers expect; the verifier itself stays out of PID 1. */
export const bootEvents: typeof guestEvents = [
  "system-preparing",
  "app-id",
  "compose-hash",
  "instance-id",
  "secure-time",
  "boot-mr-done",
  "key-provider",
  "system-ready",
];

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

  /** Throws unless `name` may be measured next. */
  #check(name: string): void {
    if (!eventName.test(name)) throw new Error(`'${name}' is no event name`);
    const due = bootEvents[this.#events.length];
    const allowed = due === undefined ? !(bootEvents as readonly string[]).includes(name) : name === due;
    if (!allowed) throw new Error(`the event '${name}' is out of order: '${due ?? "a later name"}' is due`);
  }

  /** Measures one event; resolves with its 48-byte digest when register and log both hold it. */
  append(name: string, payload: Uint8Array): Promise<Uint8Array> {
    const done = this.#last.then(async () => {
      this.#check(name);
      const digest = await runtimeEventDigest(name, payload);
      await this.#platform.extend(digest);
      this.#events.push({ name, payload });
      writeFileSync(
        this.#file,
        `${JSON.stringify({ name, payload: Buffer.from(payload).toString("hex") })}\n`,
      );
      fsyncSync(this.#file);
      return digest;
    });
    this.#last = done.catch(() => {});
    return done;
  }
}
