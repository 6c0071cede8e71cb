// SPDX-License-Identifier: Apache-2.0
/**
 * Real NTS servers on loopback, with a certificate authority made on the spot: chronyd, several instances. For
 * machines without Internet (`caisson up`) and for tests; only development configurations trust them.
 *
 * chronyd runs without touching the system clock (`-x`), each instance in its own directory, with ports that
 * were free, with or without root. Between a look at a port and chronyd's use of it somebody else can take it, which
 * ends chronyd: there are several tries.
 */

import type { ChildProcess } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  createTestAuthority,
  issueServerCertificate,
  type TestAuthority,
} from "@caisson/simulated/test-authority";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { end, runs, start } from "./child.ts";
import { type Chronyd, chronyd } from "./chronyd.ts";
import { HostError } from "./errors.ts";
import { freeTcpPort, freeUdpPort } from "./ports.ts";

export interface TimeServerOptions {
  operator: string;
  /** How far the server's clock is from the machine's, in milliseconds. */
  offsetMs?: number;
  /** How coarse its clock is, in seconds; what chronyd measures when missing. */
  clockPrecision?: number;
  /** Validity of its certificate, Unix milliseconds; yesterday to a month from now when missing. */
  notBefore?: number;
  notAfter?: number;
}

/** What a client needs to know about one server (the shape of `TimeSource` in packages/nts), and more for tests. */
export interface TimeServer {
  source: { name: string; operator: string; address: string; kePort: number; ca: string };
  ntpPort: number;
}

export interface TimeServers {
  servers: TimeServer[];
  authority: TestAuthority;
  /** Ends the servers and removes their files. */
  stop(): Promise<void>;
}

const day = 24 * 3600 * 1000;
/** How often an instance is started until it stays. */
const tries = 5;

/**
 * Starts one chronyd for each of `options`, reachable for clients at `address` (which reaches this machine's
 * loopback: 10.0.2.2 from a guest with QEMU's user networking). Ready when it returns.
 */
