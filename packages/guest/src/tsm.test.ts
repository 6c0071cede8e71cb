// SPDX-License-Identifier: Apache-2.0
/**
 * The adapter against plain files. What the kernel does at a report entry (its attributes appear with the directory, a
 * written `inblob` counts the generation up and makes an `outblob`) is done by the replaced calls of node:fs/promises;
 * the kernel itself is test/integration/kernel-emulation.test.ts's.
 */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { afterEach, beforeEach, mock, test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { tsmPlatform } from "./tsm.ts";

const scratch = temporaryDirectory("test");

let paths: { measurements: string; reports: string; bootLogs: { tdx: string; emulated: string } };
/** How this kernel answers. */
let kernel: { provider: string; steps: number; quote: (reportData: Uint8Array) => Uint8Array };

beforeEach(() => {
  const place = mkdtempSync(join(scratch, "machine-"));
  const [measurements, reports] = ["measurements", "reports"].map((name) => join(place, name)) as [
    string,
    string,
  ];
  mkdirSync(measurements);
  mkdirSync(reports);
  writeFileSync(join(measurements, "rtmr3:sha384"), new Uint8Array(48));
  paths = { measurements, reports, bootLogs: { tdx: join(place, "ccel"), emulated: join(place, "log") } };
  kernel = { provider: "tdx_guest", steps: 1, quote: (reportData) => reportData };
  const { writeFile, rm } = fs;
  mock.method(fs, "mkdir", async (entry: string) => {
    mkdirSync(entry);
    writeFileSync(join(entry, "provider"), `${kernel.provider}\n`);
    writeFileSync(join(entry, "generation"), "0\n");
  });
  mock.method(fs, "rmdir", (entry: string) => rm(entry, { recursive: true }));
  mock.method(fs, "writeFile", async (path: string, bytes: Uint8Array, options?: object) => {
    await writeFile(path, bytes, options);
    if (!path.endsWith("/inblob")) return;
    writeFileSync(join(path, "../generation"), `${kernel.steps}\n`);
    writeFileSync(join(path, "../outblob"), kernel.quote(bytes));
  });
  syncBuiltinESMExports();
});
afterEach(() => {
  mock.restoreAll();
  syncBuiltinESMExports();
});

const reportData = (fill: number) => new Uint8Array(64).fill(fill);

test("a quote for each report data, in the order of asking, and no entry left", async () => {
  const platform = tsmPlatform("test", paths);
  const quotes = await Promise.all([1, 2, 3].map((fill) => platform.quote(reportData(fill))));
  deepEqual(
    quotes.map((quote) => quote[0]),
    [1, 2, 3],
  );
  deepEqual(readdirSync(paths.reports), []);
});

const refusals: Record<string, { change: () => void; reason: string }> = {
  "another provider": { change: () => (kernel.provider = "sev_guest"), reason: "platform/provider" },
  "somebody else wrote to the entry": { change: () => (kernel.steps = 2), reason: "platform/generation" },
  "an empty quote": { change: () => (kernel.quote = () => new Uint8Array()), reason: "platform/quote-size" },
  "a quote that is too long": {
    change: () => (kernel.quote = () => new Uint8Array(65_537)),
    reason: "platform/quote-size",
  },
  "a kernel that gives none": {
    change: () => {
      kernel.quote = () => {
        throw new Error("EIO");
      };
    },
    reason: "platform/quote",
  },
};
for (const [what, { change, reason }] of Object.entries(refusals)) {
  test(`no quote: ${what}; the next one works`, async () => {
    const platform = tsmPlatform("test", paths);
    const usual = { ...kernel };
    change();
    await rejects(platform.quote(reportData(1)), { reason });
    kernel = usual;
    equal((await platform.quote(reportData(2)))[0], 2);
  });
}

test("a quote that takes too long is given up; the next one waits for the kernel", async (context) => {
  const platform = tsmPlatform("test", paths);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { readFile } = fs;
  let release = () => {};
  const stuck = new Promise<void>((resolve) => {
    release = resolve;
  });
  mock.method(fs, "readFile", async (path: string, options?: object) => {
    await stuck;
    return readFile(path, options);
  });
  syncBuiltinESMExports();
  const first = platform.quote(reportData(1));
  const given = rejects(first, { reason: "platform/quote-timeout" });
  context.mock.timers.tick(40_000);
  await given;
  const second = platform.quote(reportData(2));
  release();
  equal((await second)[0], 2);
});

test("an extension that the register does not show is a fault", async () => {
  // A plain file holds what was written, not SHA-384(old ‖ written).
  await rejects(tsmPlatform("test", paths).extend(new Uint8Array(48).fill(1)), { reason: "platform/extend" });
  equal(readFileSync(join(paths.measurements, "rtmr3:sha384"))[0], 1);
  truncateSync(join(paths.measurements, "rtmr3:sha384"), 47);
  await rejects(tsmPlatform("test", paths).extend(new Uint8Array(48)), { reason: "platform/register-size" });
});

/** A log of one bank (SHA-384) with one event (PC Client Platform Firmware Profile 1.06, section 10). */
function bootLog(data: string): Buffer {
  const u32 = (...values: number[]) => Buffer.from(Uint32Array.from(values).buffer);
  const specification = Buffer.concat([
    Buffer.from("Spec ID Event03\0"),
    u32(0, 0x02000200, 1),
    Buffer.of(0x0c, 0, 48, 0, 0),
  ]);
  const header = Buffer.concat([u32(0, 3), Buffer.alloc(20), u32(specification.length), specification]);
  const digests = Buffer.concat([u32(1), Buffer.of(0x0c, 0), Buffer.alloc(48, 1)]);
  return Buffer.concat([header, u32(1, 4), digests, u32(data.length), Buffer.from(data)]);
}

/** Whether the platform gives this log, and no byte more. */
const gives = async (log: Buffer) => Buffer.from(await tsmPlatform("test", paths).bootLog()).equals(log);

test("the boot log is the CCEL where there is one, else the TPM's, and at most 1 MiB", async () => {
  writeFileSync(paths.bootLogs.emulated, bootLog("tpm"));
  ok(await gives(bootLog("tpm")));
  writeFileSync(paths.bootLogs.tdx, bootLog("ccel"));
  truncateSync(paths.bootLogs.tdx, 2 ** 20);
  ok(await gives(bootLog("ccel")));
  for (const size of [0, 2 ** 20 + 1, 2 ** 40]) {
    truncateSync(paths.bootLogs.tdx, size);
    await rejects(tsmPlatform("test", paths).bootLog(), { reason: "platform/boot-log" }, `${size} bytes`);
  }
});

test("a CCEL that shows other memory of the guest: nothing of it leaves", async () => {
  const secret = Buffer.alloc(4096, "secret ");
  writeFileSync(paths.bootLogs.tdx, secret);
  await rejects(tsmPlatform("test", paths).bootLog(), { reason: "platform/boot-log" });
  for (const padding of [Buffer.alloc(12), Buffer.alloc(4, 0xff)]) {
    writeFileSync(paths.bootLogs.tdx, Buffer.concat([bootLog("log"), padding, secret]));
    ok(await gives(bootLog("log")));
  }
});
