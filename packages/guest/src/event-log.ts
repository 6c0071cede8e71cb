// SPDX-License-Identifier: Apache-2.0
/**
 * The runtime event log: what was measured into RTMR3, in order.
 *
 * The log takes the boot events of its image (`bootSequence`) by their rule. The register is extended first, the log is
 * written and fsynced next, and only then does the caller go on. A crash in between leaves a register that no log
 * explains, so verification fails; the other order could leave an event in the log that was never measured. The file
 * is append-only and lives in a tmpfs that only PID 1 can reach.
 */
import { fsyncSync, openSync, writeFileSync } from "node:fs";
import { runtimeEventDigest } from "@caisson/measure";
import { allBootEvents, type BootEvent, eventName, type RuntimeEvent } from "@caisson/vocabulary/events";
import type { PlatformAdapter } from "./platform.ts";

export class RuntimeLog {
  readonly #platform: PlatformAdapter;
  readonly #file: number;
  readonly #sequence: readonly BootEvent[];
  readonly #events: RuntimeEvent[] = [];
  /** Extending twice at once would make the order in the log a guess. */
  #last: Promise<unknown> = Promise.resolve();

  /** `path` must not exist yet; `sequence` is what this image measures, in order. */
  constructor(platform: PlatformAdapter, path: string, sequence: readonly BootEvent[]) {
    this.#platform = platform;
    this.#sequence = sequence;
    this.#file = openSync(path, "ax", 0o600);
  }

  get events(): readonly RuntimeEvent[] {
    return this.#events;
  }

  /** Throws unless `name` may be measured next. */
  #check(name: string): void {
    if (!eventName.test(name)) throw new Error(`'${name}' is not an event name`);
    const due = this.#sequence[this.#events.length];
    const allowed = due === undefined ? !(allBootEvents as readonly string[]).includes(name) : name === due;
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
