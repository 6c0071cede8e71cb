// SPDX-License-Identifier: Apache-2.0
/**
 * From switching the machine on to the application's answer, under whatever accelerates here (the rows say which), split
 * by step: the median of three boots. The peer, started in the same run: a minimal Debian with systemd, made with
 * mmdebstrap, from the same moment to its login prompt, on the same QEMU with the same processors and memory.
 */
import { join } from "node:path";
import type { Row } from "@caisson/cli/commands/bench";
import { prepare } from "@caisson/cli/prepare";
import { BootView } from "@caisson/cli/views/boot-view";
import { Progress } from "@caisson/cli/views/progress";
import { accelerator } from "@caisson/host/accelerator";
import { readSpec } from "@caisson/image";
import { predictEmulated, referenceValues } from "@caisson/machine/prediction";
import { startSession } from "@caisson/machine/session";
import { median } from "./figures/figures.ts";
import { debian, secondsToLogin } from "./peer/debian.ts";

const repository = new URL("../", import.meta.url).pathname;
const shape = { vcpus: 2, memory: 1024 };
const runs = 3;
const limitMs = 300_000;

type Steps = Record<string, number>;

async function boot(): Promise<Steps> {
  const { directory, manifest } = await prepare(
    await readSpec(join(repository, "examples/hello")),
    "development",
    {},
    new Progress(),
  );
  const references = referenceValues(await predictEmulated(directory, shape));
  const session = await startSession({ image: directory, manifest, shape, references, limitMs });
  try {
    const started = performance.now();
    const view = new BootView(
      () => {},
      () => (performance.now() - started) / 1000,
      false,
    );
    let kernel = 0;
    session.vm.on("line", (line) => {
      const at = /^\[\s*(\d+\.\d+)\] Run \/usr\/bin\/node as init process/.exec(line)?.[1];
      if (at !== undefined) kernel = Number(at);
    });
    session.vm.on("console", (event) => view.show(event));
    const ready = await session.vm.event(({ kind }) => kind === "ready");
    if (ready === undefined) throw new Error("the machine did not come up");
    const first = session.vm.events[0]!.at;
    const stages = view.record.stages.map(({ stage, seconds }) => [`stage ${stage}`, seconds!] as const);
    return {
      firmware: view.record.firmwareSeconds!,
      kernel,
      "Node start": first - kernel,
      ...Object.fromEntries(stages),
      total: view.record.readySeconds!,
    };
  } finally {
    await session.stop();
  }
}

export async function* run(): AsyncIterable<Row> {
  const note = `${(await accelerator()).toUpperCase()}, ${shape.vcpus} vCPUs, ${shape.memory} MiB, median of ${runs}`;
  const boots: Steps[] = [];
  for (let i = 0; i < runs; i++) boots.push(await boot());
  for (const step of Object.keys(boots[0]!).filter((name) => name !== "total")) {
    yield {
      name: `boot: ${step}`,
      unit: "s",
      ours: Number(median(boots.map((steps) => steps[step]!)).toFixed(3)),
      note,
    };
  }
  const own = ["posture", "entropy", "identity", "time", "boundary", "keys"];
  const ownShare = median(
    boots.map((steps) => own.reduce((sum, stage) => sum + steps[`stage ${stage}`]!, 0)),
  );
  yield {
    name: "boot: our own stages, before the application",
    unit: "s",
    ours: Number(ownShare.toFixed(3)),
    note,
  };
  const peer = debian();
  const code = join(repository, "examples/hello/out/hello-development/firmware/emulated-code.fd");
  yield {
    name: "boot: switched on to the application's answer",
    unit: "s",
    ours: Number(median(boots.map(({ total }) => total!)).toFixed(2)),
    ...(peer !== undefined && { peer: Number((await secondsToLogin(peer, shape, code)).toFixed(2)) }),
    note: `peer: minimal Debian with systemd to its login prompt; ${note}`,
  };
}
