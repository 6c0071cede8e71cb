// SPDX-License-Identifier: Apache-2.0
/** A KMS without HTTP and one machine that asks it for keys: for benchmarks of what a release costs. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateSealingKey } from "@caisson/protocol/hpke";
import { type Answer, keyReleaseVersion, type ReleaseRequest } from "@caisson/protocol/key-release";
import { Signatures } from "@caisson/verify";
import { reportData } from "@caisson/verify/report-data";
import { Applications } from "../applications.ts";
import { CollateralCache } from "../collateral-cache.ts";
import { Nonces } from "../nonces.ts";
import { loadPolicies } from "../policies.ts";
import { Bucket } from "../rate-limit.ts";
import { type ReleaseContext, releaseKeys } from "../release.ts";
import { Roots } from "../roots.ts";
import { sqlite } from "../store/sqlite.ts";
import { openStore, type Store, storeKeys } from "../store/store.ts";
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
    const context: ReleaseContext = {
      roots: new Roots(secret, store),
      identity: keys.identity,
      policies: loadPolicies(directory, keys.identity.publicKey.toHex(), true),
      collateral: new CollateralCache(),
      platforms: new Signatures(),
      store,
      denials: new Bucket({ perSecond: 1, burst: 3 }, now),
      nonces: new Nonces(secret),
      volumes: { open: () => Promise.reject(new Error("no volumes")) },
      applications: new Applications(store),
      now: () => now,
    };
    return new Exchanges(machine, context, store, directory);
  }

  /** What the machine would send, with the bundle that its host gave it. */
  async request(release: object | undefined): Promise<ReleaseRequest> {
    const { identity, nonces, now } = this.#context;
    const { publicKey } = generateSealingKey();
    const nonce = nonces.issue(now());
    const fields = { nonce, kmsIdentityKey: identity.publicKey, ephemeralKey: publicKey };
    const state = this.#machine.booted(identity.publicKey.toHex());
    const data = await reportData(keyReleaseVersion, fields);
    return {
      version: keyReleaseVersion,
      nonce: nonce.toHex(),
      ephemeralKey: publicKey.toHex(),
      evidence: await this.#machine.evidence({ ...state, ...(release !== undefined && { release }) }, data),
    };
  }

  async answer(request: ReleaseRequest): Promise<Answer> {
    return (await releaseKeys(this.#context, request)).answer;
  }

  async close(): Promise<void> {
    await this.#store.close();
    rmSync(this.#directory, { recursive: true });
  }
}
