/** `caisson lock [SPEC]`: pins what an image is made from. */

import { listKeys, readDebianKeyring } from "@caisson/image/archive";
import { lockPath } from "@caisson/image/lock";
import { readSpec } from "@caisson/image/spec";
import { Command } from "commander";
import { pin } from "../prepare.ts";
import { Progress } from "../views/progress.ts";

interface Options {
  mirror?: string;
  showKeys?: boolean;
  json?: boolean;
}

async function showKeys(json: boolean): Promise<void> {
  const keys = await listKeys(await readDebianKeyring());
  if (json) process.stdout.write(`${JSON.stringify({ keys }, null, 2)}\n`);
  else for (const { fingerprint, user } of keys) process.stdout.write(`${fingerprint}  ${user}\n`);
}

export const command = new Command("caisson lock")
  .description(
    "Pins the packages of an image: name, version, path, size and SHA-256, from the signed archive.",
  )
  .argument("[spec]", "a spec, or a directory with a caisson.yaml", ".")
  .option("--mirror <uri>", "Debian mirror (or CAISSON_MIRROR; else from the apt configuration)")
  .option("--show-keys", "list the keys of the Debian archive keyring and stop")
  .option("--json", "one JSON document")
  .action(async (path: string, options: Options) => {
    if (options.showKeys === true) return showKeys(options.json === true);
    const spec = await readSpec(path);
    const progress = new Progress();
    const lock = await pin(spec, options.mirror, progress).finally(() => progress.clear());
    for (const { name, validUntil, asOf } of lock.suites) {
      if (asOf !== undefined) {
        process.stderr.write(
          `caisson lock: warning: the index of ${name} expired on ${validUntil}; archive.as_of accepts it\n`,
        );
      }
    }
    const bytes = lock.packages.reduce((sum, { size }) => sum + size, 0);
    if (options.json === true) {
      process.stdout.write(
        `${JSON.stringify({ path: lockPath(spec), packages: lock.packages.length, bytes }, null, 2)}\n`,
      );
    } else {
      process.stdout.write(
        `${lockPath(spec)}: ${lock.packages.length} packages, ${(bytes / 1e6).toFixed(1)} MB\n`,
      );
    }
  });
