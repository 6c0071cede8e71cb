// SPDX-License-Identifier: Apache-2.0
/**
 * A persistent volume while its KMS is not what it was: a copied request, a KMS that is away (writers wait, or the machine
 * goes on for ten minutes), one that was lost and restored from its backup by the commands of docs/volumes.md.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { keyReleasePaths } from "@caisson/protocol/key-release";
import { manInTheMiddle } from "../support/between.ts";
import { ask, counterImage, type Outcome, VolumeHost } from "../support/volume-host.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-volume-kms-"));
let host: VolumeHost;
before(async () => {
  host = new VolumeHost(
    await counterImage(join(place, "freeze"), { "kms_away: continue": "kms_away: freeze" }),
  );
});
after(async () => {
  await host?.remove();
  rmSync(place, { recursive: true });
});

const caisson = new URL("../../caisson", import.meta.url).pathname;
const kms = (...args: string[]): string =>
  execFileSync(caisson, ["kms", ...args, "--data", join(host.state, "kms")], { encoding: "utf8" });

interface Shown {
  volume: string;
  suspect: boolean;
  epoch: string;
  anchor: string;
}
const volume = (): Shown => (JSON.parse(kms("volume", "list", "--json")) as { volumes: Shown[] }).volumes[0]!;

const noted = ({ session }: Outcome, text: RegExp) =>
  session.vm.event((event) => event.kind === "note" && text.test(event.text));

test("a request that the host sends again opens nothing and fences nobody", async () => {
  const codes: string[] = [];
  let sent: object = {};
  const boot = await host.boot({
    kms: async (url) => {
      const again = async () => {
        const response = await fetch(new URL(keyReleasePaths.release, url), {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(sent),
        });
        codes.push(((await response.json()) as { code: string }).code);
      };
      return manInTheMiddle(url, {
        request: (path, body) => {
          if (path === keyReleasePaths.release) sent = body;
          return body;
        },
        answer: (path, body) => {
          if (path === keyReleasePaths.release) void again();
          return body;
        },
      });
    },
  });
  equal(boot.reason, "ready", boot.message);
  deepEqual(codes, ["nonce/used"]);
  await ask(boot, "POST", "increment");
  equal(volume().epoch, "1");
  await boot.session.stop();
});

test("with kms_away: freeze, writers wait for the KMS, and go on when it answers", async () => {
  const boot = await host.boot();
  equal(boot.reason, "ready", boot.message);
  host.anchors = false;
  await ask(boot, "POST", "write?name=before", "written while it was away");
  ok(await noted(boot, /writers of 'data' wait/));
  let written = false;
  const waiting = ask(boot, "POST", "write?name=after", "written when it was back").then(() => {
    written = true;
  });
  await sleep(8_000);
  equal(written, false, "a write went through");
  host.anchors = true;
  ok(await noted(boot, /the KMS answers again/));
  await waiting;
  equal(await ask(boot, "GET", "read?name=before"), "written while it was away");
  deepEqual(((await ask(boot, "POST", "increment")) as { count: number }).count, 2);
  await host.pull(boot);
});

test("a KMS that was lost is restored from its backup: the disk tells it where it was, and an operator allows", async () => {
  const [passphrase, backup] = [join(place, "passphrase"), join(place, "backup.json")];
  writeFileSync(passphrase, "correct horse battery staple of volumes\n");
  kms("backup", "--passphrase-file", passphrase, "--output", backup);
  host.keep("disk", "early");
  const boot = await host.boot();
  deepEqual(((await ask(boot, "POST", "increment")) as { count: number }).count, 3);
  await boot.session.stop();
  const known = volume();

  rmSync(join(host.state, "kms"), { recursive: true });
  kms("restore", backup, "--passphrase-file", passphrase);
  const refused = await host.boot();
  equal(refused.reason, "keys/denied/volume/suspect", refused.message);
  const found = volume();
  deepEqual([found.volume, found.suspect, found.anchor], [known.volume, true, known.anchor]);
  ok(BigInt(found.epoch) > BigInt(known.epoch));
  kms("volume", "allow", found.volume.slice(0, 12));

  host.keep("disk", "newest");
  host.putBack("disk", "early");
  const stale = await host.boot();
  equal(stale.reason, "volume/stale", stale.message);
  host.putBack("disk", "newest");
  const again = await host.boot();
  equal(again.reason, "ready", again.message);
  deepEqual(await ask(again, "GET", ""), { count: 3 });
  await again.session.stop();
});

test("with kms_away: continue, the machine goes on without promises for ten minutes, and then ends", async () => {
  const built = await counterImage(join(place, "continue"));
  const away = new VolumeHost(built);
  try {
    const boot = await away.boot({ machine: (options) => ({ ...options, limitMs: 1_500_000 }) });
    equal(boot.reason, "ready", boot.message);
    const begun = performance.now();
    away.anchors = false;
    await ask(boot, "POST", "write?name=one", "goes on");
    await rejects(ask(boot, "POST", "increment"), /KMS/);
    await sleep(300_000);
    equal(await ask(boot, "GET", "read?name=one"), "goes on");
    const stopping = await boot.session.vm.event(({ kind }) => kind === "stopping");
    match(stopping?.kind === "stopping" ? stopping.reason : "", /^volume\/not-anchored$/);
    const minutes = (performance.now() - begun) / 60_000;
    ok(minutes > 9 && minutes < 15, `it ended after ${minutes} minutes`);
    await boot.session.stop();
  } finally {
    await away.remove();
  }
});
