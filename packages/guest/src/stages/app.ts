/**
 * Starts the application in its sandbox. Where it has a port, the boot waits for a connection there, but not for ever:
 * an application that listens late, or never, or has ended meanwhile, is as good as any other. Its root comes out of the verity
 * image; of the guest it sees its key file, the socket of `api.ts` and the resolver configuration.
 */
import { chmodSync, existsSync, mkdirSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { mainPort, type Service } from "@caisson/protocol/guest-config";
import { serveApplication } from "../api.ts";
import { type Running, type Share, startApplication } from "../sandbox.ts";
import type { Context, Stage } from "../stage.ts";

const socket = "/run/caisson/app.sock";
const keyFile = "/run/caisson/app-key";
const resolver = "/run/resolv.conf";
const listenLimitMs = 30_000;
const probeLimitMs = 2_000;

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ port, host: "127.0.0.1" });
    const settle = (accepted: boolean) => {
      probe.destroy();
      resolve(accepted);
    };
    // A full queue of connections answers nothing.
    probe.setTimeout(probeLimitMs, () => settle(false));
    probe.once("connect", () => settle(true)).once("error", () => settle(false));
  });
}

/** The key reaches the application as a file in tmpfs that only its user can read. */
function shares(context: Context, service: Service): Share[] {
  const { user, group, root } = service;
  const list: Share[] = [];
  if (service.socket) list.push({ source: socket, destination: "/run/caisson.sock", writable: true });
  if (service.key && context.keys !== undefined) {
    context.keyFiles.add(keyFile, Buffer.from(context.keys.root).toString("hex"), user, group);
    list.push({ source: keyFile, destination: "/run/secrets/caisson-key" });
  }
  if (existsSync(join(root, "etc/resolv.conf")))
    list.push({ source: resolver, destination: "/etc/resolv.conf" });
  return list;
}

/** Waits until `running` accepts on `port`, has ended, or takes too long; true only for the first. */
async function listens(running: Running, port: number): Promise<boolean> {
  let over = false;
  void running.ended.then(() => {
    over = true;
  });
  const limit = performance.now() + listenLimitMs;
  while (!over && performance.now() < limit) {
    if (await accepts(port)) return true;
    await sleep(100);
  }
  return false;
}

/** The stage; `started` gets the running application, and its port once something listens there. */
export function appStage(
  onLine: (line: string) => void,
  started: (running: Running, port?: number) => void,
): Stage {
  return {
    name: "app",
    limitMs: 300_000,
    async run(context) {
      mkdirSync("/run/caisson", { recursive: true });
      chmodSync("/run/caisson", 0o711);
      const service = Object.values(context.config.app.services)[0]!;
      await serveApplication(context, socket, service);
      const running = await startApplication(service, shares(context, service), context.syscalls, onLine);
      started(running);
      const port = mainPort(context.config.app);
      const listening = port !== undefined && (await listens(running, port));
      if (listening) started(running, port);
      await context.measure("system-ready", new Uint8Array());
      if (port === undefined) return `pid ${running.pid}`;
      return `pid ${running.pid}, ${listening ? "" : "nothing listens yet on "}port ${port}`;
    },
  };
}
