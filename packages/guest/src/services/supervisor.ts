// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps services in the state that their description asks for: started in the order of what they depend on, checked,
 * started again with growing pauses, stopped in the reverse order. It knows nothing of how a service is run.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { AppDescription, Healthcheck, Service } from "@caisson/protocol/guest-config";
import { messageOf } from "@caisson/vocabulary/failure";
import type { Ending, Running } from "./launch.ts";

export type State =
  | "starting"
  | "running"
  | "healthy"
  | "unhealthy"
  | "restarting"
  | "completed"
  | "failed"
  | "stopped";

export interface Surrounding {
  launch(name: string): Promise<Running>;
  /** A change of state, with what there is to say about it. */
  changed(name: string, state: State, detail?: string): void;
}

/** A service does not get as far as another one needs it. */
export class DependencyFailure extends Error {
  override readonly name = "DependencyFailure";
}

/** As Docker has it, for a container that its runtime could not start. */
const notStarted = 125;

/** How everything ended: the first service that failed, else that all are done. */
export interface ServiceEnding extends Ending {
  service: string;
}

/** Docker's: 100 ms, doubled each time up to a minute, from the beginning after ten seconds of running. */
const firstPauseMs = 100;
const longestPauseMs = 60_000;
const steadyMs = 10_000;
/** The first checks come sooner than the interval says; these count only when they succeed. */
const firstCheckMs = 500;

class Watched {
  readonly name: string;
  readonly service: Service;
  state: State = "starting";
  running: Running | undefined;
  ending: Ending | undefined;
  /** Resolves when it runs for the first time, is healthy, has completed; rejects when it never will. */
  readonly started = Promise.withResolvers<void>();
  readonly healthy = Promise.withResolvers<void>();
  readonly completed = Promise.withResolvers<void>();
  /** Resolves when it has ended and will not be started again. */
  readonly over = Promise.withResolvers<Ending>();
  constructor(name: string, service: Service) {
    this.name = name;
    this.service = service;
    for (const { promise } of [this.started, this.healthy, this.completed]) promise.catch(() => undefined);
  }
}

export class Supervisor {
  readonly #watched: ReadonlyMap<string, Watched>;
  readonly #around: Surrounding;
  readonly #stopping = new AbortController();

