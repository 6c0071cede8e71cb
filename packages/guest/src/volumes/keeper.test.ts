// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock, type TestContext, test } from "node:test";
import { identityKey } from "@caisson/protocol/ed25519";
import {
  type AnchorRequest,
  anchorMac,
  firstGeneration,
  type Ticket,
  ticketTranscript,
  volumeVersion,
} from "@caisson/protocol/volumes";
import { VolumeError } from "./errors.ts";
import { awayMs, Keeper } from "./keeper.ts";

const kms = identityKey(new Uint8Array(32).fill(7));
const anchorKey = new Uint8Array(32).fill(8);
const base = firstGeneration(3n);

function sign(request: AnchorRequest, change: Partial<Ticket> = {}): Ticket {
  const { volume, owner, seed, name, epoch, generation } = request;
  const ticket = {
    version: volumeVersion,
    volume,
    owner,
    seed,
    name,
    secretVersion: 1,
    epoch,
    anchor: generation,
    chain: "ee".repeat(32),
    ...change,
  } as const;
  return { ...ticket, signature: kms.sign(ticketTranscript(ticket)).toHex() };
}

/** A keeper of one volume, whose disk and KMS are a test's. */
function setUp(t: TestContext, kmsAway: "continue" | "freeze" = "continue") {
  const place = mkdtempSync(join(tmpdir(), "caisson-keeper-"));
  const device = join(place, "disk");
  writeFileSync(device, new Uint8Array(1 << 16));
  mock.timers.enable({ apis: ["setInterval"] });
  t.after(() => {
    mock.timers.reset();
    rmSync(place, { recursive: true });
  });
  const world = {
    now: 0,
    errors: 0,
    kernel: [] as string[],
    /** What the file system's running transaction has. */
    running: base + 1n,
    commits: 0,
    asked: [] as AnchorRequest[],
    answer: (request: AnchorRequest): unknown => sign(request),
    ended: [] as string[],
    notes: [] as string[],
    calls: [] as string[],
  };
  const keeper = new Keeper({
    syscalls: {
      btrfsCommit: async () => {
        world.commits++;
        world.running += 1n;
        return world.running;
      },
      btrfsErrors: () => world.errors,
      btrfsInfo: () => ({
        generation: world.running,
        fsid: new Uint8Array(16),
        nodeSize: 4096,
        checksumType: 2,
        devices: 1,
      }),
      freeze: () => void world.calls.push("freeze"),
      thaw: () => void world.calls.push("thaw"),
    },
    kernelLog: () => world.kernel.splice(0),
    post: async (_, body) => {
      const request = body as AnchorRequest;
      world.asked.push(request);
      return world.answer(request);
    },
    identity: kms.publicKey,
    volumes: [
      {
        released: {
          name: "data",
          grant: {
            owner: "0a".repeat(32),
            name: "data",
            volume: "ab".repeat(32),
            state: "live",
            secretVersion: 1,
            epoch: "3",
            anchor: String(base - 5n),
          },
          secret: new Uint8Array(32),
          anchorKey,
        },
        seed: "0b".repeat(20),
        mount: "/run/persistent/data",
        device,
        nextPlace: 0,
        kmsAway,
      },
    ],
    end: (error) => world.ended.push(error.code),
    note: (text) => world.notes.push(text),
    now: () => world.now,
  });
  const checks = t.mock.method(keeper, "check");
  /** Lets the periodic check run, and what follows from it. */
  const tick = async (ms = 5_000): Promise<void> => {
    world.now += ms;
    mock.timers.tick(5_000);
    await checks.mock.calls.at(-1)?.result;
  };
  return { world, keeper, tick };
}

const code = (wanted: string) => (error: unknown) => error instanceof VolumeError && error.code === wanted;

test("the first commit is anchored, authentic, before anything else", async (t) => {
  const { world, keeper } = setUp(t);
  await keeper.begin([base + 1n]);
  const [{ mac, ...request }] = world.asked as [AnchorRequest];
  equal(request.generation, String(base + 1n));
  equal(mac, anchorMac(anchorKey, request).toHex());
  equal(world.commits, 0);
});

