// SPDX-License-Identifier: Apache-2.0
/**
 * Heads of other replicas: whether the database shows all of them one log.
 *
 * Each replica refuses a history that does not continue what it saw itself; two that were never shown the same can only
 * notice by comparing. So each asks the others for their signed heads, and looks for them in the log that it is shown.
 * Invariants: only a head that this KMS's identity signed says anything; one that is not in the log after a while ends the
 * store, so that nothing is released on a history that another replica does not have; who cannot be asked is only said.
 */
import { verifySignature } from "@caisson/protocol/ed25519";
import { Failure, messageOf } from "@caisson/vocabulary/failure";
import { hex, integer, object, optional } from "@caisson/vocabulary/schema";
import { get } from "./attestation.ts";
import { KmsError } from "./errors.ts";
import type { Metrics } from "./metrics.ts";
import { headTranscript } from "./store/entries.ts";
import type { Store } from "./store/store.ts";

export const headPath = "/v1/log/head";
/** How often the others are asked; how often a head is looked for that is not there yet, and the time between; ms. */
const everyMs = 5_000;
const patience = { tries: 5, betweenMs: 400 };

const schema = object({
  sequence: integer(0, Number.MAX_SAFE_INTEGER),
  hash: hex(32),
  state: optional(hex(32)),
  signature: hex(64),
});

export interface PeerHeadsOptions {
  /** Addresses of other replicas; one may lead to any of them, also to this one. */
  peers: readonly string[];
  /** This KMS's identity, 32 bytes. */
  identity: Uint8Array;
  store: Pick<Store, "contains" | "end">;
  metrics: Pick<Metrics, "count">;
  /** Writes a log line. */
  write: (event: string, fields: Record<string, string | number>) => void;
}

export class PeerHeads {
  readonly #options: PeerHeadsOptions;
  #timer: NodeJS.Timeout | undefined;
  /** Each by itself: one that answers nothing keeps nobody from asking the others. */
  readonly #asking = new Map<string, Promise<void>>();

  constructor(options: PeerHeadsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => void this.ask(), everyMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Asks all of them once. Never throws: what came of it is in log and metrics, and in the store where it ends. */
  async ask(): Promise<void> {
    await Promise.all(this.#options.peers.map((peer) => this.#ask(peer)));
  }

  #ask(peer: string): Promise<void> {
    const asking =
      this.#asking.get(peer) ?? this.#compare(peer).finally(() => void this.#asking.delete(peer));
    this.#asking.set(peer, asking);
    return asking;
  }

  async #compare(peer: string): Promise<void> {
    const { store, metrics, write } = this.#options;
    try {
      const { sequence, hash } = this.#read(peer, await get(peer, headPath));
      const same = await this.#find(sequence, hash);
      metrics.count("peer_heads", `outcome="${same ? "same" : "split"}"`);
      if (same) return;
      const error = new KmsError(
        "log/split",
        `another replica has an entry ${sequence} that this one is not shown: the database has two histories`,
        { facts: [["theirs", hash]], fix: "stop all replicas, keep the database as it is: docs/runbooks.md" },
      );
      write("log-split", { peer, sequence, hash });
      store.end(error);
    } catch (error) {
      metrics.count("peer_heads", `outcome="unknown"`);
      write("peer-head-unknown", {
        peer,
        code: error instanceof Failure ? error.code : "internal",
        message: messageOf(error),
      });
    }
  }

  /** A head that this identity signed. Throws KmsError "log/head". */
  #read(peer: string, bytes: Uint8Array): { sequence: number; hash: string } {
    const { sequence, hash, state = "", signature } = schema(JSON.parse(new TextDecoder().decode(bytes)));
    const [of, at, by] = [hash, state, signature].map((value) => Uint8Array.fromHex(value)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    if (verifySignature(this.#options.identity, headTranscript({ sequence, hash: of, state: at }), by)) {
      return { sequence, hash };
    }
    throw new KmsError("log/head", `the head of ${peer} is not signed by this KMS's identity`);
  }

  /** What another wrote a moment ago may not be shown yet, where a proxy or a standby stands between. */
  async #find(sequence: number, hash: string): Promise<boolean> {
    for (let i = 0; i < patience.tries; i++) {
      if (i > 0) await new Promise((resolve) => setTimeout(resolve, patience.betweenMs));
      if (await this.#options.store.contains({ sequence, hash })) return true;
    }
    return false;
  }
}
