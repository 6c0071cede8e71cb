// SPDX-License-Identifier: Apache-2.0
/**
 * What of an image's measurements follows from its files alone, whatever machine starts it: MRTD, the kernel's and the
 * command line's registers. RTMR0 also depends on the machine's shape and is left to `caisson measure`.
 */

import { type DirectBoot, type Prediction, predict } from "@caisson/measure";
import { firmwareIdentity, ovmfVolumes } from "@caisson/measure/firmware-volume";
import type { PlatformTable } from "@caisson/vocabulary/platforms";

/** Register values by name, hex; those that the files do not determine are missing. */
type Registers = Partial<Record<"mrtd" | "rtmr0" | "rtmr1" | "rtmr2", string>>;

/** By platform, then by what of the host makes a difference. */
export type Measurements = PlatformTable<Record<string, Registers>>;

export interface MeasuredFiles {
  kernel: Uint8Array;
  commandLine: string;
  firmware: PlatformTable<{ code: Uint8Array; version: string }> & { emulated: { variables: Uint8Array } };
}

/** Older QEMUs write into the kernel's setup header before the firmware measures it (reference: QEMU's x86-common.c). */
const qemuGenerations = { "QEMU 7.2 to 9": "7.2.0", "QEMU 10 and newer": "10.1.0" };
const tdxQemu = qemuGenerations["QEMU 10 and newer"];
/** Memory does not enter these registers where there is no initrd; any size will do. */
const memory = 4 * 2 ** 30;

function values({ registers }: Prediction): Registers {
  const known = Object.entries(registers).filter(([, { value }]) => value !== undefined);
  return Object.fromEntries(known.map(([name, { value }]) => [name, value]));
}

/** Throws MeasureError when a file is malformed. */
export async function predictMeasurements({
  kernel,
  commandLine,
  firmware,
}: MeasuredFiles): Promise<Measurements> {
  const boot: DirectBoot = { method: "direct", kernel, commandLine };
  const td = await predict({
    platform: "tdx",
    firmware: firmware.tdx.code,
    firmwareRelease: firmware.tdx.version,
    boot,
    memory,
    qemu: tdxQemu,
  });
  const emulated: Record<string, Registers> = {};
  const { code, variables, version } = firmware.emulated;
  const volumes = ovmfVolumes(code);
  const identity = firmwareIdentity(volumes.dxe);
  for (const [name, qemu] of Object.entries(qemuGenerations)) {
    const prediction = await predict({
      platform: "emulated",
      firmware: code,
      variables,
      firmwareRelease: version,
      ...(identity !== undefined && { identity }),
      volumes,
      boot,
      memory,
      qemu,
    });
    emulated[name] = values(prediction);
  }
  return {
    tdx: {
      "MRTD in one pass": { mrtd: td.mrtd!.singlePass, ...values(td) },
      "MRTD in two passes": { mrtd: td.mrtd!.twoPass, ...values(td) },
    },
    emulated,
  };
}
