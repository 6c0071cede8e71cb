// SPDX-License-Identifier: Apache-2.0
/** The README's first command, as a user runs it. */
import { equal, match, ok, rejects } from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { before, test } from "node:test";
import { image } from "../support/image.ts";

const repository = new URL("../../", import.meta.url).pathname;

interface Document {
  image: string;
  stages: { stage: string; state: string }[];
  measured: { event: string }[];
  readySeconds: number;
  app: { url: string; status: number; body: string };
  verification: { verdict: string; codes: string[]; checks: { id: string; outcome: string }[] };
}

async function caisson(args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = spawn(join(repository, "caisson"), args, {
    cwd: repository,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const status = new Promise<number>((resolve) => {
    child.once("exit", (code) => resolve(code ?? -1));
  });
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: await status, stdout, stderr };
}

let first: Document;
before(async () => {
  await image();
  const { status, stdout, stderr } = await caisson(["up", "examples/hello", "--once", "--json"]);
  equal(status, 0, stderr);
  first = JSON.parse(stdout) as Document;
});

test("every stage ran, in order", () => {
  const stages = ["posture", "entropy", "identity", "time", "boundary", "keys", "app"];
  equal(first.stages.map(({ stage }) => stage).join(), stages.join());
  ok(first.stages.every(({ state }) => state === "done"));
});

test("every event was measured, in order", () => {
  equal(
    first.measured.map(({ event }) => event).join(),
    "system-preparing,app-id,compose-hash,instance-id,secure-time,boot-mr-done,key-provider,system-ready",
  );
});

test("the evidence is accepted from outside", () => {
  equal(first.verification.verdict, "accepted", first.verification.codes.join());
});

const said = () => JSON.parse(first.app.body) as Record<string, unknown>;

test("the application sees a sandbox: no capability, no new privileges, a filter, a read-only root, few devices", () => {
  equal(first.app.status, 200);
  const sandbox = said().sandbox as Record<string, unknown>;
  equal(sandbox.capabilities, "0000000000000000");
  equal(sandbox.noNewPrivileges, "1");
  equal(sandbox.seccomp, "2");
  equal(sandbox.rootIsWritable, false);
  ok((sandbox.user as number) > 0);
  const allowed =
    /^(console|core|fd|full|mqueue|null|ptmx|pts|random|shm|stderr|stdin|stdout|tty|urandom|zero)$/;
  const devices = (sandbox.devices as string[]).filter((name) => !allowed.test(name));
  equal(devices.join(), "");
});

test("the application's key is its own, and the same after a restart", async () => {
  match(String(said().publicKey), /^[0-9a-f]{64}$/);
  const { status, stdout, stderr } = await caisson(["up", "examples/hello", "--once", "--json"]);
  equal(status, 0, stderr);
  const again = JSON.parse((JSON.parse(stdout) as Document).app.body) as Record<string, unknown>;
  equal(again.publicKey, said().publicKey);
  equal(again.instanceId, said().instanceId);
});

test("a running machine is verified from outside, and Ctrl-C ends it cleanly", async () => {
  const child = spawn(join(repository, "caisson"), ["up", "examples/hello"], {
    cwd: repository,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once("exit", resolve);
  });
  let said = "";
  const url = await new Promise<string>((resolve, reject) => {
    child.stderr.on("data", (chunk) => {
      said += String(chunk);
      const found = /answers at (http:\S+)/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once("exit", () => reject(new Error(said)));
  });
  const accepted = await caisson(["verify", "--from", url, "--image", first.image, "--json"]);
  equal(accepted.status, 0, accepted.stdout);
  // A stranger has nothing but the kit.
  const kit = join(mkdtempSync(join(tmpdir(), "caisson-kit-")), "kit");
  const published = await caisson(["publish", first.image, "--out", kit]);
  equal(published.status, 0, published.stderr);
  const byKit = await caisson(["verify", "--from", url, "--kit", kit, "--json"]);
  equal(byKit.status, 0, byKit.stdout);
  match(byKit.stderr, /^judged by what the kit's publisher wrote:$/m);
  const otherImage = join(mkdtempSync(join(tmpdir(), "caisson-other-")), "references.json");
  writeFileSync(otherImage, JSON.stringify({ rtmr1: "00".repeat(48), rtmr2: "00".repeat(48) }));
  const state = `${first.image}.state`;
  const files = [
    "--policy",
    join(state, "policy.json"),
    "--collateral",
    join(state, "collateral", "simulated.json"),
  ];
  const rejected = await caisson(["verify", "--from", url, "--image", otherImage, ...files, "--json"]);
  equal(rejected.status, 10, rejected.stdout);

  child.kill("SIGINT");
  equal(await ended, 0, said);
  match(readFileSync(join(state, "console.log"), "utf8"), /the host pressed the power button/);
  await rejects(fetch(url));
});

test("nothing is left behind but the image, its state and its log", () => {
  const state = `${first.image}.state`;
  ok(existsSync(join(state, "console.log")));
  equal(statSync(join(state, "kms", "root-secret")).mode & 0o777, 0o600);
  const log = readFileSync(join(state, "console.log"), "latin1");
  ok(
    !/[0-9a-f]{128}/.test(log.replace(/"(digest|payload)":"[0-9a-f]*"/g, "")),
    "no long secret on the console",
  );
});

test("a production image refuses a machine without a TEE, and says why", async () => {
  const { attack } = await import("../support/hostile.ts");
  const { production } = await import("../support/image.ts");
  const ending = await attack({ machine: await production() });
  equal(ending.reason, "posture/no-tee", ending.message);
});
