// SPDX-License-Identifier: Apache-2.0
/**
 * A file system under load on a persistent volume: stress-ng's workers for files, which check what they read, all at once;
 * QEMU killed in their midst, and the same again. It stands in for fstests, which Debian does not have as a package.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { debianRoot, path } from "../support/debian-image.ts";
import { kept, writeImages } from "../support/oci-layout.ts";
import { type ServiceMachine, startServices, writeSpec } from "../support/services.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-volume-stress-"));
let machine: ServiceMachine;

const small = ["hdd", "iomix", "fallocate", "copy-file", "sync-file"];
const workers = [...small, "dentry", "rename", "link", "symlink", "seek", "xattr", "utime", "chmod", "dir"];
const options = [
  ...workers.map((name) => `--${name} 1`),
  ...small.map((name) => `--${name}-bytes 4m`),
  "--hdd-opts fsync --dentries 256 --seek-size 4m",
];

const compose = (image: string): string =>
  `
services:
  stress:
    image: ${image}
    entrypoint: [/bin/sh, -c]
    command:
      - |
        cd /data
        if [ -f sums ]; then sha256sum -c --quiet sums && echo intact; fi
        mkdir -p kept work
        for i in $(seq 1 60); do head -c $((i * 3000)) /dev/urandom > kept/$i; done
        sync; sha256sum kept/* > sums; sync
        echo begun
        stress-ng --temp-path /data/work --verify --timeout 60s ${options.join(" ")} 2>&1
        echo "ended with $?"
        sha256sum -c --quiet sums && find /data -type f -exec cat {} + > /dev/null && echo readable
    volumes: ["data:/data"]
volumes: { data: }
`.replaceAll("$", "$$$$");

before(async () => {
  const root = await debianRoot("stress", ["stress-ng"]);
  const config = { Env: [path], Cmd: ["/bin/sh"] };
  const image = await kept("stress", { root, config }, (directory) =>
    writeImages(directory, { latest: { layers: [root], config } }),
  );
  writeSpec(place, "stress", compose(image));
  appendFileSync(join(place, "caisson.yaml"), "\nvolumes:\n  data: { size: 512MiB }\n");
});
after(async () => {
  machine?.vm.kill();
  await machine?.stop();
  rmSync(place, { recursive: true, force: true });
});

test("every worker at once, and QEMU killed in their midst", async () => {
  machine = await startServices(place, 1536);
  await machine.writes("stress", /^begun$/);
  await sleep(30_000);
  deepEqual(
    machine.lines("stress").filter((line) => /fail|error/i.test(line)),
    [],
  );
  machine.vm.kill();
  await machine.stop();
});

test("what was written and synced before is there, and the workers find nothing wrong to their end", async () => {
  machine = await startServices(place, 1536);
  await machine.reaches("stress", "completed");
  const lines = machine.lines("stress");
  ok(lines.includes("intact"), lines.join("\n"));
  ok(lines.includes("ended with 0"), lines.join("\n"));
  equal(lines.at(-1), "readable");
  deepEqual(
    machine.vm.events.filter(({ kind }) => kind === "stopping"),
    [],
  );
});
