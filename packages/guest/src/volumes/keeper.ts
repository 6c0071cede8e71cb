// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps the KMS up to date about open volumes: what was committed is anchored, now and then and when an application asks
 * (a checkpoint). Says when the machine has to end: another opening came, the KMS stays away, the disk has errors.
 *
 * Invariants: a checkpoint that resolves covers everything that was written before it was asked for; a volume is committed
 * by one at a time, and its anchors only go up; nothing here decides what a later opening accepts: the KMS does.
 */
import { type FileHandle, open } from "node:fs/promises";
import { verifySignature } from "@caisson/protocol/ed25519";
import { refusalSchema } from "@caisson/protocol/key-release";
import {
  anchorPath,
  anchorRequest,
  type Ticket,
  ticketSchema,
  ticketTranscript,
} from "@caisson/protocol/volumes";
import { messageOf } from "@caisson/vocabulary/failure";
import type { Post, ReleasedVolume } from "../key-client.ts";
import { withLimit } from "../limit.ts";
import type { Syscalls } from "../syscalls.ts";
import { VolumeError } from "./errors.ts";
import { faultIn } from "./faults.ts";
import { writeTicket } from "./reserved.ts";

/** How often what was written is anchored, and how often the KMS is asked although nothing was; ms. */
const everyMs = 5_000;
const greetMs = 60_000;
/** How long a commit may take; ms. */
const commitMs = 120_000;
/** How long a machine that goes on without its KMS does so; ms. */
export const awayMs = 600_000;

/** An open volume, as it is kept. */
export interface Kept {
  released: ReleasedVolume;
  /** Of the instance. */
  seed: string;
  mount: string;
  /** Its block device, whose reserved part takes tickets, and the place for the next one. */
  device: string;
  nextPlace: 0 | 1;
  kmsAway: "continue" | "freeze";
}

export interface KeeperOptions {
  syscalls: Pick<Syscalls, "btrfsCommit" | "btrfsErrors" | "btrfsInfo" | "freeze" | "thaw">;
  post: Post;
  /** The KMS's identity, 32 bytes. */
  identity: Uint8Array;
  volumes: readonly Kept[];
  /** What the kernel has said since this was last asked. */
  kernelLog: () => readonly string[];
  /** Called once: the machine has to end, and why. */
  end: (error: VolumeError) => void;
  /** Something to say that is not a reason to end. */
  note: (text: string) => void;
  /** Milliseconds that only go up. */
  now?: () => number;
}

/** By volume, the generation that its checkpoint has. */
export type Checkpoint = Record<string, string>;

interface State extends Kept {
  /** The newest generation that is committed, and the newest that the KMS has taken. */
  committed: bigint;
  anchored: bigint;
  errors: number;
  frozen: boolean;
  /** When the KMS last took an anchor. */
  heard: number;
  place: 0 | 1;
}

