// SPDX-License-Identifier: Apache-2.0
/** The measure package in a browser: its bundle's size, and one vector computed in headless Chromium. */
import { equal, ok } from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { ACPI_TABLES, type PredictInput, predict } from "@caisson/measure";
import { acpiTables, firmware, kernel } from "@caisson/measure/testing/synthetic";
import { build } from "esbuild";

const chromium = "/usr/bin/chromium";
const LIMIT = 15_000;

async function bundle(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [new URL("../../packages/measure/src/index.ts", import.meta.url).pathname],
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2024",
    write: false,
  });
  return outputFiles[0]!.text;
}

test(`the browser bundle is at most ${LIMIT} bytes gzipped and names no module of Node`, async (t) => {
  const code = await bundle();
  const size = gzipSync(code, { level: 9 }).length;
  t.diagnostic(`${size} bytes gzipped, ${code.length} plain`);
  ok(size <= LIMIT, `${size} bytes`);
  equal(/from\s*"node:|require\(/.test(code), false);
});

test("Chromium predicts the same registers", async () => {
  const { chromium: browsers } = await import("playwright-core");
  const code = await bundle();
  const server = createServer((request, response) => {
    const script = request.url === "/measure.js";
    response.setHeader("content-type", script ? "text/javascript" : "text/html");
    response.end(script ? code : "<!doctype html><title>measure</title>");
  });
  // WebCrypto needs a secure context, which 127.0.0.1 is.
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const browser = await browsers.launch({ executablePath: chromium, args: ["--no-sandbox"] });
  try {
    const page = await browser.newPage();
    await page.goto(url);
    const input: PredictInput = {
      platform: "tdx",
      firmware: firmware(),
      firmwareRelease: "202502",
      boot: { method: "direct", kernel: kernel(), commandLine: "console=ttyS0" },
      memory: 2 ** 32,
      qemu: "8.2.2",
      acpi: { [ACPI_TABLES]: acpiTables() },
    };
    const plain = JSON.stringify(input, (_, value: unknown) =>
      value instanceof Uint8Array ? { bytes: Array.from(value) } : value,
    );
    const there = await page.evaluate(async (text) => {
      const revive = (_: string, value: { bytes?: number[] } | null) =>
        value?.bytes === undefined ? value : Uint8Array.from(value.bytes);
      const script = "/measure.js";
      const measure = (await import(script)) as { predict: (input: unknown) => Promise<unknown> };
      return JSON.stringify(await measure.predict(JSON.parse(text, revive)));
    }, plain);
    equal(there, JSON.stringify(await predict(input)));
  } finally {
    await browser.close();
    server.close();
  }
});
