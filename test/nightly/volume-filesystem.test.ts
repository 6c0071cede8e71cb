// SPDX-License-Identifier: Apache-2.0
/**
 * fsx, fsstress and the tests of fstests that make sense for one mounted volume, in a service of an ordinary development
 * image, by its kernel and under its limits. Then QEMU is killed while fsstress goes on: the disk is looked at from
 * outside, decrypted, as a scrub would, and the machine starts again and finds everything that it had promised.
 *
 * fstests come from a clone of their repository that CAISSON_FSTESTS_SOURCE names: Debian has no package of them.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { VmOptions } from "@caisson/host/vm";
import { reservedSize } from "@caisson/protocol/volumes";
import { checkFileSystem, decryptDisk } from "../support/btrfs-check.ts";
import { fstestsImage } from "../support/fstests.ts";
import { HostileDisk } from "../support/hostile-disk.ts";
import { launchServices, type ServiceMachine, writeSpec } from "../support/services.ts";
import { GenerationSearch, volumeKeys } from "../support/volume-disk.ts";

const limitMs = 3_000_000;
const volumeSize = 2 ** 31;
const place = mkdtempSync(join(tmpdir(), "caisson-filesystem-"));
let machine: ServiceMachine | undefined;
after(async () => {
  machine?.vm.kill();
  await machine?.stop();
  rmSync(place, { recursive: true, force: true });
});

/** Of the group "generic": what needs one mounted volume and nothing that a service cannot have, and is quick. */
const tests =
  "002 005 006 007 008 011 014 023 024 025 028 035 070 080 087 088 092 126 236 245 246 248 249 257 258 285 308 309 313 315 360 420 436 437 443 445 448 469 490 528 532 533 568 609 637 639 676 706 708 728 729 736 755 763 786 787";

/** The service: everything at the first start; at the next, whether it is still there. */
const script = `#!/bin/bash
cd /test
state() { find kept -printf '%p %y %m %n %U %s %l\\n' | sort; find kept -type f -print0 | sort -z | xargs -0 sha256sum; getfattr -R -h -d -m 'user\\.' kept 2> /dev/null; }
if [ -e promised ]; then
  state > /tmp/now
  diff promised /tmp/now | head -20
  cmp -s promised /tmp/now && echo "found $(wc -l < promised) lines"
  find after | wc -l | sed 's/^/left /'
  rm -rf after && sync && echo "removed"
  exec sleep infinity
fi
mkdir fsx fstests kept after
# Clones and duplicates: seccomp refuses the calls, and fsx takes that for a fault.
for flags in "-S 1" "-S 2 -R -W" "-S 3 -f -l 1000000" "-S 4 -Z -R -W -r 4096 -w 4096 -t 4096"; do
  /xfstests/ltp/fsx -q -N 1500 -J -B $flags fsx/file > /tmp/said 2>&1 && echo "fsx passed $flags" || { echo "fsx failed $flags"; tail -5 /tmp/said; }
  rm -f fsx/*
done
/xfstests/ltp/fsstress -d /test/kept -s 1 -p 4 -n 600 > /tmp/said 2>&1 && echo "fsstress passed with $(find kept | wc -l) files" || { echo "fsstress failed"; tail -5 /tmp/said; }
/bin/bash /entry/fstests.sh 120 ${tests}
state > promised
sync
curl -sS --unix-socket /run/caisson.sock -X POST http://caisson/checkpoint > /tmp/said && grep -q generations /tmp/said && echo "promised $(wc -l < promised) lines" || echo "checkpoint failed $(cat /tmp/said)"
exec /xfstests/ltp/fsstress -d /test/after -s 2 -p 4 -l 0 -n 1000 > /dev/null 2>&1
`;

const compose = (image: string): string => `
services:
  tests:
    image: ${image}
    entrypoint: [/bin/bash, /entry/all.sh]
    x-caisson: { socket: true, layer: 256m }
    mem_limit: 768m
    pids_limit: 1024
    volumes: ["data:/test"]
volumes: { data: }
`;

const file = join(place, "disk");
const search = new GenerationSearch();
let disk: HostileDisk;

async function start(): Promise<ServiceMachine> {
  const changed = (options: VmOptions): VmOptions => ({ ...options, limitMs, volumes: [disk.url] });
  machine = await launchServices(place, 1536, { machine: changed });
  const ready = await machine.vm.event(({ kind }) => kind === "ready");
  ok(ready !== undefined, JSON.stringify(machine.vm.events.slice(-8)));
  search.keys = await volumeKeys(machine.state);
  return machine;
}

/** What the service has written once it has written such a line. One service of its own has no name on the console. */
async function linesUntil({ vm }: ServiceMachine, wanted: RegExp): Promise<string[]> {
  await vm.event((event) => event.kind === "app" && wanted.test(event.line));
  const lines = vm.events.flatMap((event) => (event.kind === "app" ? [event.line] : []));
  ok(
    lines.some((line) => wanted.test(line)),
    `the machine ended first:\n${lines.slice(-20).join("\n")}`,
  );
  return lines;
}

test("fsx, fsstress and fstests find nothing wrong, and what was promised outlives a kill", async (t) => {
  const source = process.env["CAISSON_FSTESTS_SOURCE"];
  if (source === undefined) return t.skip("CAISSON_FSTESTS_SOURCE names no clone of fstests' repository");
  const { layout, commit } = await fstestsImage(source, { "entry/all.sh": script });
  t.diagnostic(`fstests ${commit}`);
  writeSpec(place, "filesystem", compose(layout));
  appendFileSync(join(place, "caisson.yaml"), "\nvolumes:\n  data: { size: 2GiB }\n");
  writeFileSync(file, "");
  truncateSync(file, reservedSize + volumeSize);
  disk = await HostileDisk.watch(file, join(place, "disk.sock"), (at, bytes) => search.see(at, bytes));
  t.after(() => disk.close());
  const first = await start();
  const lines = await linesUntil(first, /^(?:promised|checkpoint failed) /);
  await sleep(20_000);
  first.vm.kill();
  await first.stop();
  deepEqual(lines.filter((line) => / failed /.test(line)), []); // biome-ignore format: one line
  for (const name of tests.split(" "))
    ok(
      lines.some((line) => line.startsWith(`fstests ${name} passed`)),
      name,
    );
  ok(Number(/^fsstress passed with (\d+) files$/m.exec(lines.join("\n"))?.[1]) > 100, "fsstress did nothing");
  const plain = join(place, "plain");
  decryptDisk(file, await volumeKeys(first.state), plain);
  match(await checkFileSystem(plain), /no error found/);
  rmSync(plain);
  const second = await start();
  const again = await linesUntil(second, /^removed/);
  equal(again[0], lines.at(-1)!.replace("promised", "found"), again.join("\n"));
  await second.stop();
  deepEqual(search.found, []);
  t.diagnostic(`${search.pairs} pairs of place and generation, each with one content`);
});
