/** The example's image, built once for all tests that boot it, and what it is expected to measure. */
import { join } from "node:path";
import { predictEmulated, referenceValues } from "@caisson/cli/prediction";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/progress";
import type { VmOptions } from "@caisson/host/vm";
import { type Built, readSpec } from "@caisson/image";

const example = new URL("../examples/hello", import.meta.url).pathname;

/** The shape that the reference values of the tests are for: one processor, so that two machines share two cores. */
export const shape = { vcpus: 1, memory: 1024 };

let built: Promise<Built> | undefined;

/** The development image of `examples/hello`. */
export function image(): Promise<Built> {
  built ??= readSpec(example).then((spec) => prepare(spec, "development", {}, new Progress()));
  return built;
}

export async function references(): Promise<Record<string, string>> {
  const { directory, manifest } = await image();
  return referenceValues(await predictEmulated(directory, manifest, shape));
}

/** Makes a machine boot the production image instead. */
export async function production(): Promise<(options: VmOptions) => VmOptions> {
  const { directory, manifest } = await prepare(await readSpec(example), "production", {}, new Progress());
  return (options) => ({
    ...options,
    kernel: join(directory, manifest.kernel.file),
    rootfs: join(directory, manifest.rootfs.file),
    commandLine: manifest.commandLine,
  });
}
