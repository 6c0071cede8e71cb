// SPDX-License-Identifier: Apache-2.0
/** Building the kernel with the real source and toolchain: what stops a build before it costs minutes. */
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { appendFile, cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { flavours } from "@caisson/vocabulary/flavours";
import { buildKernels, cachedKernels, type KernelInputs } from "../../packages/image/src/build/kernel.ts";
import { cache, source, toolchain } from "../support/built.ts";

const repository = new URL("../../", import.meta.url).pathname;

/** Inputs with a copy of `kernel/` that the test may change. */
async function setUp(t: TestContext, ownCache: boolean): Promise<KernelInputs> {
  const place = await mkdtemp(join(tmpdir(), "caisson-kernel-"));
  t.after(() => rm(place, { recursive: true, force: true }));
  await cp(join(repository, "kernel"), join(place, "kernel"), { recursive: true });
  const directory = join(place, "kernel");
  return {
    toolchain,
    source,
    directory,
    cache: ownCache ? join(place, "cache") : cache,
    flavours,
    jobs: 1,
  };
}

interface Refusal {
  code: string;
  message: string;
  facts: [string, string][];
  fix: string;
}

test("a symbol that the kernel does not know, and one that it cannot leave out, are named", async (t) => {
  const inputs = await setUp(t, true);
  await appendFile(
    join(inputs.directory, "hardening.config"),
    "CONFIG_NO_SUCH_SYMBOL=y\n# CONFIG_HPET_TIMER is not set\n",
  );
  await rejects(buildKernels(inputs), (error: Refusal) => {
    equal(error.code, "kernel/dropped");
    match(error.message, /^2 symbols of the production kernel/);
    deepEqual(error.facts, [
      ["CONFIG_NO_SUCH_SYMBOL", "n, although the fragments ask for y"],
      ["CONFIG_HPET_TIMER", "y, although the fragments ask for n"],
    ]);
    return true;
  });
  const left = (await readdir(join(inputs.cache, "kernel"))).filter((name) => !name.endsWith(".log"));
  deepEqual(left, [], "nothing but the log is left");
});

test("an aborted build leaves neither entry nor lock nor scratch", async (t) => {
  const inputs = await setUp(t, true);
  const abort = new AbortController();
  const building = buildKernels({
    ...inputs,
    signal: abort.signal,
    onProgress: ({ step }) => step === "configure" && abort.abort(new Error("enough")),
  });
  await rejects(building, /enough/);
  const left = (await readdir(join(inputs.cache, "kernel"))).filter((name) => !name.endsWith(".log"));
  deepEqual(left, []);
});

test("a resolved configuration that is not the committed one is refused, with the symbols", async (t) => {
  const inputs = await setUp(t, false);
  inputs.flavours = [...(await cachedKernels(inputs)).keys()];
  equal(inputs.flavours.includes("development"), true);
  const file = join(inputs.directory, "resolved-development.config");
  await writeFile(
    file,
    (await readFile(file, "utf8")).replace("CONFIG_SMP=y\n", "# CONFIG_SMP is not set\n"),
  );
  await rejects(buildKernels(inputs), (error: Refusal) => {
    equal(error.code, "kernel/resolved");
    deepEqual(error.facts, [
      ["CONFIG_SMP", "y, committed n"],
      ["differing symbols", "1"],
    ]);
    match(error.fix, /cp \S+ kernel\/resolved-development\.config/);
    return true;
  });
});
