// SPDX-License-Identifier: Apache-2.0
/**
 * A host against a persistent volume, with the real stack: what it can keep, put back, mix and withhold. The tests are
 * one story, each beginning where the one before ended; how the crash fork bites without unique epochs, and what takes
 * longer, is in test/nightly.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs"; // biome-ignore format: one line
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { audit, collectImage, fetchLiveReport, readReport } from "@caisson/audit";
import { judgeFresh } from "@caisson/machine/relying-party";
import { reservedSize } from "@caisson/protocol/volumes";
import { readPolicy, readReferences } from "@caisson/verify";
import { generationOf, nodes, readSealed, volumeKeys, writeSealed } from "../support/volume-disk.ts";
import { ask, counterImage, VolumeHost } from "../support/volume-host.ts";

let host: VolumeHost;
before(async () => {
  host = new VolumeHost(await counterImage(join(mkdtempSync(join(tmpdir(), "caisson-counter-")), "counter")));
});
after(() => host.remove());

test("a new volume is made, counts, and loses nothing that was promised when QEMU is killed", async () => {
  const boot = await host.boot();
  equal(boot.reason, "ready", boot.message);
  deepEqual(((await ask(boot, "POST", "increment")) as { count: number }).count, 1);
  await ask(boot, "POST", "write?name=balance", "100");
  await ask(boot, "POST", "increment");
  await host.pull(boot);
  host.keep("disk", "early");
});

test("it is opened again as it was; what a host copies while it runs is not a state to go back to", async () => {
  const boot = await host.boot();
  equal(boot.reason, "ready", boot.message);
  deepEqual(await ask(boot, "GET", ""), { count: 2 });
  // Branch A: the host holds anchors back, so that nothing forbids to go back behind it.
  host.anchors = false;
  host.keep("disk", "base");
  await ask(boot, "POST", "write?name=balance", "999");
  await rejects(ask(boot, "POST", "increment"), /KMS/, "a checkpoint without the KMS is none");
  await host.pull(boot);
  host.anchors = true;
  host.keep("disk", "a");
});

test("crash fork: nodes of the abandoned branch fit nowhere, and none of them is ever shown", async () => {
  host.putBack("disk", "base");
  const boot = await host.boot();
  equal(boot.reason, "ready", boot.message);
  equal(await ask(boot, "GET", "read?name=balance"), 100);
  await ask(boot, "POST", "write?name=balance", "5");
  await ask(boot, "POST", "increment");
  await host.pull(boot);
  host.keep("disk", "b");

  const keys = await volumeKeys(host.state);
  const [a, b] = [nodes(host.kept("a"), keys), nodes(host.kept("b"), keys)];
  const key = ({ at, generation }: { at: number; generation: bigint }) => `${at} ${generation}`;
  const inB = new Map(b.map((node) => [key(node), node.content]));
  const collisions = a.filter((node) => inB.has(key(node)) && inB.get(key(node)) !== node.content);
  deepEqual(collisions, [], "two contents at one place and generation");

  // Every node of A that lies where B has one of the same tree and level.
  const fitting = a.filter((one) =>
    b.some(
      (other) =>
        other.at === one.at &&
        other.owner === one.owner &&
        other.level === one.level &&
        other.content !== one.content,
    ),
  );
  ok(fitting.length > 0, "nothing to exchange: the test shows nothing");
  for (const { at } of fitting) writeSealed(host.disk, at, readSealed(host.kept("a"), at));
  const mixed = await host.boot();
  if (mixed.reason !== "ready") return match(mixed.reason, /^volume\/(?:damaged|read-error)$/, mixed.message);
  // None of them was one that the file system still needs.
  deepEqual([await ask(mixed, "GET", "read?name=balance"), await ask(mixed, "GET", "")], [5, { count: 3 }]);
  await host.pull(mixed);
  // That opening was anchored, and what was kept before it is older now.
  host.keep("disk", "b");
});

test("whole rollback: a disk from before the last checkpoint is refused", async () => {
  host.putBack("disk", "early");
  const boot = await host.boot();
  equal(boot.reason, "volume/stale", boot.message);
});

test("a disk of random bytes, a blank one and one that is too short are refused, and nothing is made on them", async () => {
  const { size } = statSync(host.disk);
  const noise = randomBytes(1 << 20);
  for (let at = 0; at < size; at += noise.length)
    writeFileSync(host.disk, noise, { flag: at === 0 ? "w" : "a" });
  const random = await host.boot();
  equal(random.reason, "volume/damaged", random.message);
  const bytes = readFileSync(host.disk);
  for (let at = 0; at < size; at += noise.length)
    ok(bytes.subarray(at, at + noise.length).equals(noise), `written at ${at}`);

  const file = openSync(host.disk, "w");
  ftruncateSync(file, size);
  closeSync(file);
  const blank = await host.boot();
  equal(blank.reason, "volume/damaged", blank.message);
  ok(
    readFileSync(host.disk).every((byte) => byte === 0),
    "something was written to it",
  );

  host.putBack("disk", "b");
  const short = openSync(host.disk, "r+");
  ftruncateSync(short, reservedSize + (size - reservedSize) / 2);
  closeSync(short);
  // The host makes it as long as it is wanted again, so it is shortened when the machine starts.
  const boot = await host.boot({
    machine: (options) => {
      const cut = openSync(host.disk, "r+");
      ftruncateSync(cut, reservedSize + (size - reservedSize) / 2);
      closeSync(cut);
      return options;
    },
  });
  equal(boot.reason, "volume/too-small", boot.message);
});

test("two guests on copies of one disk: the older one's checkpoint is refused, and it ends", async () => {
  host.putBack("disk", "b");
  const first = await host.boot();
  equal(first.reason, "ready", first.message);
  const copy = host.kept("copy");
  host.anchors = false;
  host.keep("disk", "copy");
  // Another state directory, whose KMS has the same files: two of its processes.
  const other = new VolumeHost(host.built);
  mkdirSync(other.state, { mode: 0o700 });
  for (const name of ["kms", "instance-seed", "volume-owner"]) {
    symlinkSync(join(host.state, name), join(other.state, name));
  }
  const second = await other.boot({ machine: (options) => ({ ...options, volumes: [copy] }) });
  equal(second.reason, "ready", second.message);
  deepEqual(((await ask(second, "POST", "increment")) as { count: number }).count, 4);
  host.anchors = true;
  await ask(first, "POST", "increment").catch(() => undefined);
  const stopping = await first.session.vm.event(({ kind }) => kind === "stopping");
  equal(stopping?.kind === "stopping" && stopping.reason, "volume/fenced");
  await first.session.stop();
  await other.pull(second);
  await other.remove();
  writeFileSync(host.disk, readFileSync(copy));
});

test("the volume survives all of that, and an audit of the machine sees it", async () => {
  const before = generationOf(host.disk, await volumeKeys(host.state));
  const boot = await host.boot();
  equal(boot.reason, "ready", boot.message);
  deepEqual(await ask(boot, "GET", ""), { count: 4 });
  const { session } = boot;
  const report = await judgeFresh(await session.evidence(), {
    policy: readPolicy(session.policy),
    references: readReferences(session.references, "references"),
    collateral: session.collateral,
    now: new Date(),
  });
  const live = await fetchLiveReport(session.url!);
  const facts = { static: await collectImage(host.built.directory), live, remote: readReport(report) };
  const { failedRequired, rows } = audit(facts, [], new Date());
  const failed = rows.filter(({ control: { id } }) => failedRequired.includes(id));
  deepEqual(
    failed.map(({ control: { id }, results }) => [
      id,
      ...results.flatMap(({ kind, status, details }) => (status === "fail" ? [kind, ...details] : [])),
    ]),
    [],
  );
  const volumes = live.mounts.filter(({ type }) => type === "btrfs");
  ok(volumes.length >= 1 && volumes.every(({ options }) => options.includes("notreelog")));
  const results = (id: string) => rows.find(({ control }) => control.id === id)!.results;
  for (const id of ["V15", "V16"])
    deepEqual(
      results(id).filter(({ status }) => status !== "pass" && status !== "not-applicable"),
      [],
      id,
    );
  await session.stop();
  ok(generationOf(host.disk, await volumeKeys(host.state)) > before);
});