  constructor({ services }: Pick<AppDescription, "services">, around: Surrounding) {
    this.#watched = new Map(
      Object.entries(services).map(([name, service]) => [name, new Watched(name, service)]),
    );
    this.#around = around;
  }

  /**
   * Starts everything; resolves when each service runs, is healthy where it is checked, or has ended. Throws
   * DependencyFailure when a service cannot be started because of another.
   */
  async start(): Promise<void> {
    await Promise.all([...this.#watched.values()].map((one) => this.#bringUp(one)));
  }

  /** Resolves when no service runs and none will: with the first that failed, or else with one that is done. */
  async ended(): Promise<ServiceEnding> {
    const all = [...this.#watched.values()];
    const endings = await Promise.all(
      all.map(async ({ name, over }): Promise<ServiceEnding> => ({ service: name, ...(await over.promise) })),
    );
    return endings.find(({ status }) => status !== 0) ?? endings[0]!;
  }

  /** Stops everything, each service before those that it depends on. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const left = new Map(this.#watched);
    while (left.size > 0) {
      const needed = new Set([...left.values()].flatMap(({ service }) => Object.keys(service.dependsOn)));
      const free = [...left.values()].filter(({ name }) => !needed.has(name));
      const next = free.length > 0 ? free : [...left.values()];
      await Promise.all(
        next.map(async (one) => {
          left.delete(one.name);
          await one.running?.stop();
        }),
      );
    }
  }

  #to(one: Watched, state: State, detail?: string): void {
    one.state = state;
    this.#around.changed(one.name, state, detail);
  }

  async #bringUp(one: Watched): Promise<void> {
    try {
      await this.#dependencies(one);
      if (this.#stopping.signal.aborted) throw new DependencyFailure("the machine stops");
    } catch (error) {
      for (const { reject } of [one.started, one.healthy, one.completed]) reject(error);
      one.over.resolve({ status: 1 });
      throw error;
    }
    void this.#run(one);
    await one.started.promise;
    if (one.service.healthcheck !== undefined) await one.healthy.promise.catch(() => undefined);
  }

  /** Waits for what a service depends on. */
  async #dependencies({ name, service }: Watched): Promise<void> {
    await Promise.all(
      Object.entries(service.dependsOn).map(async ([other, { condition, required }]) => {
        const watched = this.#watched.get(other);
        if (watched === undefined) return;
        try {
          await watched[condition].promise;
        } catch (error) {
          if (!required) return;
          throw new DependencyFailure(`${name} needs ${other} to be ${condition}: ${messageOf(error)}`);
        }
      }),
    );
  }

  /** Runs a service until it is over. */
  async #run(one: Watched): Promise<void> {
    const { service, over } = one;
    let pause = firstPauseMs;
    for (let restarts = 0; ; restarts++) {
      const began = performance.now();
      const ending = await this.#once(one);
      one.ending = ending;
      const reason = endingText(ending);
      if (this.#stopping.signal.aborted || !isStartedAgain(service, ending, restarts)) {
        const state = this.#stopping.signal.aborted
          ? "stopped"
          : ending.status === 0
            ? "completed"
            : "failed";
        this.#to(one, state, reason);
        if (ending.status === 0) one.completed.resolve();
        const why = new Error(`${one.name} ended with ${reason}`);
        for (const { reject } of [one.started, one.healthy, one.completed]) reject(why);
        over.resolve(ending);
        return;
      }
      if (performance.now() - began >= steadyMs) pause = firstPauseMs;
      this.#to(one, "restarting", `${reason}; again in ${pause / 1000} s`);
      await sleep(pause, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      pause = Math.min(longestPauseMs, 2 * pause);
    }
  }

  /** One run. A runtime that fails to start it counts as a run that failed. */
  async #once(one: Watched): Promise<Ending> {
    if (this.#stopping.signal.aborted) return one.ending ?? { status: 0 };
    try {
      this.#to(one, "starting");
      const running = await this.#around.launch(one.name);
      one.running = running;
      this.#to(one, "running", `pid ${running.pid}`);
      one.started.resolve();
      const over = new AbortController();
      const checking = this.#check(one, running, over.signal);
      const ending = await running.ended;
      over.abort();
      await checking;
      one.running = undefined;
      return ending;
    } catch (error) {
      one.running = undefined;
      return { status: notStarted, fault: messageOf(error) };
    }
  }

  /** Checks a run until it is over. */
  async #check(one: Watched, running: Running, over: AbortSignal): Promise<void> {
    const { healthcheck } = one.service;
    if (healthcheck === undefined) {
      one.healthy.resolve();
      return;
    }
    const began = performance.now();
    let failures = 0;
    for (const wait of waits(healthcheck)) {
      await sleep(wait.ms, undefined, { signal: over }).catch(() => undefined);
      if (over.aborted) return;
      const good = await running.probe(healthcheck.test, healthcheck.timeoutMs).catch(() => false);
      if (over.aborted) return;
      if (good) {
        failures = 0;
        if (one.state !== "healthy") this.#to(one, "healthy");
        one.healthy.resolve();
        continue;
      }
      const lenient = one.state !== "healthy" && performance.now() - began < healthcheck.startPeriodMs;
      if (wait.early || lenient || ++failures < healthcheck.retries) continue;
      if (one.state === "unhealthy") continue;
      this.#to(one, "unhealthy", `${failures} checks failed`);
      one.healthy.reject(new Error(`${one.name} is unhealthy: ${failures} checks failed`));
    }
  }
}

/** Pauses before checks: short ones that double up to the interval, then the interval for ever. */
function* waits({
  intervalMs,
  startPeriodMs,
  startIntervalMs,
}: Healthcheck): Generator<{ ms: number; early: boolean }> {
  const interval = Math.max(100, intervalMs);
  let passed = 0;
  for (let ms = firstCheckMs; passed + ms < interval; ms *= 2) {
    yield { ms, early: true };
    passed += ms;
  }
  yield { ms: interval - passed, early: false };
  passed = interval;
  while (passed < startPeriodMs) {
    const ms = Math.max(100, Math.min(interval, startIntervalMs));
    yield { ms, early: false };
    passed += ms;
  }
  for (;;) yield { ms: interval, early: false };
}

function isStartedAgain({ restart }: Service, { status }: Ending, restarts: number): boolean {
  switch (restart.policy) {
    case "no":
      return false;
    case "on-failure":
      return status !== 0 && restarts < (restart.maximum ?? Number.POSITIVE_INFINITY);
    case "always":
    case "unless-stopped":
      return true;
  }
}

function endingText({ status, memoryLimit, fault }: Ending): string {
  if (fault !== undefined) return `status ${status}: ${fault}`;
  const because =
    memoryLimit === undefined ? "" : `: it exceeded its memory limit of ${memoryLimit / 2 ** 20} MiB`;
  return `status ${status}${because}`;
}
