// SPDX-License-Identifier: Apache-2.0
/**
 * A hostile host: starts the example with one thing changed, waits for the end, and tells what happened.
 *
 * `keyInMemory` searches all of the guest's memory for the key that the KMS would release: the machine is stopped
 * where it ended (`-no-shutdown`) and its RAM written out over QMP. A boot that gets its key is the control: there
 * the search must find it, or it proves nothing.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Built, Manifest } from "@caisson/image";
import { openRootSecret } from "@caisson/kms/root-secret";
import { type Session, type SessionHooks, startSession } from "@caisson/machine/session";
import { deriveReleasedKey } from "@caisson/protocol/derivation";
import { applicationId } from "@caisson/protocol/guest-config";
import { image, references, shape } from "./image.ts";

export interface Ending {
  /** "ready", or the reason of the stage that failed, or "none" when no stage said anything. */
  reason: string;
  message: string;
  /** Names of the measured events. */
  measured: string[];
  /** Everything on the console. */
  console: string;
  /** Whether the application's key, in any spelling, is in the guest's memory, on its console or on its disk. */
  keyInMemory: boolean;
  keyOnConsole: boolean;
}

const limitMs = 240_000;

/** One for each test file, so that files can run at the same time; the KMS in it keeps its identity from run to run. */
let directory: string | undefined;
function stateDirectory(): string {
  directory ??= mkdtempSync(join(tmpdir(), "caisson-attack-"));
  return directory;
}
after(() => {
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
});

/** The key that the KMS of this session releases to the application, as bytes. */
function releasedKey(session: Session, manifest: Manifest): Buffer {
  const secret = openRootSecret(join(session.state, "kms"), { development: true });
  const app = Buffer.from(applicationId(manifest.guest));
  return Buffer.from(
    deriveReleasedKey(secret, { app, instance: new Uint8Array(), purpose: "application", version: 1 }),
  );
}

/** Whether a file holds any of `needles`, read in pieces that overlap by the longest of them. */
function fileHolds(path: string, needles: readonly Buffer[]): boolean {
  const overlap = Math.max(...needles.map(({ length }) => length));
  const buffer = Buffer.alloc((8 << 20) + overlap);
  const file = openSync(path, "r");
  try {
    let kept = 0;
    for (let position = 0; ; ) {
      const got = readSync(file, buffer, kept, 8 << 20, position);
      if (got === 0) return false;
      const window = buffer.subarray(0, kept + got);
      if (needles.some((needle) => window.includes(needle))) return true;
      position += got;
      const keep = Math.min(overlap, window.length);
      buffer.copyWithin(0, window.length - keep, window.length);
      kept = keep;
    }
  } finally {
    closeSync(file);
  }
}

/** Boots with `hooks` applied; the example's image, unless another is given. */
export async function attack(hooks: SessionHooks, machine = shape, built?: Built): Promise<Ending> {
  const { directory, manifest } = built ?? (await image());
  const state = stateDirectory();
  const session = await startSession({
    image: directory,
    manifest,
    shape: machine,
    state,
    references: await references(directory),
    limitMs,
    hooks: {
      ...hooks,
      machine: (options) => {
        const changed = hooks.machine?.(options) ?? options;
        return { ...changed, extraArguments: [...(changed.extraArguments ?? []), "-no-shutdown"] };
      },
    },
  });
  const memory = join(session.state, "memory");
  try {
    const { vm } = session;
    const qmp = await vm.qmp();
    // Without -no-shutdown QEMU would be gone when the guest powers off, and its memory with it.
    const stopped = async (): Promise<void> => {
      for (;;) {
        await sleep(500);
        const { status } = (await qmp.execute("query-status")) as { status: string };
        if (status === "shutdown" || status === "guest-panicked") return;
      }
    };
    await Promise.race([vm.event(({ kind }) => kind === "ready"), stopped(), vm.ended]);

    const key = releasedKey(session, manifest);
    const needles = [key, Buffer.from(key.toString("hex")), Buffer.from(key.toString("base64"))];
    await qmp.execute("pmemsave", { val: 0, size: machine.memory * 2 ** 20, filename: memory });
    qmp.close();
    const failed = vm.events.findLast((event) => event.kind === "stage" && event.state === "failed");
    const gotReady = vm.events.some(({ kind }) => kind === "ready");
    return {
      reason: gotReady
        ? "ready"
        : failed?.kind === "stage" && failed.state === "failed"
          ? failed.reason
          : "none",
      message: failed?.kind === "stage" && failed.state === "failed" ? failed.message : "",
      measured: vm.events.flatMap((event) => (event.kind === "measured" ? [event.event] : [])),
      console: readFileSync(join(session.state, "console.log"), "utf8"),
      keyInMemory: fileHolds(memory, needles),
      keyOnConsole: fileHolds(join(session.state, "console.log"), needles),
    };
  } finally {
    session.vm.kill();
    await session.stop();
    rmSync(memory, { force: true });
  }
}
