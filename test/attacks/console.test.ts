/** The console is the host's to read, at its own pace. However late it reads, it learns why a boot stopped. */
import { equal } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { startSession } from "@caisson/machine/session";
import { image, references, shape } from "../support/image.ts";

const state = mkdtempSync(join(tmpdir(), "caisson-attack-"));
after(() => rmSync(state, { recursive: true, force: true }));

/** Longer than a machine takes to go once PID 1 has said why; PID 1 waits for the console for 2 s. */
const pauseMs = 1_500;

test("a host that stops reading for a while still gets PID 1's last words", async () => {
  const { directory, manifest } = await image();
  const session = await startSession({
    image: directory,
    manifest,
    shape,
    state,
    references: await references(directory),
    limitMs: 240_000,
    hooks: { machine: (options) => ({ ...options, commandLine: `${options.commandLine} --inspect` }) },
  });
  const { vm } = session;
  vm.on("console", (event) => {
    const starts = event.kind === "stage" && event.stage === "posture" && event.state === "started";
    if (starts) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
  });
  try {
    await vm.ended;
    const last = vm.events.at(-1);
    equal(last?.kind === "stopping" && last.reason, "posture/command-line");
  } finally {
    await session.stop();
  }
});
