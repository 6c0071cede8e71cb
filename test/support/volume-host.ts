// SPDX-License-Identifier: Apache-2.0
/** A host of `examples/counter`: starts it, pulls its plug, and keeps copies of everything that it can go back to. */
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { type Built, readSpec } from "@caisson/image";
import { predictEmulated, referenceValues } from "@caisson/machine/prediction";
import { type Session, type SessionHooks, type SessionOptions, startSession } from "@caisson/machine/session";
import { anchorPath } from "@caisson/protocol/volumes";
import { manInTheMiddle } from "./between.ts";
import { shape } from "./image.ts";
import { diskOf } from "./volume-disk.ts";

const repository = new URL("../../", import.meta.url).pathname;
const limitMs = 900_000;
/** How long an application may take to listen once its machine is ready. */
const listenMs = 300_000;

/** The counter's image, with some of its spec's text replaced, built below `place`. */
export async function counterImage(
  place: string,
  replace: Readonly<Record<string, string>> = {},
): Promise<Built> {
  const { readFileSync, writeFileSync } = process.getBuiltinModule("node:fs");
  cpSync(join(repository, "examples/counter"), place, {
    recursive: true,
    filter: (path) => !path.endsWith("/out"),
  });
  const file = join(place, "caisson.yaml");
  let text = readFileSync(file, "utf8");
  for (const [from, to] of Object.entries(replace)) {
    if (!text.includes(from)) throw new Error(`the example has no '${from}' to replace`);
    text = text.replaceAll(from, to);
  }
  writeFileSync(file, text);
  return prepare(await readSpec(place), "development", {}, new Progress());
}

/** How a boot went: it is ready, or it ended with this reason. */
export interface Outcome {
  session: Session;
  /** "ready", or why the machine ended. */
  reason: string;
  message: string;
}

export class VolumeHost {
  readonly place: string;
  readonly state: string;
  readonly built: Built;
  /** Whether the KMS gets to see anchors; a host can hold them back. */
  anchors = true;
  /** Where the image claims an identity, who releases it. */
  owners?: SessionOptions["owners"];
  #references: ReturnType<typeof referenceValues> | undefined;
  /** What runs, or has ended. */
  #last: Session | undefined;

  constructor(built: Built, place = mkdtempSync(join(tmpdir(), "caisson-volume-"))) {
    this.built = built;
    this.place = place;
    this.state = join(place, "state");
  }

  get disk(): string {
    return diskOf(this.state);
  }

  /** Keeps a copy of the disk, or of the whole KMS, under a name. */
  keep(what: "disk" | "kms", name: string): void {
    mkdirSync(this.place, { recursive: true });
    if (what === "disk") copyFileSync(this.disk, join(this.place, name));
    else cpSync(join(this.state, "kms"), join(this.place, name), { recursive: true });
  }

  /** Puts it back. */
  putBack(what: "disk" | "kms", name: string): void {
    if (what === "disk") return copyFileSync(join(this.place, name), this.disk);
    rmSync(join(this.state, "kms"), { recursive: true });
    cpSync(join(this.place, name), join(this.state, "kms"), { recursive: true });
  }

  kept(name: string): string {
    return join(this.place, name);
  }

  /**
   * Starts the machine, and waits until it is ready and listens, or has ended. Where the host was too busy for its time
   * servers, again: the volume was not reached, and its disk is as it was.
   */
  async boot(hooks: SessionHooks = {}, image: Built = this.built): Promise<Outcome> {
    for (let left = 3; ; left--) {
      const outcome = await this.#boot(hooks, image);
      if (left === 0 || !outcome.reason.startsWith("time/")) return outcome;
    }
  }

  async #boot(hooks: SessionHooks, { directory, manifest }: Built): Promise<Outcome> {
    await this.#last?.stop();
    this.#references ??= referenceValues(await predictEmulated(directory, shape));
    const references =
      directory === this.built.directory
        ? this.#references
        : referenceValues(await predictEmulated(directory, shape));
    const session = await startSession({
      image: directory,
      manifest,
      shape,
      references,
      state: this.state,
      limitMs,
      ...(this.owners !== undefined && { owners: this.owners }),
      hooks: {
        kms: (url) =>
          manInTheMiddle(url, {
            request: (path, body) => {
              if (path === anchorPath && !this.anchors) throw new Error("held back");
              return body;
            },
          }),
        ...hooks,
      },
    });
    this.#last = session;
    const ready = await session.vm.event(({ kind }) => kind === "ready");
    if (ready?.kind === "ready") {
      if (ready.port === undefined) await listens(session.url!);
      return { session, reason: "ready", message: "" };
    }
    await session.stop();
    return { session, ...ending(session) };
  }

  /** Ends a machine as a power cut does: QEMU is killed. */
  async pull({ session }: Outcome): Promise<void> {
    session.vm.kill();
    await session.stop();
  }

  /** Ends what runs, if something does, as a power cut does. */
  async stop(): Promise<void> {
    this.#last?.vm.kill();
    await this.#last?.stop();
    this.#last = undefined;
  }

  /** Ends what runs, and removes everything. */
  async remove(): Promise<void> {
    await this.stop();
    if (existsSync(this.place)) rmSync(this.place, { recursive: true });
  }
}

/** Waits until something answers, whatever it says. */
export async function listens(url: string): Promise<void> {
  const end = performance.now() + listenMs;
  for (;;) {
    try {
      await (await fetch(url, { signal: AbortSignal.timeout(30_000) })).arrayBuffer();
      return;
    } catch (error) {
      if (performance.now() > end) throw error;
      await sleep(1000);
    }
  }
}

/** Why a machine ended: the stage that failed, or what it said when it stopped. */
export function ending({ vm }: Session): { reason: string; message: string } {
  const failed = vm.events.find((event) => event.kind === "stage" && event.state === "failed");
  if (failed?.kind === "stage") return { reason: failed.reason ?? "", message: failed.message ?? "" };
  const stopping = vm.events.find((event) => event.kind === "stopping");
  return { reason: stopping?.kind === "stopping" ? stopping.reason : "none", message: "" };
}

/** One request to the counter; what it answers as JSON, or as text where it is none. */
export async function ask(
  { session }: Outcome,
  method: string,
  path: string,
  body?: string,
): Promise<unknown> {
  const response = await fetch(`${session.url}${path}`, {
    method,
    ...(body !== undefined && { body }),
    signal: AbortSignal.timeout(60_000),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status}: ${text}`);
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
