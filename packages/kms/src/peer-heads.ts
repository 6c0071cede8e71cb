// SPDX-License-Identifier: Apache-2.0
/**
 * Heads of other replicas: whether the database shows all of them one log.
 *
 * Each replica refuses a history that does not continue what it saw itself; two that were never shown the same can only
 * notice by comparing. So each asks the others for their signed heads, and looks for them in the log that it is shown.
 * Invariants: only a head that this KMS's identity signed says anything; one that is not in the log after a while ends the
 * store, so that nothing is released on a history that another replica does not have; who cannot be asked is only said.
 *
 * One that starts has seen nothing, and believes any history that this identity signed. So who takes the root secret of a
 * replica asks for its newest head, signed over a nonce, so that nobody gives an old one for it, and serves nothing unless its
 * database has that.
 */
import { randomBytes } from "node:crypto";
import { verifySignature } from "@caisson/protocol/ed25519";
import { Failure, messageOf } from "@caisson/vocabulary/failure";
import { frame } from "@caisson/vocabulary/frame";
import { hex, type Infer, integer, object, optional, SchemaError } from "@caisson/vocabulary/schema";
import { get } from "./attestation.ts";
import { KmsError } from "./errors.ts";
import type { Metrics } from "./metrics.ts";
import { headTranscript } from "./store/entries.ts";
import type { Store } from "./store/store.ts";

export const headPath = "/v1/log/head";
/** How often the others are asked; how often a head is looked for that is not there yet, and the time between; ms. */
const everyMs = 5_000;
const patience = { tries: 5, betweenMs: 400 };
/** For how long one that starts waits for a database that is behind, ms. */
const catchUpMs = 10_000;

const schema = object({
  sequence: integer(0, Number.MAX_SAFE_INTEGER),
  hash: hex(32),
  state: optional(hex(32)),
  signature: hex(64),
  /** Over a nonce of who asked (`newestTranscript`). */
  newest: optional(hex(64)),
});

/** An entry that the log has to have, and who says so, in words. */
export interface GivenHead {
  from: string;
  sequence: number;
  /** Hexadecimal. */
  hash: string;
}

/** What a KMS signs for who asks over `nonce` (32 bytes): this is its newest head now. */
export const newestTranscript = (nonce: Uint8Array, head: Parameters<typeof headTranscript>[0]): Uint8Array =>
  frame("caisson/kms-log-head/v1", nonce, headTranscript(head));

/** A head that `identity` (32 bytes) signed; `at` says whose in messages. Throws KmsError "log/head". */
function readHead(
  at: string,
  bytes: Uint8Array,
  identity: Uint8Array,
  nonce?: Uint8Array,
): Infer<typeof schema> {
  let read: Infer<typeof schema>;
  try {
    read = schema(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (error) {
    if (!(error instanceof SchemaError || error instanceof SyntaxError)) throw error;
    throw new KmsError("log/head", `what ${at} answers is not a head: ${messageOf(error)}`);
  }
  const { sequence, hash, state = "", signature, newest = "" } = read;
  const head = { sequence, hash: Uint8Array.fromHex(hash), state: Uint8Array.fromHex(state) };
  if (!verifySignature(identity, headTranscript(head), Uint8Array.fromHex(signature))) {
    throw new KmsError("log/head", `the head of ${at} is not signed by this KMS's identity`);
  }
  if (
    nonce !== undefined &&
    !verifySignature(identity, newestTranscript(nonce, head), Uint8Array.fromHex(newest))
  ) {
    throw new KmsError("log/head", `the head of ${at} is not signed as its newest now`, {
      fix: "ask a replica itself; one of an older version cannot say this",
    });
  }
  return read;
}

/** The newest head of the KMS with this identity (32 bytes) at `url`: of now. Throws KmsError. */
export async function askHead(url: string, identity: Uint8Array): Promise<GivenHead> {
  const nonce = randomBytes(32);
  const bytes = await get(url, `${headPath}?nonce=${nonce.toHex()}`);
  const { sequence, hash } = readHead(url, bytes, identity, nonce);
  return { from: `the KMS at ${url}`, sequence, hash };
}

/**
 * Throws KmsError unless the log that the database shows has this entry: "log/unavailable" where it ends before it and
 * does not catch up within `waitMs`, "log/split" where it is another one.
 */
export async function checkContains(
  store: Pick<Store, "contains" | "head">,
  { from, sequence, hash }: GivenHead,
  waitMs = catchUpMs,
): Promise<void> {
  const until = performance.now() + waitMs;
  for (;;) {
    if (await store.contains({ sequence, hash }, Number.MAX_SAFE_INTEGER)) return;
    if (store.head.sequence >= sequence || performance.now() > until) break;
    await new Promise((resolve) => setTimeout(resolve, patience.betweenMs));
  }
  const facts = [["wanted", `entry ${sequence}, ${hash}`]] as const;
  if (store.head.sequence < sequence) {
    throw new KmsError(
      "log/unavailable",
      `the log ends with entry ${store.head.sequence}, and ${from} has ${sequence}`,
      {
        facts,
        fix: "again, where it is a standby that is behind; a log that was put back: docs/runbooks.md",
      },
    );
  }
  throw new KmsError("log/split", `the log is not that of ${from}: it has another history`, {
    facts,
    fix: "the database of that KMS; where it is that, docs/runbooks.md",
  });
}

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
      const { sequence, hash } = readHead(peer, await get(peer, headPath), this.#options.identity);
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

  /** What another wrote a moment ago may not be shown yet, where a proxy or a standby stands between. */
  async #find(sequence: number, hash: string): Promise<boolean> {
    for (let i = 0; i < patience.tries; i++) {
      if (i > 0) await new Promise((resolve) => setTimeout(resolve, patience.betweenMs));
      if (await this.#options.store.contains({ sequence, hash })) return true;
    }
    return false;
  }
}
