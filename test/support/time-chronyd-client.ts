// SPDX-License-Identifier: Apache-2.0
/** chronyd as a client: an independent implementation that asks the same servers, and the peer of the benchmark. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { end, exited, start } from "@caisson/host/child";
import { chronyd } from "@caisson/host/chronyd";

export interface ChronydClientOptions {
  servers: { address: string; kePort: number }[];
  /** PEM. */
  ca: string;
  minSources: number;
  /** Options of each `server` line, `iburst` for example. */
  serverOptions: string;
  /** One measurement and exit (`-Q`), or a daemon until it has selected its sources. */
  oneShot: boolean;
  timeoutMs: number;
}

export interface ChronydResult {
  /** Milliseconds that must be added to this machine's clock; undefined when chronyd found no time. */
  offset: number | undefined;
  elapsed: number;
  log: string;
}

/** Runs chronyd with NTS sources only, never touching the clock (`-x`, `-Q`), until it says how wrong the clock is. */
export async function runChronydClient(options: ChronydClientOptions): Promise<ChronydResult> {
  const program = await chronyd();
  const directory = await mkdtemp(join(tmpdir(), "caisson-chronyd-client-"));
  const ca = join(directory, "ca.pem");
  await writeFile(ca, options.ca);
  const lines = [
    ...options.servers.map(
      ({ address, kePort }) => `server ${address} nts ntsport ${kePort} ${options.serverOptions}`,
    ),
    `ntstrustedcerts ${ca}`,
    "nosystemcert",
    "authselectmode require",
    `minsources ${options.minSources}`,
    "port 0",
    "cmdport 0",
    "bindcmdaddress /",
    `pidfile ${directory}/pid`,
    ...(process.getuid?.() === 0 ? ["user root"] : []),
  ];
  await writeFile(join(directory, "chrony.conf"), `${lines.join("\n")}\n`);
  const mode = options.oneShot ? ["-Q"] : ["-x"];
  const started = performance.now();
  const child = await start(
    program.path,
    ["-d", "-U", ...mode, "-f", join(directory, "chrony.conf")],
    "chrony",
    {
      env: { ...process.env, ...program.env },
    },
  );
  let log = "";
  try {
    return await new Promise<ChronydResult>((resolve) => {
      const conclude = () => {
        // "System clock wrong by 0.000012 seconds (ignored)"; a daemon says less when the clock is right.
        const wrong = /System clock wrong by (-?[0-9.]+) seconds/.exec(log)?.[1];
        const selected = wrong === undefined && /Selected source/.test(log) ? 0 : undefined;
        const offset = wrong === undefined ? selected : Number(wrong) * 1000;
        resolve({ offset, elapsed: performance.now() - started, log });
      };
      const timer = setTimeout(conclude, options.timeoutMs);
      const read = (text: Buffer) => {
        log += text.toString();
        if (/System clock wrong by|Selected source/.test(log) && !options.oneShot) {
          clearTimeout(timer);
          conclude();
        }
      };
      child.stdout?.on("data", read);
      child.stderr?.on("data", read);
      void exited(child).then(() => {
        clearTimeout(timer);
        conclude();
      });
    });
  } finally {
    await end(child);
    await rm(directory, { recursive: true, force: true });
  }
}
