// SPDX-License-Identifier: Apache-2.0
/** Interoperability with chronyd both ways, and the agreement over real servers with chosen clocks. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { startTimeServers, type TimeServer, type TimeServers } from "@caisson/host/time-servers";
import {
  type Association,
  measure,
  parseTimeConfiguration,
  synchronize,
  systemEnvironment,
} from "@caisson/nts";
import { createTestAuthority } from "@caisson/simulated/test-authority";
import { clockAt } from "../support/clock.ts";
import { runChronydClient } from "../support/time-chronyd-client.ts";
import { startHostileServer } from "../support/time-hostile-server.ts";
import { type Path, startPath } from "../support/time-network.ts";

const floor = Date.UTC(2026, 0, 1);
const shared = 3_600_000;
/** Wide limits, so that a busy machine changes nothing. */
const busy = { maxRttMs: 5000, maxWidthMs: 5000, timeoutMs: 30_000 };

/** Our result as an interval of offsets to this machine's clock, in milliseconds. */
async function ask(servers: { source: object }[], minOperators = 3) {
  const sources = servers.map(({ source }) => source);
  const configuration = parseTimeConfiguration({ sources, minOperators, limits: busy });
  const result = await synchronize(configuration, { floor });
  const clock = clockAt(result.at);
  const { agreement } = result;
  ok(agreement.agreed, JSON.stringify(result.sources.map(({ verdict, error }) => [verdict, error])));
  return { ...agreement, from: agreement.earliest - clock.latest, to: agreement.latest - clock.earliest };
}

suite("chronyd as server", () => {
  let servers: TimeServers;
  before(async () => {
    servers = await startTimeServers([
      { operator: "a", offsetMs: shared },
      { operator: "b", offsetMs: shared },
      { operator: "c", offsetMs: shared },
      { operator: "d", offsetMs: -86_400_000 },
      { operator: "e" },
    ]);
  });
  after(() => servers.stop());
  const at = (server: TimeServer, index: number) => ({
    address: `127.1.0.${index + 1}`,
    kePort: server.source.kePort,
    ntpPort: server.ntpPort,
  });

  test("three that share a clock an hour ahead win over two others, which are named", async () => {
    const { operators, from, to, verdicts } = await ask(servers.servers);
    deepEqual(operators, ["a", "b", "c"]);
    ok(from - 5 <= shared && shared <= to + 5, `${from} to ${to}`);
    // On a busy machine their answers may come too late to be named.
    for (const { source } of servers.servers.slice(3)) {
      ok(["falseticker", undefined].includes(verdicts.get(source.name)));
    }
  });

  test("chronyd as client of the same servers finds the same time", async () => {
    const paths: Path[] = [];
    const three = servers.servers.slice(0, 3).map(at);
    for (const path of three) paths.push(await startPath({ ...path, rtt: 0 }));
    try {
      const [theirs, ours] = await Promise.all([
        runChronydClient({
          servers: three,
          ca: servers.authority.certificate,
          minSources: 3,
          serverOptions: "iburst maxsamples 1 minpoll 0",
          oneShot: true,
          timeoutMs: 60_000,
        }),
        ask(servers.servers.slice(0, 3)),
      ]);
      ok(theirs.offset !== undefined, theirs.log);
      const said = `chronyd ${theirs.offset} ms, ours ${ours.from} to ${ours.to} ms`;
      ok(ours.from - 1000 < theirs.offset && theirs.offset < ours.to + 1000, said);
    } finally {
      for (const path of paths) await path.stop();
    }
  });

  for (const [name, rtt, loss] of [
    ["200 ms round trip", 200, 0],
    ["half of all packets lost", 20, 0.5],
  ] as const) {
    test(`${name}: the right time, or none`, async () => {
      const three = servers.servers.slice(0, 3);
      const paths: Path[] = [];
      try {
        for (const [index, server] of three.entries())
          paths.push(await startPath({ ...at(server, index), rtt, loss }));
        const sources = three.map(({ source }, index) => ({ ...source, address: `127.1.0.${index + 1}` }));
        const { agreement, at: instant } = await synchronize(
          parseTimeConfiguration({ sources, limits: busy }),
          { floor },
        );
        if (loss === 0) ok(agreement.agreed);
        if (!agreement.agreed) return; // with half of all packets lost, no time limit is certain to do
        const clock = clockAt(instant);
        ok(
          agreement.earliest - 5 <= clock.latest + shared && clock.earliest + shared <= agreement.latest + 5,
        );
      } finally {
        for (const path of paths) await path.stop();
      }
    });
  }

  test("keys last for many exchanges: cookies are renewed", async () => {
    const associations = new Map();
    const sources = [servers.servers[4]!.source];
    const configuration = parseTimeConfiguration({ sources, minOperators: 1, limits: busy });
    for (let i = 0; i < 12; i++) {
      const { agreement } = await synchronize(configuration, { floor, associations });
      equal(agreement.agreed, true);
      ok(associations.get(sources[0]!.name).cookies.length >= 7);
    }
  });
});

test("coarse clocks as servers: the right time at the first attempt, as vaguely as they say", async () => {
  const associations = new Map<string, Association>();
  const precisions = [0.05, 0.01, 1 / 512];
  const options = precisions.map((clockPrecision, i) => ({ operator: `o${i}`, clockPrecision }));
  const servers = await startTimeServers(options);
  try {
    // Below its precision a clock is random, so one question shows little.
    for (let i = 0; i < 12; i++) {
      for (const { source } of servers.servers) {
        const signal = AbortSignal.timeout(30_000);
        const found = await measure(source, associations, systemEnvironment, floor, signal);
        const clock = clockAt(found.at);
        ok(
          found.earliest - 2 <= clock.latest && clock.earliest <= found.latest + 2,
          `${source.name}: ${JSON.stringify(found)}`,
        );
      }
    }
  } finally {
    await servers.stop();
  }
});

test("chronyd as client of our test server accepts its keys, cookies and packets", async () => {
  const authority = createTestAuthority("interop", { notBefore: 0, notAfter: Date.now() + 86_400_000 });
  const server = await startHostileServer(authority, "ours", { certifiedAddress: "127.0.0.1", offset: 5000 });
  const result = await runChronydClient({
    servers: [{ address: "127.0.0.1", kePort: server.source.kePort }],
    ca: authority.certificate,
    minSources: 1,
    serverOptions: "iburst maxsamples 1 minpoll 0",
    oneShot: true,
    timeoutMs: 60_000,
  });
  await server.stop();
  ok(result.offset !== undefined && Math.abs(result.offset - 5000) < 1000, result.log);
});