test("a checkpoint commits and is acknowledged; who asks while one runs shares the next one", async (t) => {
  const { world, keeper } = setUp(t);
  await keeper.begin([base + 1n]);
  const [first, second, third] = [keeper.checkpoint(), keeper.checkpoint(), keeper.checkpoint()];
  deepEqual(await first, { data: String(base + 2n) });
  deepEqual([await second, await third], [{ data: String(base + 3n) }, { data: String(base + 3n) }]);
  equal(world.commits, 2);
});

for (const [what, change] of Object.entries({
  "of another generation": { anchor: "5" },
  "of another opening": { epoch: "2" },
  "of another volume": { volume: "cd".repeat(32) },
})) {
  test(`an answer ${what} acknowledges nothing`, async (t) => {
    const { world, keeper } = setUp(t);
    await keeper.begin([base + 1n]);
    world.answer = (request) => sign(request, change);
    await rejects(keeper.checkpoint(), code("volume/not-anchored"));
    deepEqual(world.ended, []);
  });
}

test("an answer that the measured KMS did not sign acknowledges nothing", async (t) => {
  const { world, keeper } = setUp(t);
  world.answer = (request) => ({ ...sign(request), signature: "00".repeat(64) });
  await rejects(keeper.begin([base + 1n]), code("volume/not-anchored"));
});

test("another opening fences: the checkpoint fails and the machine ends, once", async (t) => {
  const { world, keeper, tick } = setUp(t);
  await keeper.begin([base + 1n]);
  world.answer = () => ({ error: { code: "volume/fenced", message: "opened again" } });
  await rejects(keeper.checkpoint(), code("volume/fenced"));
  await tick();
  deepEqual(world.ended, ["volume/fenced"]);
});

test("what was written is anchored within a tick; where nothing was, the KMS is asked once a minute", async (t) => {
  const { world, keeper, tick } = setUp(t);
  await keeper.begin([base + 1n]);
  await tick();
  equal(world.asked.length, 1);
  world.running += 1n;
  await tick();
  equal(world.asked.length, 2);
  for (let i = 0; i < 11; i++) await tick();
  equal(world.asked.length, 2);
  await tick();
  equal(world.asked.length, 3);
});

test("an error that the kernel counts ends the machine", async (t) => {
  const { world, keeper, tick } = setUp(t);
  await keeper.begin([base + 1n]);
  world.errors = 1;
  await tick();
  deepEqual(world.ended, ["volume/read-error"]);
});

test("a wrong node, which the kernel says and does not count, ends the machine with its words", async (t) => {
  const { world, keeper, tick } = setUp(t);
  await keeper.begin([base + 1n]);
  world.kernel.push("6,811,5000000,-;BTRFS info (device dm-1): turning on async discard\n");
  await tick();
  deepEqual(world.ended, []);
  const said = "BTRFS error (device dm-1): bad fsid on logical 30408704 mirror 1";
  world.kernel.push(`3,812,5123456,-;${said}\n`);
  await tick();
  deepEqual(world.ended, ["volume/read-error"]);
});

test("continue: checkpoints fail while the KMS is away, and after ten minutes the machine ends", async (t) => {
  const { world, keeper, tick } = setUp(t);
  await keeper.begin([base + 1n]);
  world.answer = () => {
    throw new Error("ECONNREFUSED");
  };
  world.running += 1n;
  await tick();
  await rejects(keeper.checkpoint(), code("volume/not-anchored"));
  deepEqual([world.ended, world.calls], [[], []]);
  await tick(awayMs);
  deepEqual(world.ended, ["volume/not-anchored"]);
});

test("freeze: writers wait while the KMS is away, and go on when it has acknowledged", async (t) => {
  const { world, keeper, tick } = setUp(t, "freeze");
  await keeper.begin([base + 1n]);
  const { answer } = world;
  world.answer = () => {
    throw new Error("ECONNREFUSED");
  };
  world.running += 1n;
  await tick();
  await tick(awayMs);
  deepEqual([world.calls, world.ended], [["freeze"], []]);
  const commits = world.commits;
  await tick();
  equal(world.commits, commits, "a frozen file system was asked to commit");
  world.answer = answer;
  await tick();
  deepEqual(world.calls, ["freeze", "thaw"]);
  await keeper.close();
});
