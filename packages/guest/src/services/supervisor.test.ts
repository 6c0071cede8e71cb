// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Service } from "@caisson/protocol/guest-config";
import { plainService } from "@caisson/protocol/testing/service";
import type { Ending, Running } from "./launch.ts";
import { type State, Supervisor } from "./supervisor.ts";

/** Services that do what their test says, instead of processes. */
function stand(services: Record<string, Partial<Service>>) {
  const events: string[] = [];
  const runs = new Map<string, ReturnType<typeof Promise.withResolvers<Ending>>>();
  const probes = new Map<string, boolean[]>();
  const failing = new Set<string>();
  const supervisor = new Supervisor(
    {
      services: Object.fromEntries(Object.entries(services).map(([name, one]) => [name, plainService(one)])),
    },
    {
      async launch(name): Promise<Running> {
        if (failing.has(name)) throw new Error("no such program");
        const run = Promise.withResolvers<Ending>();
        runs.set(name, run);
        return {
          pid: 1,
          ended: run.promise,
          async stop() {
            events.push(`${name} stop`);
            run.resolve({ status: 0 });
          },
          probe: async () => probes.get(name)?.shift() ?? false,
        };
      },
      changed: (name, state: State) => events.push(`${name} ${state}`),
    },
  );
  const end = (name: string, status: number) => runs.get(name)!.resolve({ status });
  return { supervisor, events, runs, probes, failing, end };
}

const after = (name: string, condition: "started" | "healthy" | "completed", required = true) => ({
  dependsOn: { [name]: { condition, required } },
});
const check = {
  test: ["/check"],
  intervalMs: 10,
  timeoutMs: 10,
  retries: 2,
  startPeriodMs: 0,
  startIntervalMs: 10,
};

test("one service: started, ended, and its status is everybody's", async () => {
  const { supervisor, events, end } = stand({ app: {} });
  await supervisor.start();
  end("app", 3);
  deepEqual(await supervisor.ended(), { service: "app", status: 3 });
  deepEqual(events, ["app starting", "app running", "app failed"]);
});

test("a service waits until another has completed, and one that did not complete is named", async () => {
  const good = stand({ web: after("migrate", "completed"), migrate: {} });
  const starting = good.supervisor.start();
  await sleep(20);
  deepEqual([...good.runs.keys()], ["migrate"]);
  good.end("migrate", 0);
  await starting;
  deepEqual([...good.runs.keys()], ["migrate", "web"]);

  const bad = stand({ web: after("migrate", "completed"), migrate: {} });
  const failing = bad.supervisor.start();
  await sleep(20);
  bad.end("migrate", 1);
  await rejects(failing, {
    name: "DependencyFailure",
    message: /^web needs migrate to be completed: migrate ended with status 1$/,
  });
  ok(!bad.runs.has("web"));
});

test("a dependency that is not required holds nobody up", async () => {
  const { supervisor, runs, failing } = stand({ web: after("cache", "healthy", false), cache: {} });
  failing.add("cache");
  await supervisor.start().catch(() => undefined);
  ok(runs.has("web"));
});

test("healthy after failed checks; one that never is, is named by who needs it", async () => {
  const good = stand({ web: after("db", "healthy"), db: { healthcheck: check } });
  good.probes.set("db", [false, true]);
  await good.supervisor.start();
  deepEqual(good.events, ["db starting", "db running", "db healthy", "web starting", "web running"]);
  await good.supervisor.stop();

  const bad = stand({ web: after("db", "healthy"), db: { healthcheck: check } });
  await rejects(bad.supervisor.start(), /web needs db to be healthy: db is unhealthy: 2 checks failed/);
  await bad.supervisor.stop();
});

test("restarts as the policy says, and no more often than it says", async () => {
  const policy = (restart: Service["restart"]) => stand({ app: { restart } });
  const limited = policy({ policy: "on-failure", maximum: 1 });
  await limited.supervisor.start();
  const runs = ({ events }: typeof limited) => events.filter((event) => event === "app running").length;
  const again = async (one: typeof limited) => {
    while (runs(one) < 2) await sleep(10);
  };
  limited.end("app", 1);
  await again(limited);
  limited.end("app", 1);
  equal((await limited.supervisor.ended()).status, 1);
  equal(runs(limited), 2);

  const once = policy({ policy: "on-failure" });
  await once.supervisor.start();
  once.end("app", 0);
  equal((await once.supervisor.ended()).status, 0);

  const always = policy({ policy: "always" });
  await always.supervisor.start();
  always.end("app", 0);
  await again(always);
  equal(always.events.at(-1), "app running");
  await always.supervisor.stop();
  equal((await always.supervisor.ended()).status, 0);
});

test("what cannot be started says why, and is started again like what fails", async () => {
  const { supervisor, events, failing } = stand({ app: {} });
  failing.add("app");
  await rejects(supervisor.start(), /app ended with status 125: no such program/);
  match(events.join(), /app failed/);
});

test("stopped in reverse order of what depends on what, whatever waits to be started again", async () => {
  const { supervisor, events } = stand({
    db: {},
    web: after("db", "started"),
    proxy: after("web", "started"),
  });
  await supervisor.start();
  events.length = 0;
  await supervisor.stop();
  deepEqual(
    events.filter((event) => event.endsWith("stop")),
    ["proxy stop", "web stop", "db stop"],
  );
});
