// SPDX-License-Identifier: Apache-2.0
/** `caisson lock [SPEC]`: pins what an image is made from. */

import { kernelsToCompile } from "@caisson/image";
import { listKeys, readDebianKeyring } from "@caisson/image/archive";
import { cacheDirectory } from "@caisson/image/fetch";
import { lockPath, readLock } from "@caisson/image/lock";
import { type LockChange, lockChanges } from "@caisson/image/lock-changes";
import { readSpec } from "@caisson/image/spec";
import type { Flavour } from "@caisson/vocabulary/flavours";
import { Command } from "commander";
import { pin, pinLike } from "../prepare.ts";
import { jsonText } from "../views/answer.ts";
import { Progress } from "../views/progress.ts";

interface Options {
  mirror?: string;
  like?: string;
  showKeys?: boolean;
  json?: boolean;
}

async function showKeys(json: boolean): Promise<void> {
  const keys = await listKeys(await readDebianKeyring());
  if (json) process.stdout.write(jsonText({ keys }));
  else for (const { fingerprint, user } of keys) process.stdout.write(`${fingerprint}  ${user}\n`);
}

/** Which command compiles a kernel first, and which has one. */
export function kernelLines(compile: readonly Flavour[]): string {
  const lines = (
    [
      ["caisson up", "development"],
      ["caisson build", "production"],
    ] as const
  ).map(([command, flavour]) => {
    const does = compile.includes(flavour)
      ? "compiles a kernel first: six to ten minutes on two cores"
      : "has its kernel";
    return `  ${command.padEnd(13)}  ${does} (${flavour})\n`;
  });
  return `${lines.join("")}--like SPEC pins the packages of an image whose kernel is there\n`;
}

/** A line for a person. */
const describe = ({ name, before, after }: LockChange): string =>
  `  ${name}  ${before === undefined ? "new:" : before} ${before === undefined ? after : after === undefined ? "is gone" : `→ ${after}`}\n`;

export const command = new Command("caisson lock")
  .description(
    "Pins what an image is made of: packages by version and SHA-256 from the signed archive, images' tags by digest; says what changed.",
  )
  .argument("[spec]", "a spec, or a directory with a caisson.yaml", ".")
  .option("--mirror <uri>", "Debian mirror (or CAISSON_MIRROR; else from the apt configuration)")
  .option("--like <SPEC>", "take the packages of this spec's lock (or lock file), and so its kernel")
  .option("--show-keys", "list the keys of the Debian archive keyring and stop")
  .option("--json", "one JSON document")
  .action(async (path: string, options: Options) => {
    if (options.showKeys === true) return showKeys(options.json === true);
    const spec = await readSpec(path);
    // One that cannot be read is what a new lock is often made for.
    const previous = await readLock(spec).catch(() => undefined);
    const progress = new Progress();
    const lock = await (options.like === undefined
      ? pin(spec, options.mirror, progress)
      : pinLike(spec, options.like)
    ).finally(() => progress.clear());
    const compile = await kernelsToCompile(spec, lock, cacheDirectory(process.env));
    for (const { name, validUntil, asOf } of lock.suites) {
      if (asOf !== undefined) {
        process.stderr.write(
          `caisson lock: warning: the index of ${name} expired on ${validUntil}; archive.as_of accepts it\n`,
        );
      }
    }
    const changes = lockChanges(previous ?? { ...lock, images: [] }, lock);
    const bytes = lock.packages.reduce((sum, { size }) => sum + size, 0);
    if (options.json === true) {
      process.stdout.write(
        jsonText({
          path: lockPath(spec),
          packages: lock.packages.length,
          bytes,
          images: lock.images ?? [],
          changes,
          compile,
        }),
      );
    } else {
      process.stdout.write(
        `${lockPath(spec)}: ${lock.packages.length} packages, ${(bytes / 1e6).toFixed(1)} MB\n`,
      );
      for (const change of changes) process.stdout.write(describe(change));
      if (compile.length > 0) process.stdout.write(kernelLines(compile));
    }
  });
