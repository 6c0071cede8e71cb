// SPDX-License-Identifier: Apache-2.0
/** A machine with the services of a compose file, as `caisson up` starts it, for as long as a test wants it. */
import { ok } from "node:assert/strict";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { imageDirectory, readSpec } from "@caisson/image";
import { DevelopmentOwners } from "@caisson/machine/development-owners";
import { predictEmulated, referenceValues } from "@caisson/machine/prediction";
import { type Session, type SessionHooks, startSession } from "@caisson/machine/session";
import type { ConsoleEvent } from "@caisson/protocol/console";

const example = new URL("../../examples/hello/", import.meta.url).pathname;
// A JVM of some size takes a quarter of an hour where the machine has other work.
const limitMs = 1_800_000;

export interface ServiceMachine extends Session {
  /** What a service has written so far. */
  lines(service: string): string[];
  /** The host's port that leads to the first published one of a service. */
  portOf(service: string): number;
  /** Resolves with the next event of a service's that says so, past ones included. Rejects when the machine ends. */
  reaches(service: string, state: string): Promise<ConsoleEvent>;
  /** The same for a line that a service writes. */
  writes(service: string, line: RegExp): Promise<ConsoleEvent>;
}

/** Writes a spec with these lines under `app`, and the example's lock, as it is made of the same packages. */
export function writeAppSpec(place: string, name: string, lines: string): void {
  const archive = /^archive:\n(?: .*\n)+/m.exec(readFileSync(join(example, "caisson.yaml"), "utf8"))![0];
  writeFileSync(join(place, "caisson.yaml"), `version: 1\nname: ${name}\n${archive}\napp:\n${lines}`);
  copyFileSync(join(example, "caisson.lock"), join(place, "caisson.lock"));
}

/** The same with a compose file. */
export function writeSpec(place: string, name: string, compose: string, lines = ""): void {
  writeAppSpec(place, name, `  compose: ./compose.yaml\n${lines}`);
  writeFileSync(join(place, "compose.yaml"), compose);
}

/**
 * Starts the spec in `place`; resolves when the machine is ready. `memory` in MiB. With `owned` the image claims the
 * identity of development owners, who release it and give it secrets, as `caisson up` has it.
 */
export async function startServices(place: string, memory: number, owned = false): Promise<ServiceMachine> {
  const machine = await launchServices(place, memory, {}, owned);
  try {
    const ready = await machine.vm.event(({ kind }) => kind === "ready");
    ok(ready !== undefined, `the machine ended first: ${JSON.stringify(machine.vm.events.slice(-8))}`);
    return machine;
  } catch (error) {
    await machine.stop();
    throw error;
  }
}

/** The same, but does not wait for it. */
export async function launchServices(
  place: string,
  memory: number,
  hooks: SessionHooks = {},
  owned = false,
): Promise<ServiceMachine> {
  const spec = await readSpec(place);
  const owners = owned
    ? await DevelopmentOwners.open(`${imageDirectory(spec, "development")}.state`, spec.name)
    : undefined;
  const claim = owners && { identity: owners.identity };
  const { directory, manifest } = await prepare(spec, "development", { ...claim }, new Progress());
  const shape = { vcpus: 1, memory };
  const references = referenceValues(await predictEmulated(directory, shape));
  const session = await startSession({
    image: directory,
    manifest,
    shape,
    references,
    limitMs,
    hooks,
    ...(owners && { owners }),
  });
  const { vm, ports } = session;
  const said = async (what: string, wanted: (event: ConsoleEvent) => boolean): Promise<ConsoleEvent> => {
    const event = await vm.event(wanted);
    ok(event !== undefined, `${what}: the machine ended first: ${JSON.stringify(vm.events.slice(-8))}`);
    return event;
  };
  return {
    ...session,
    lines: (service: string) =>
      vm.events.flatMap((event) => (event.kind === "app" && event.service === service ? [event.line] : [])),
    portOf: (service: string) => ports.find((one) => one.service === service)!.host,
    reaches: (service: string, state: string) =>
      said(
        `${service} ${state}`,
        (event) => event.kind === "service" && event.service === service && event.state === state,
      ),
    writes: (service: string, line: RegExp) =>
      said(
        `${service} writes ${line}`,
        (event) => event.kind === "app" && event.service === service && line.test(event.line),
      ),
  };
}

/** The answer to a request as soon as it is what is wanted: a server of this size takes minutes to start under emulation. */
export async function until(
  ask: () => Promise<Response>,
  wanted: (text: string, response: Response) => boolean,
): Promise<string> {
  const deadline = performance.now() + 900_000;
  let last = "";
  while (performance.now() < deadline) {
    try {
      const response = await ask();
      const text = await response.text();
      if (wanted(text, response)) return text;
      last = `${response.status} ${text.slice(0, 200)}`;
    } catch (error) {
      last = String(error);
    }
    await sleep(1000);
  }
  throw new Error(`not within its time: ${last}`);
}
