// SPDX-License-Identifier: Apache-2.0
/**
 * From "ask" to the agreed time, five real NTS servers of five operators behind an emulated network, against chronyd
 * in the same network: as a daemon with its defaults and `iburst`, and as one shot with the least samples and polls.
 *
 * Every run is a new process, ours (`caisson time`, by its own monotonic clock, without the start of Node) as well
 * as chronyd's: a guest that boots asks for the time once, with cold code.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Row } from "@caisson/cli/commands/bench";
import { startTimeServers, type TimeServers } from "@caisson/host/time-servers";
import { parseTimeConfiguration, type Synchronization, synchronize } from "@caisson/nts";
import { runChronydClient } from "../test/support/time-chronyd-client.ts";
import { type Path, startPath } from "../test/support/time-network.ts";
import { median } from "./figures/figures.ts";

const execute = promisify(execFile);
const main = new URL("../packages/cli/src/main.ts", import.meta.url).pathname;
const floor = Date.UTC(2026, 0, 1);
const operators = ["a", "b", "c", "d", "e"];
/** Key establishment takes three round trips (TCP, TLS, question), NTP one. */
const roundTrips = 4;
const ownTimeMs = 200;
const runs = 7;
const peerRuns = 3;

async function withNetwork<T>(
  servers: TimeServers,
  rtt: number,
  loss: number,
  use: (paths: { address: string; kePort: number }[]) => Promise<T>,
): Promise<T> {
  const paths: Path[] = [];
  const addresses = servers.servers.map(({ source, ntpPort }, index) => ({
    address: `127.1.0.${index + 1}`,
    kePort: source.kePort,
    ntpPort,
  }));
  try {
    for (const address of addresses) paths.push(await startPath({ ...address, rtt, loss }));
    return await use(addresses);
  } finally {
    for (const path of paths) await path.stop();
  }
}

export async function* run(): AsyncIterable<Row> {
  const servers = await startTimeServers(operators.map((operator) => ({ operator })));
  const configuration = parseTimeConfiguration({
    sources: servers.servers.map(({ source }, index) => ({ ...source, address: `127.1.0.${index + 1}` })),
  });
  const directory = await mkdtemp(join(tmpdir(), "caisson-bench-time-"));
  const file = join(directory, "servers.json");
  await writeFile(file, JSON.stringify(configuration));
  const ask = () => synchronize(configuration, { floor });
  const chronyd = async (
    paths: { address: string; kePort: number }[],
    oneShot: boolean,
    serverOptions: string,
  ) => {
    const times: number[] = [];
    for (let i = 0; i < peerRuns; i++) {
      const { authority } = servers;
      const common = { servers: paths, ca: authority.certificate, minSources: 3, timeoutMs: 60_000 };
      const { offset, elapsed, log } = await runChronydClient({ ...common, oneShot, serverOptions });
      if (offset === undefined) throw new Error(`chronyd found no time:\n${log}`);
      times.push(elapsed);
    }
    return median(times);
  };

  try {
    for (const rtt of [1, 20, 100]) {
      yield* await withNetwork(servers, rtt, 0, async (paths): Promise<Row[]> => {
        const times: number[] = [];
        for (let i = 0; i < runs; i++) {
          const { stdout } = await execute(process.execPath, [main, "time", "--json", "--servers", file]);
          times.push((JSON.parse(stdout) as { elapsedMs: number }).elapsedMs);
        }
        const ours = median(times);
        const daemon = await chronyd(paths, false, "iburst");
        const tuned = await chronyd(paths, true, "iburst maxsamples 1 minpoll 0");
        const name = `agreed time, five servers at ${rtt} ms`;
        const limit = roundTrips * rtt + ownTimeMs;
        return [
          { name, unit: "ms", ours, limit, note: `limit: ${roundTrips} round trips and ${ownTimeMs} ms` },
          { name, unit: "ms", ours, peer: daemon, note: "peer: chronyd, iburst, until it selects sources" },
          { name, unit: "ms", ours, peer: tuned, note: "peer: chronyd -Q, iburst maxsamples 1 minpoll 0" },
        ];
      });
    }

    for (const rtt of [20, 100]) {
      const results = await withNetwork(servers, rtt, 0.05, async () => {
        const all: Synchronization[] = [];
        for (let i = 0; i < 20; i++) all.push(...(await Promise.all([ask(), ask(), ask(), ask(), ask()])));
        return all;
      });
      const succeeded = results.filter(({ agreement, elapsed }) => agreement.agreed && elapsed <= 3000);
      const slowest = Math.round(Math.max(...results.map(({ elapsed }) => elapsed)));
      yield {
        name: `agreed within 3 s, 5 % loss, ${rtt} ms`,
        unit: "of 100",
        ours: succeeded.length,
        limit: 100,
        note: `slowest ${slowest} ms, median ${Math.round(median(results.map(({ elapsed }) => elapsed)))} ms`,
      };
    }
  } finally {
    await servers.stop();
    await rm(directory, { recursive: true });
  }
}
