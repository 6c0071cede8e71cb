// SPDX-License-Identifier: Apache-2.0
/** What is known of applications, in a file of the data directory: written whole, synchronized, and put in its place. */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { hex, integer, list, object, oneOf, optional, record, SchemaError } from "@caisson/vocabulary/schema";
import type { Known, KnownStore } from "./applications.ts";
import { KmsError } from "./errors.ts";

const number = integer(0, 0xffff_ffff);
const numbers = list(number, 0, 1 << 20);
const schema = object({
  version: oneOf("caisson/known-applications/v1"),
  applications: record(
    /^[0-9a-f]{64}$/,
    object({
      generation: number,
      minimum: number,
      releases: numbers,
      generations: numbers,
      secrets: optional(object({ number, hash: hex(32) })),
    }),
    100_000,
  ),
});

export class KnownFile implements KnownStore {
  readonly #path: string;
  readonly #known = new Map<string, Known>();

  /** Throws KmsError "log/unreadable" where there is a file, and not of this format. */
  constructor(path: string) {
    this.#path = path;
    if (!existsSync(path)) return;
    try {
      const { applications } = schema(JSON.parse(readFileSync(path, "utf8")));
      for (const [id, { releases, generations, secrets, ...floor }] of Object.entries(applications)) {
        this.#known.set(id, {
          floor: { ...floor, releases: new Set(releases), generations: new Set(generations) },
          ...(secrets !== undefined && { secrets }),
        });
      }
    } catch (error) {
      if (!(error instanceof SchemaError || error instanceof SyntaxError)) throw error;
      throw new KmsError("log/unreadable", `${path} is not what a KMS wrote: ${error.message}`);
    }
  }

  readKnown(): Map<string, Known> {
    return new Map(this.#known);
  }

  writeKnown(app: string, known: Known): Promise<void> {
    this.#known.set(app, known);
    const applications = Object.fromEntries(
      [...this.#known].map(([id, { floor, secrets }]) => [
        id,
        {
          ...floor,
          releases: [...floor.releases],
          generations: [...floor.generations],
          ...(secrets !== undefined && { secrets }),
        },
      ]),
    );
    const text = JSON.stringify({ version: "caisson/known-applications/v1", applications });
    writeFileSync(`${this.#path}.new`, text, { mode: 0o600, flush: true });
    renameSync(`${this.#path}.new`, this.#path);
    const directory = openSync(dirname(this.#path), "r");
    try {
      fsyncSync(directory);
    } finally {
      closeSync(directory);
    }
    return Promise.resolve();
  }
}
