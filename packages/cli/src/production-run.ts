// SPDX-License-Identifier: Apache-2.0
/** A production machine on a host that can: started, shown, judged by what was written for a relying party, and run. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { Vm } from "@caisson/host/vm";
import type { Manifest } from "@caisson/image";
import type { Production } from "@caisson/machine/production";
import { mainPort, persistentVolumes } from "@caisson/protocol/guest-config";
import { Failure } from "@caisson/vocabulary/failure";
import { judgeEnd, say, summary, untilReady, watch } from "./boot-watch.ts";
import { judgeRunning } from "./commands/verify.ts";
import { verdictCodes } from "./exit-codes.ts";
import { exitCode } from "./failure.ts";

interface Run {
  image: string;
  manifest: Manifest;
  production: Production;
  qemu: string;
  port?: number;
  once?: boolean;
}

/** Judges what it serves; a machine that cannot be judged runs on, unless a judgement is all that was asked for. */
async function judge({ manifest, production, port, once }: Run): Promise<void> {
  const { app } = manifest.guest;
  const main = mainPort(app);
  if (main === undefined) return say("\nnot verified: the application publishes no port to be asked at");
  const url = `${app.front === undefined ? "http" : "https"}://127.0.0.1:${port ?? main}/`;
  try {
    const report = await judgeRunning(url, {
      policy: production.policy,
      image: [production.references],
      revocation: [],
      update: "standard",
    });
    say(`\n${summary(report)}`);
    process.exitCode = verdictCodes[report.verdict];
  } catch (error) {
    if (!(error instanceof Failure) || once === true) throw error;
    say(`\nnot verified: ${error.message}`);
    process.exitCode = exitCode(error);
  }
  say(`${manifest.name} is at ${url}${once === true ? "" : "   (Ctrl-C ends it)"}`);
}

/**
 * Starts it, and runs it until it ends or `interrupted`. Throws HostError, BootError, ApplicationError, MachineError, and
 * with `once` what keeps evidence from being judged.
 */
export async function runProduction(run: Run, interrupted: AbortSignal): Promise<void> {
  const serialLog = join(`${run.image}.state`, "console.log");
  const { qmpSocket, arguments: args } = run.production;
  rmSync(qmpSocket, { force: true });
  const volumes = persistentVolumes(run.manifest.guest.app);
  const vm = await Vm.launch(args, {
    program: run.qemu,
    qmpSocket,
    serialLog,
    volumes,
    tidy: async () => {},
  });
  try {
    const { ended } = await untilReady(vm, watch(vm), interrupted, serialLog);
    await judge(run);
    if (run.once === true) return;
    await ended;
    if (interrupted.aborted) say("stopping the machine");
    else judgeEnd(vm, serialLog);
  } finally {
    await vm.powerDown();
  }
}
