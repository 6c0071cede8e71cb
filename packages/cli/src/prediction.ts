/** What an image will measure on the emulated machine of a given shape: the reference values of a session. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { imageAcpiFiles, qemuVersion, tcgCpu } from "@caisson/host/acpi";
import type { Shape } from "@caisson/host/machine";
import { cacheDirectory, type Manifest } from "@caisson/image";
import { type Prediction, predict } from "@caisson/measure";

const qemu = { program: "qemu-system-x86_64" };

export async function predictEmulated(image: string, manifest: Manifest, shape: Shape): Promise<Prediction> {
  const { code, variables } = manifest.firmware.emulated;
  const path = (artefact: { file: string }) => join(image, artefact.file);
  const bytes = (artefact: { file: string }) => new Uint8Array(readFileSync(path(artefact)));
  const machine = {
    platform: "emulated",
    shape,
    kernel: path(manifest.kernel),
    firmware: path(code),
    variables: path(variables),
    cpu: tcgCpu,
  } as const;
  return predict({
    platform: "emulated",
    firmware: bytes(code),
    variables: bytes(variables),
    firmwareRelease: manifest.versions.firmware.emulated,
    boot: { method: "direct", kernel: bytes(manifest.kernel), commandLine: manifest.commandLine },
    memory: shape.memory * 2 ** 20,
    qemu: await qemuVersion(qemu),
    acpi: await imageAcpiFiles(qemu, machine, join(cacheDirectory(process.env), "acpi")),
  });
}

/** The registers that a prediction could determine, by name: a reference tuple. */
export function referenceValues(prediction: Prediction): Record<string, string> {
  const values = Object.entries(prediction.registers).map(([name, { value }]) => [name, value] as const);
  return Object.fromEntries(values.filter((entry): entry is [string, string] => entry[1] !== undefined));
}
