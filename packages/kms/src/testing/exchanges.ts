// SPDX-License-Identifier: Apache-2.0
/** A KMS without HTTP and one machine that asks it for keys: for benchmarks of what a release costs. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Answer, ReleaseRequest } from "@caisson/protocol/key-release";
import { Applications } from "../applications.ts";
import { loadPolicies } from "../policies.ts";
import { type ReleaseContext, releaseKeys } from "../release.ts";
import { Roots } from "../roots.ts";
import { sqlite } from "../store/sqlite.ts";
import { openStore, type Store, storeKeys } from "../store/store.ts";
import { askingFor } from "./asking.ts";
import { releaseContext } from "./context.ts";
import type { Machine } from "./machine.ts";

export class Exchanges {
  readonly #machine: Machine;
  readonly #context: ReleaseContext;
  readonly #store: Store;
  readonly #directory: string;

  private constructor(machine: Machine, context: ReleaseContext, store: Store, directory: string) {
    this.#machine = machine;
    this.#context = context;
    this.#store = store;
    this.#directory = directory;
  }

  /** A KMS with a policy for this machine, whose clock stands at `now` (ms). */
  static async open(machine: Machine, now: number): Promise<Exchanges> {
    const directory = mkdtempSync(join(tmpdir(), "caisson-exchanges-"));
    const secret = new Uint8Array(32).fill(5);
    const keys = storeKeys(secret);
    const store = await openStore(sqlite(join(directory, "store.sqlite")), keys);
    const hasIdentity = machine.app.length === 64;
    const rules = hasIdentity ? { app: { identity: { id: machine.app } } } : {};
    writeFileSync(join(directory, "app.json"), JSON.stringify(machine.policyFile(rules)));
    const context = releaseContext(secret, {
      roots: new Roots(secret, store),
      identity: keys.identity,
      policies: loadPolicies(directory, keys.identity.publicKey.toHex(), true),
      store,
      applications: new Applications(store),
      now: () => now,
    });
    return new Exchanges(machine, context, store, directory);
  }

  /** What the machine would send, with the bundle that its host gave it. */
  async request(release: object | undefined): Promise<ReleaseRequest> {
    const state = this.#machine.booted(this.#context.identity.publicKey.toHex());
    const bringing = { ...state, ...(release !== undefined && { release }) };
    return (await askingFor(this.#machine, bringing, this.#context)).request;
  }

  async answer(request: ReleaseRequest): Promise<Answer> {
    return (await releaseKeys(this.#context, request)).answer;
  }

  async close(): Promise<void> {
    await this.#store.close();
    rmSync(this.#directory, { recursive: true });
  }
}
