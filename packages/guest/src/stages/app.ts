// SPDX-License-Identifier: Apache-2.0
/**
 * Prepares the services, starts them in the order that they ask for, and waits until each runs, is healthy where it is
 * checked, or has ended. Where one publishes a port, the boot waits for a connection there, but not for ever: a service
 * that listens late, or never, or has ended meanwhile, is as good as any other.
 */

import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { publishedPorts } from "@caisson/protocol/guest-config";
import { messageOf } from "@caisson/vocabulary/failure";
import { withLimit } from "../limit.ts";
import { wayIn } from "../network/network.ts";
import { launch, type Prepared } from "../services/launch.ts";
import { listeningPorts } from "../services/listening.ts";
import { reapOrphans } from "../services/orphans.ts";
import type { Rate } from "../services/output.ts";
import { type Fronted, prepareServices } from "../services/prepare.ts";
import { DependencyFailure, type State, Supervisor } from "../services/supervisor.ts";
import { type Stage, StageFailure } from "../stage.ts";

const listenLimitMs = 30_000;
const noticeMs = 4_000;
/** A data base that makes its files under emulation takes minutes. */
const startLimitMs = 600_000;
/** What services print goes to a serial console, in the clear or encrypted, or is read and dropped. */
const rates = {
  kept: { bytes: 64 << 10, lines: 400 },
  dropped: { bytes: 4 << 20, lines: 0 },
} satisfies Record<string, Rate>;

/** What the stage tells: lines and changes of state of services. */
export interface Told {
  line(service: string, line: string): void;
  state(service: string, state: State, detail?: string): void;
  /** Once, before the first service starts. */
  began(supervisor: Supervisor, prepared: ReadonlyMap<string, Prepared>): void;
  /** Once, where the description has a front: what it is started with. */
  fronted(front: Fronted): void;
  /** Once, when something accepts connections on the main port. */
  listens(port: number): void;
  /** Once, when nothing does after some seconds; `others` are ports on which that service listens instead. */
  waits(service: string, port: number, others: readonly number[]): void;
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ port, host });
    probe.setTimeout(2_000, () => probe.destroy(new Error("no answer")));
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });
}

/**
 * Waits until there is an `answer`, everything has ended, or it takes too long; true only for the first. When it takes
 * longer than a program needs to start, `waits` is told the `ports` that are used instead, and again when these are
 * others: who named the wrong one should not have to wait for the end.
 */
async function listens(
  supervisor: Supervisor,
  answer: () => boolean | Promise<boolean>,
  ports: () => number[],
  waits: (ports: number[]) => void,
): Promise<boolean> {
  let over = false;
  void supervisor.ended().then(() => {
    over = true;
  });
  const start = performance.now();
  let said: string | undefined;
  while (!over && performance.now() < start + listenLimitMs) {
    if (await answer()) return true;
    const used = performance.now() < start + noticeMs ? undefined : ports();
    if (used !== undefined && used.join() !== said) {
      said = used.join();
      waits(used);
    }
    await sleep(100);
  }
  return false;
}

export function appStage(told: Told): Stage {
  return {
    name: "app",
    limitMs: startLimitMs + 2 * listenLimitMs,
    async run(context) {
      const { app, flavour } = context.config;
      const kept = flavour === "development" || app.logs !== undefined;
      const { plan, prepared, front } = await prepareServices(context);
      if (front !== undefined) told.fronted(front);
      reapOrphans(context.syscalls);
      // Before a service can ask for a quote over data of its own: after this event, none of them gets a machine's keys.
      await context.measure("system-ready", new Uint8Array());
      const states = new Map<string, State>();
      const processes = new Map<string, number>();
      const supervisor = new Supervisor(app, {
        async launch(name) {
          const rate = kept ? rates.kept : rates.dropped;
          const running = await launch(context.syscalls, prepared.get(name)!, rate, (line) =>
            told.line(name, line),
          );
          processes.set(name, running.pid);
          return running;
        },
        changed(name, state, detail) {
          states.set(name, state);
          told.state(name, state, detail);
        },
      });
      told.began(supervisor, prepared);
      await started(supervisor, states);

      const main = publishedPorts(app).find(({ protocol }) => protocol === "tcp");
      if (main !== undefined) {
        const { service, target, published } = main;
        const { isolation } = app.services[service]!;
        const host = isolation === "plain" ? "127.0.0.1" : wayIn(plan.links[service]!).address;
        const ports = (): number[] => listeningPorts(`/proc/${processes.get(service)}`);
        // What stands behind a front takes connections from there alone.
        const answer =
          app.front?.service === service ? () => ports().includes(target) : () => accepts(host, target);
        const waits = (used: number[]): void => told.waits(service, target, used);
        if (await listens(supervisor, answer, ports, waits)) told.listens(published);
      }
      return [...states].map(([one, state]) => `${one} ${state}`).join(", ");
    },
  };
}

/** Throws StageFailure when a service cannot start because of another, or when it all takes too long. */
async function started(supervisor: Supervisor, states: ReadonlyMap<string, State>): Promise<void> {
  const late = (): StageFailure => {
    const open = [...states].map(([name, state]) => `${name} is ${state}`).join(", ");
    return new StageFailure("app/not-ready", `after ${startLimitMs / 1000} s: ${open}`);
  };
  try {
    await withLimit(supervisor.start(), startLimitMs, late);
  } catch (error) {
    if (error instanceof StageFailure) throw error;
    const reason = error instanceof DependencyFailure ? "app/dependency" : "app/start";
    throw new StageFailure(reason, messageOf(error));
  }
}
