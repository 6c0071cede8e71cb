// SPDX-License-Identifier: Apache-2.0
/**
 * Opens the persistent volumes, after their keys are there and before a service is: each is mounted, its first commit
 * anchored, and its directory put where services find volumes.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { persistentVolumes } from "@caisson/protocol/guest-config";
import { KernelLog } from "../kernel-log.ts";
import { volumeDirectory } from "../services/root.ts";
import { type Context, type Stage, StageFailure } from "../stage.ts";
import { MS } from "../syscalls.ts";
import { VolumeError } from "../volumes/errors.ts";
import { Keeper, type Kept } from "../volumes/keeper.ts";
import { type OpenVolume, openVolume } from "../volumes/open.ts";

/** Where the machine learns that it has to end. */
export type EndMachine = (reason: string, message: string) => void;

export function volumesStage(root: string, end: EndMachine): Stage {
  return {
    name: "volumes",
    limitMs: 300_000,
    async run(context) {
      const { app } = context.config;
      const names = persistentVolumes(app);
      if (names.length === 0) return "none";
      const { volumes = [], kms } = context.released ?? {};
      if (kms === undefined) throw new StageFailure("volume/refused", "persistent volumes need a KMS");
      const kernelLog = new KernelLog(root);
      // What was said before is not about these volumes.
      kernelLog.read();
      try {
        const opened: OpenVolume[] = [];
        const kept: Kept[] = [];
        for (const [index, name] of names.entries()) {
          const released = volumes[index]!;
          const { device, nextPlace } = context.disks![index]!;
          const { size = 0, persistent } = app.volumes[name]!;
          const volume = await openVolume(context.syscalls, device, released, size);
          opened.push(volume);
          const { mount } = volume;
          const { seed } = context.instance!;
          kept.push({ released, seed, mount, device, nextPlace, kmsAway: persistent!.kmsAway });
        }
        const keeper = new Keeper({
          syscalls: context.syscalls,
          kernelLog: () => kernelLog.read(),
          ...kms,
          volumes: kept,
          end: ({ code, message }) => end(code, message),
          note: context.log,
        });
        await keeper.begin(opened.map(({ generation }) => generation));
        context.keeper = keeper;
        for (const volume of opened) serve(context, volume);
        return opened.map(told).join("; ");
      } catch (error) {
        if (!(error instanceof VolumeError)) throw error;
        throw new StageFailure(error.code, error.message);
      }
    },
  };
}

/** Where `services/root.ts` looks for a volume before it makes one in memory. */
function serve({ syscalls }: Context, { name, data }: OpenVolume): void {
  const place = join(volumeDirectory, name);
  mkdirSync(place, { recursive: true, mode: 0o711 });
  syscalls.mount(data, place, "", MS.bind, "");
}

const told = ({ name, made, generation }: OpenVolume): string =>
  `${name}: ${made ? "made" : "opened"}, generation ${generation}`;