export async function startTimeServers(
  options: readonly TimeServerOptions[],
  address = "127.0.0.1",
): Promise<TimeServers> {
  const instances = new Instances(await chronyd(), await mkdtemp(join(tmpdir(), "caisson-time-")));
  const validity = { notBefore: 0, notAfter: Date.now() + 36_500 * day };
  const authority = createTestAuthority("Caisson test time CA", validity);
  const stop = () => instances.stop();
  try {
    const started = await Promise.allSettled(
      options.map(async (one, index): Promise<TimeServer> => {
        const name = `time-${index + 1}.caisson.test`;
        const addresses = ["127.0.0.1", `127.1.0.${index + 1}`];
        const lines = await linesOf(instances, authority, name, addresses, one);
        const { ntpPort, kePort } = await startServer(instances, name, lines);
        return {
          source: { name, operator: one.operator, address, kePort, ca: authority.certificate },
          ntpPort,
        };
      }),
    );
    // One that fails leaves the others on their way: they are ended when all have arrived.
    const servers = started.map((one) => {
      if (one.status === "rejected") throw one.reason;
      return one.value;
    });
    return { servers, authority, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The chronyds of one call, each in a directory of its own below `directory`: started one by one, ended together. */
class Instances {
  readonly #program: Chronyd;
  readonly #directory: string;
  readonly #stops: (() => Promise<unknown>)[] = [];
  #reference: Promise<number> | undefined;

  constructor(program: Chronyd, directory: string) {
    this.#program = program;
    this.#directory = directory;
  }

  /** The directory of the instance of this name, made if need be. */
  async place(name: string): Promise<string> {
    const own = join(this.#directory, name);
    makeDirectory(own);
    return own;
  }

  async launch(name: string, lines: readonly string[]): Promise<{ child: ChildProcess; log: () => string }> {
    const own = await this.place(name);
    const config = join(own, "chrony.conf");
    const common = ["cmdport 0", "bindcmdaddress /", "bindaddress 127.0.0.1", "allow 127.0.0.0/8"];
    // chronyd looks its user up even where it does not change to it, and Debian's own need not exist here.
    common.push("user root");
    await writeFile(config, [...common, `pidfile ${own}/pid`, ...lines, ""].join("\n"));
    const { path, env } = this.#program;
    const child = await start(path, ["-d", "-x", "-U", "-f", config], "chrony", {
      env: { ...process.env, ...env },
    });
    this.#stops.push(() => end(child));
    let log = "";
    const keep = (text: Buffer) => {
      log = (log + text.toString()).slice(-4000);
    };
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    return { child, log: () => log };
  }

  /** The port of a plain NTP server with the machine's own time, for the instances with an offset. */
  reference(): Promise<number> {
    this.#reference ??= freeUdpPort().then(async (port) => {
      await this.launch("reference", [`port ${port}`, "local stratum 1"]);
      return port;
    });
    return this.#reference;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#stops.map((end) => end()));
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Of a server's configuration, all but its ports; its key and certificate are written. */
async function linesOf(
  instances: Instances,
  authority: TestAuthority,
  name: string,
  addresses: string[],
  {
    offsetMs = 0,
    clockPrecision,
    notBefore = Date.now() - day,
    notAfter = Date.now() + 30 * day,
  }: TimeServerOptions,
): Promise<string[]> {
  const own = await instances.place(name);
  const { certificate, key } = issueServerCertificate(authority, [name], addresses, { notBefore, notAfter });
  await writeFile(join(own, "certificate.pem"), certificate);
  await writeFile(join(own, "key.pem"), key, { mode: 0o600 });
  const lines = ["ntsprocesses 0", `ntsservercert ${own}/certificate.pem`, `ntsserverkey ${own}/key.pem`];
  if (clockPrecision !== undefined) lines.push(`clockprecision ${clockPrecision}`);
  if (offsetMs === 0) return [...lines, "local stratum 1"];
  // A wrong clock is chronyd's own mechanism: it follows a server whose answers it corrects by an offset.
  const reference = `server 127.0.0.1 port ${await instances.reference()}`;
  return [...lines, `${reference} iburst minpoll -4 maxpoll 0 offset ${offsetMs / 1000}`];
}

/** Starts an instance, on other ports where somebody took its own meanwhile, and waits until it answers well. */
async function startServer(
  instances: Instances,
  name: string,
  lines: readonly string[],
): Promise<{ ntpPort: number; kePort: number }> {
  for (let left = tries; ; left--) {
    const [ntpPort, kePort] = [await freeUdpPort(), await freeTcpPort()];
    const { child, log } = await instances.launch(name, [`port ${ntpPort}`, `ntsport ${kePort}`, ...lines]);
    const limit = performance.now() + 60_000;
    for (;;) {
      const ended = !runs(child);
      if (ended && left > 1) break;
      if (ended || performance.now() > limit) {
        throw new HostError("host/program-failed", `chronyd did not start as ${name}`, {
          facts: [["log", log().trim().split("\n").slice(-3).join("\n")]],
        });
      }
      if ((await answersWell(ntpPort)) && (await accepts(kePort))) return { ntpPort, kePort };
      await sleep(20);
    }
  }
}

/** Whether a connection to `port` is accepted, within 500 ms. */
async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect", { signal: AbortSignal.timeout(500) });
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** Whether a plain NTP request (RFC 5905, section 7.3) is answered with a clock that is settled to 50 ms. */
async function answersWell(port: number): Promise<boolean> {
  const request = Buffer.alloc(48);
  request[0] = (4 << 3) | 3;
  const socket = createSocket("udp4");
  try {
    return await new Promise<boolean>((resolve) => {
      setTimeout(resolve, 500, false);
      socket.on("error", () => resolve(false));
      socket.on("message", (reply) => {
        const [stratum, dispersion] = [reply[1]!, reply.readUInt32BE(8) / 65536];
        resolve(stratum > 0 && stratum < 16 && dispersion < 0.05);
      });
      socket.connect(port, "127.0.0.1", () => socket.send(request));
    });
  } finally {
    socket.close();
  }
}
