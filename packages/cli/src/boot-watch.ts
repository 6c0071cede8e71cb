// SPDX-License-Identifier: Apache-2.0
/** A machine that was started, emulated or not: its boot as a person sees it, and what its end means. */
import { readFileSync } from "node:fs";
import type { Vm } from "@caisson/host/vm";
import type { ConsoleEvent } from "@caisson/protocol/console";
import type { Report } from "@caisson/verify";
import { ApplicationError, BootError, BootView, MachineError } from "./views/boot-view.ts";
import { fold } from "./views/fold.ts";
import { terminal } from "./views/progress.ts";

/** Under software emulation on a busy machine a boot takes a minute, and a data base that makes its files some more. */
const bootLimitMs = 900_000;

/** A line for the person who watches. */
export function say(line: string): void {
  process.stderr.write(`${fold(line, process.stderr.columns)}\n`);
}

export function summary({ verdict, codes, checks }: Report): string {
  const passed = checks.filter(({ outcome }) => outcome === "pass").length;
  const open = checks.filter(({ outcome }) => outcome === "not-checked").map(({ id }) => id);
  const because = codes.length === 0 ? "" : ` because ${codes.join(", ")}`;
  const left = open.length === 0 ? "" : `\n  left open  ${open.join(", ")}`;
  return `evidence ${verdict}${because}: ${passed} checks passed${left}`;
}

/** Shows what the machine says from now on. */
export function watch(vm: Vm): BootView {
  const started = performance.now();
  const view = new BootView(say, () => (performance.now() - started) / 1000, ...terminal(process.stderr));
  vm.on("console", (event) => view.show(event));
  vm.on("room", (there) =>
    say(
      there
        ? "there is room again for what the machine writes: it goes on"
        : "the host has no room for what the machine writes to a volume: it stands still until there is",
    ),
  );
  return view;
}

/**
 * Waits until the machine is ready; `ended` resolves when it is gone, or somebody interrupted it. Throws the reason of
 * `interrupted`, and BootError when it ended before; it is killed when it takes too long.
 */
export async function untilReady(
  vm: Vm,
  view: BootView,
  interrupted: AbortSignal,
  log: string,
): Promise<{ ready: Extract<ConsoleEvent, { kind: "ready" }>; ended: Promise<void> }> {
  interrupted.throwIfAborted();
  const limit = setTimeout(() => vm.kill(), bootLimitMs);
  const ended = new Promise<void>((resolve) => {
    interrupted.addEventListener("abort", () => resolve(), { once: true });
    void vm.ended.then(() => resolve());
  });
  const ready = await Promise.race([vm.event(({ kind }) => kind === "ready"), ended]);
  clearTimeout(limit);
  interrupted.throwIfAborted();
  if (ready?.kind !== "ready") throw new BootError(view.record, readFileSync(log, "utf8"), log);
  return { ready, ended };
}

/** What the end of a machine means that nobody stopped. Throws ApplicationError, MachineError. */
export function judgeEnd(vm: Vm, log: string): void {
  const over = vm.events.find((event) => event.kind === "ended");
  if (over?.kind !== "ended") throw new MachineError(readFileSync(log, "utf8"), log);
  if (over.status !== 0) throw new ApplicationError(over);
  say("the application ended with status 0");
}