export class Keeper {
  readonly #options: KeeperOptions;
  readonly #states: State[];
  readonly #now: () => number;
  #timer: NodeJS.Timeout | undefined;
  /** What runs now, and the one after it, which all share who ask meanwhile. */
  #running: Promise<Checkpoint> | undefined;
  #waiting: Promise<Checkpoint> | undefined;
  #ended = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#states = options.volumes.map((kept) => ({
      ...kept,
      committed: 0n,
      anchored: 0n,
      frozen: false,
      heard: this.#now(),
      place: kept.nextPlace,
      errors: options.syscalls.btrfsErrors(kept.mount),
    }));
  }

  /** Anchors the first commits, which are these generations, in the order of `volumes`. Throws VolumeError. */
  async begin(generations: readonly bigint[]): Promise<void> {
    for (const [index, state] of this.#states.entries()) {
      state.committed = generations[index]!;
      await this.#anchor(state);
    }
    this.#timer = setInterval(() => void this.check(), everyMs);
  }

  /** Commits and anchors everything that was written until now. Throws VolumeError `volume/not-anchored`. */
  checkpoint(): Promise<Checkpoint> {
    if (this.#running === undefined) {
      this.#running = this.#checkpoint().finally(() => {
        this.#running = undefined;
      });
      return this.#running;
    }
    // What runs may have committed before this caller wrote.
    this.#waiting ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#waiting = undefined;
        return this.checkpoint();
      });
    return this.#waiting;
  }

  /** The last checkpoint: services have ended. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    if (!this.#ended) await this.checkpoint();
  }

  async #checkpoint(): Promise<Checkpoint> {
    const done: Checkpoint = {};
    for (const state of this.#states) {
      if (!state.frozen) await this.#commit(state);
      await this.#anchor(state);
      if (state.frozen) {
        this.#options.syscalls.thaw(state.mount);
        state.frozen = false;
        this.#options.note(`volume '${state.released.name}': the KMS answers again, writers go on`);
        await this.#commit(state);
        await this.#anchor(state);
      }
      done[state.released.name] = String(state.anchored);
    }
    return done;
  }

  async #commit(state: State): Promise<void> {
    const { name } = state.released;
    try {
      const commit = this.#options.syscalls.btrfsCommit(state.mount);
      const late = () => new Error(`the disk does not take a commit within ${commitMs / 1000} s`);
      const generation = await withLimit(commit, commitMs, late);
      if (generation > state.committed) state.committed = generation;
    } catch (error) {
      throw this.#end(new VolumeError("volume/read-error", `volume '${name}': ${messageOf(error)}`, error));
    }
  }

  /** Tells the KMS the newest commit. Throws VolumeError: `volume/fenced` ends the machine, `volume/not-anchored` does not. */
  async #anchor(state: State): Promise<void> {
    const { released, seed, committed } = state;
    const { name } = released.grant;
    const request = anchorRequest(released.anchorKey, { ...released.grant, seed }, committed);
    let answer: unknown;
    try {
      answer = await this.#options.post(anchorPath, request);
    } catch (error) {
      throw new VolumeError(
        "volume/not-anchored",
        `volume '${name}': the KMS does not answer: ${messageOf(error)}`,
        error,
      );
    }
    const refusal = refusalSchema.safeParse(answer);
    if (refusal.success) {
      const { code, message } = refusal.data.error;
      const text = `volume '${name}': ${message}   [${code}]`;
      // Not signed: whoever forges it could as well end the machine.
      if (code === "volume/fenced" || code === "volume/unknown")
        throw this.#end(new VolumeError("volume/fenced", text));
      throw new VolumeError("volume/not-anchored", text);
    }
    const ticket = this.#ticket(answer, state);
    state.anchored = committed;
    state.heard = this.#now();
    await this.#keep(state, ticket);
  }

  /** A ticket of this volume and opening that holds what was committed. */
  #ticket(answer: unknown, { released, committed }: State): Ticket {
    const { volume, epoch, name } = released.grant;
    const result = ticketSchema.safeParse(answer);
    if (result.success) {
      const { signature, ...rest } = result.data;
      const own = rest.volume === volume && rest.epoch === epoch && BigInt(rest.anchor) === committed;
      if (
        own &&
        verifySignature(this.#options.identity, ticketTranscript(rest), Uint8Array.fromHex(signature))
      ) {
        return result.data;
      }
    }
    throw new VolumeError(
      "volume/not-anchored",
      `volume '${name}': the KMS's answer is not its word about this commit`,
    );
  }

  /** The ticket on the disk is for a KMS that was restored; without it nothing is wrong yet. */
  async #keep(state: State, ticket: Ticket): Promise<void> {
    let file: FileHandle | undefined;
    try {
      file = await open(state.device, "r+");
      await writeTicket(file, ticket, state.place);
      state.place = state.place === 0 ? 1 : 0;
    } catch (error) {
      this.#options.note(
        `volume '${state.released.name}': its ticket cannot be written: ${messageOf(error)}`,
      );
    } finally {
      await file?.close();
    }
  }

  /** What is done now and then. Never throws; resolves when what it led to is on the disk. */
  async check(): Promise<void> {
    if (this.#ended) return;
    this.#checkLog();
    for (const state of this.#states) this.#checkErrors(state);
    if (this.#ended || this.#running !== undefined || !this.#states.some((state) => this.#isDue(state)))
      return;
    try {
      await this.checkpoint();
    } catch (error) {
      if (!this.#ended) this.#away(messageOf(error));
    }
  }

  #isDue(state: State): boolean {
    if (state.frozen || this.#now() - state.heard >= greetMs) return true;
    return this.#options.syscalls.btrfsInfo(state.mount).generation > state.anchored;
  }

  /** The KMS does not take anchors: what each volume's line in the description says happens. */
  #away(reason: string): void {
    for (const state of this.#states) {
      const { name } = state.released;
      if (state.kmsAway === "freeze") {
        if (state.frozen) continue;
        this.#options.note(`${reason}; writers of '${name}' wait`);
        this.#options.syscalls.freeze(state.mount);
        state.frozen = true;
      } else if (this.#now() - state.heard >= awayMs) {
        const minutes = awayMs / 60_000;
        this.#end(
          new VolumeError(
            "volume/not-anchored",
            `volume '${name}': nothing was anchored for ${minutes} minutes: ${reason}`,
          ),
        );
      }
    }
  }

  /** A checksum or a generation that is wrong is an attack or a broken disk; the service itself only sees EIO. */
  #checkErrors(state: State): void {
    const errors = this.#options.syscalls.btrfsErrors(state.mount);
    if (errors === state.errors) return;
    const { name } = state.released;
    this.#end(
      new VolumeError(
        "volume/read-error",
        `volume '${name}': the kernel found ${errors - state.errors} errors of its disk`,
      ),
    );
  }

  /** Wrong nodes are said and not counted. */
  #checkLog(): void {
    const fault = faultIn(this.#options.kernelLog());
    if (fault !== undefined) this.#end(new VolumeError("volume/read-error", `the kernel says: ${fault}`));
  }

  #end(error: VolumeError): VolumeError {
    if (!this.#ended) {
      this.#ended = true;
      clearInterval(this.#timer);
      this.#options.end(error);
    }
    return error;
  }
}
