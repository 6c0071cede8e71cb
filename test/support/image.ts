// SPDX-License-Identifier: Apache-2.0
/** The example's image, built once for all tests of a run that boot it, and what it is expected to measure. */

import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import type { VmOptions } from "@caisson/host/vm";
import { type Built, type Manifest, readSpec } from "@caisson/image";
import { predictEmulated, referenceValues } from "@caisson/machine/prediction";
import type { Flavour } from "@caisson/vocabulary/flavours";

const repository = new URL("../../", import.meta.url).pathname;
const example = join(repository, "examples/hello");

/** The shape that the reference values of the tests are for: one processor, so that two machines share two cores. */
export const shape = { vcpus: 1, memory: 1024 };

/**
 * The image of a flavour. Test files are processes of their own with the runner as their parent: the first of a run
 * builds, the others wait for it and read what it built. It lies in a place of its own: `caisson up` of the same example
 * gives its image an identity.
 */
export async function imageOf(flavour: Flavour): Promise<Built> {
  const spec = await readSpec(example);
  const marks = join(repository, ".cache", "test-images");
  const directory = join(marks, `${spec.name}-${flavour}`);
  const mark = join(marks, `${flavour}-${process.ppid}`);
  mkdirSync(marks, { recursive: true });
  for (;;) {
    if (existsSync(mark)) {
      return {
        directory,
        manifest: JSON.parse(readFileSync(join(directory, "manifest.json"), "utf8")) as Manifest,
      };
    }
    try {
      const built = await prepare(spec, flavour, { out: directory }, new Progress());
      writeFileSync(mark, "");
      return built;
    } catch (error) {
      if ((error as { code?: string }).code !== "build/busy") throw error;
      await sleep(1000);
    }
  }
}

let built: Promise<Built> | undefined;

/** The development image of `examples/hello`. */
export function image(): Promise<Built> {
  built ??= imageOf("development");
  return built;
}

/** What an image measures on a machine of `shape`; the example's, unless another is given. */
export async function references(directory?: string): Promise<ReturnType<typeof referenceValues>> {
  return referenceValues(await predictEmulated(directory ?? (await image()).directory, shape));
}

/** The example with some lines added to its spec, built below `place`. */
export async function variant(place: string, lines: string): Promise<Built> {
  cpSync(example, place, { recursive: true, filter: (path) => !path.endsWith("/out") });
  appendFileSync(join(place, "caisson.yaml"), lines);
  return prepare(await readSpec(place), "development", {}, new Progress());
}

/** Makes a machine boot a production image instead: the example's, or `built`. */
export async function production(built?: Built): Promise<(options: VmOptions) => VmOptions> {
  const { directory, manifest } = built ?? (await imageOf("production"));
  return (options) => ({
    ...options,
    kernel: join(directory, manifest.kernel.file),
    rootfs: join(directory, manifest.rootfs.file),
    commandLine: manifest.commandLine,
  });
}
