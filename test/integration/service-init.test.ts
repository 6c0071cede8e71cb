// SPDX-License-Identifier: Apache-2.0
/** The first process of services with `init`, as it is compiled for images, on this machine's kernel. */
import { equal, match } from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { parseElf } from "@caisson/image/elf";
import { buildStatic, namespaces } from "@caisson/image/toolchain";
import { toolchain } from "../support/toolchain.ts";

const source = new URL("../../packages/guest/service-init/init.c", import.meta.url).pathname;
const place = mkdtempSync(join(tmpdir(), "caisson-service-init-"));
/** Also where `/` is not a mount point. */
const spaces = await namespaces();
const init = join(place, "init");
before(() => buildStatic(toolchain, { source, out: init }));
after(() => rmSync(place, { recursive: true }));

/** Runs it as the first process of a process namespace, as crun does. */
async function run(...words: string[]): Promise<{ status: number | null; printed: string; said: string }> {
  const child = spawn(
    "unshare",
    [...spaces, "--pid", "--fork", "--kill-child", "--mount-proc", init, ...words],
    {
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  const [printed, said] = [text(child.stdout), text(child.stderr)];
  const [status] = (await once(child, "close")) as [number | null];
  return { status, printed: await printed, said: await said };
}
const shell = (script: string) => run("/bin/sh", "-c", script);

test("it ends as its command did", async () => {
  equal((await shell("exit 0")).status, 0);
  equal((await shell("exit 7")).status, 7);
  equal((await shell("kill -KILL $$")).status, 137);
  equal((await shell("kill -SEGV $$")).status, 139);
});

test("a program that is not there, or is none, is said, with the status that shells have for it", async () => {
  const missing = await run("/no/such/program");
  equal(missing.status, 127);
  match(missing.said, /\/no\/such\/program: No such file/);
  writeFileSync(join(place, "data"), "data");
  equal((await run(join(place, "data"))).status, 126);
  equal((await run()).status, 2);
});

test("what lost its parent is reaped, and its status is nobody's", async () => {
  const script =
    'for n in 1 2 3; do sh -c "(sleep 0.1; exit 5) &"; done; sleep 1; ls /proc > /dev/null; exit 4';
  equal((await shell(script)).status, 4);
});

test("each signal reaches the command, which decides", async (t) => {
  for (const [signal, number] of [
    ["TERM", 15],
    ["INT", 2],
    ["HUP", 1],
    ["USR1", 10],
    ["WINCH", 28],
  ] as const) {
    // biome-ignore format: one line
    const script = `trap 'exit ${number}' ${signal}; echo ready; while :; do sleep 0.05; done`;
    const child = spawn(init, ["/bin/sh", "-c", script], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill("SIGKILL"));
    await once(child.stdout, "data");
    child.kill(`SIG${signal}`);
    const [status] = (await once(child, "close")) as [number | null];
    equal(status, number, signal);
  }
});

test("it is static and hardened", () => {
  const bytes = readFileSync(init);
  const { pie, relro, stackProtected, needed, interpreter } = parseElf(bytes, init);
  equal([pie, relro, stackProtected, needed.length, interpreter].join(), "true,full,true,0,");
});
