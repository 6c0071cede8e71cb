/** What an image will measure on the emulated machine of a given shape: the reference values of a session. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { qemuVersion } from "@caisson/host/acpi";
import type { Shape } from "@caisson/host/machine";
import type { Manifest } from "@caisson/image";
import { type Prediction, predict } from "@caisson/measure";

export async function predictEmulated(image: string, manifest: Manifest, shape: Shape): Promise<Prediction> {
  const file = (artefact: { file: string }) => new Uint8Array(readFileSync(join(image, artefact.file)));
  return predict({
    platform: "emulated",
    firmware: file(manifest.firmware.emulated.code),
    variables: file(manifest.firmware.emulated.variables),
    firmwareRelease: manifest.versions.firmware.emulated,
    boot: { method: "direct", kernel: file(manifest.kernel), commandLine: manifest.commandLine },
    memory: shape.memory * 2 ** 20,
    qemu: await qemuVersion({ program: "qemu-system-x86_64" }),
  });
}

/** The registers that a prediction could determine, by name: a reference tuple. */
export function referenceValues(prediction: Prediction): Record<string, string> {
  const values = Object.entries(prediction.registers).map(([name, { value }]) => [name, value] as const);
  return Object.fromEntries(values.filter((entry): entry is [string, string] => entry[1] !== undefined));
}
