// SPDX-License-Identifier: Apache-2.0
/** The verifier page in headless Chromium: examples, own files, keyboard, dark, phone; and it asks nobody. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { pathToFileURL } from "node:url";
import type { Session } from "@caisson/machine/session";
import { buildPage, examples } from "@caisson/page";
import { type Browser, chromium, type Page } from "playwright-core";
import { parse } from "yaml";
import { exampleOf, servePage } from "../../packages/cli/src/page-server.ts";
import { acceptableEvidence } from "../support/acceptable-evidence.ts";

const page = await buildPage();

async function open(
  t: TestContext,
  options: Parameters<Browser["newPage"]>[0] = {},
  html = page,
): Promise<{ tab: Page; asked: string[]; errors: string[]; place: string }> {
  const place = mkdtempSync(join(tmpdir(), "caisson-page-"));
  const file = join(place, "verifier.html");
  writeFileSync(file, html);
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  t.after(async () => {
    await browser.close();
    rmSync(place, { recursive: true });
  });
  const tab = await browser.newPage(options);
  const asked: string[] = [];
  const errors: string[] = [];
  tab.on("request", (request) => asked.push(request.url()));
  tab.on("pageerror", (error) => errors.push(error.message));
  tab.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await tab.goto(pathToFileURL(file).href);
  return { tab, asked, errors, place };
}

const verdict = (tab: Page) => tab.locator(".verdict").innerText();

test("examples: right ones accepted, forged ones not; registers down to the file; nobody is asked", {
  timeout: 120_000,
}, async (t) => {
  const { tab, asked, errors } = await open(t);
  const found: string[] = [];
  for (const button of await tab.locator("#examples button").all()) {
    await tab.locator("#result").evaluate((element) => element.replaceChildren());
    await button.click();
    await tab.waitForSelector(".verdict");
    found.push(`${await verdict(tab)} ${(await tab.locator("p.fail").allInnerTexts()).join()}`.trim());
    match(await tab.locator(".simulated").innerText(), /^SIMULATED/);
  }
  deepEqual(found, [
    "Accepted",
    "Rejected Because of quote/signature",
    "Accepted",
    "Rejected Because of snp/signature",
  ]);
  await tab.locator("#examples button").first().click();
  await tab.locator("#result summary", { hasText: "RTMR1" }).click();
  match(
    await tab.locator("details[open]", { hasText: "RTMR1" }).innerText(),
    /its events replay to it[\s\S]*kernel[\s\S]*from bzImage/,
  );
  deepEqual([asked.length, errors], [1, []], "the page itself, and no error");
});

test("evidence that is given to the page when it is built comes first; what no test root signed is not SIMULATED", {
  timeout: 120_000,
}, async (t) => {
  const [tdx] = await examples();
  const { trust: _, ...unnamed } = tdx!;
  const { tab, errors } = await open(t, {}, await buildPage([{ ...unnamed, name: "ours" }]));
  await tab.locator("#examples button", { hasText: "ours" }).click();
  await tab.waitForSelector(".verdict");
  equal(await verdict(tab), "Rejected");
  match((await tab.locator("p.fail").allInnerTexts()).join(), /chain\/untrusted-root/);
  equal(await tab.locator(".simulated").count(), 0);
  const top = await tab.evaluate(() => document.querySelector(".verdict")!.getBoundingClientRect().top);
  ok(top >= 0 && top < 400, `the verdict is in view: ${top}`);
  deepEqual(errors, []);
});

test("as up serves it: a machine's evidence over the session's nonce, judged under the root that its policy names", {
  timeout: 120_000,
}, async (t) => {
  const { document, nonce, policy, manifest, collateral, at } = await acceptableEvidence();
  const session = {
    evidence: async () => ({ bytes: new TextEncoder().encode(JSON.stringify(document)), nonce }),
    policy: parse(policy) as object,
    collateral,
  } as unknown as Session;
  const served = await servePage(async () =>
    buildPage([{ ...(await exampleOf(session, "hello", manifest.measurements.emulated[0]!)), at }]),
  );
  t.after(() => served.close());
  const { tab, asked, errors } = await open(t);
  asked.length = 0;
  await tab.goto(served.url);
  await tab.locator("#examples button", { hasText: "hello, as it runs here" }).click();
  await tab.waitForSelector(".verdict");
  equal(await verdict(tab), "Accepted");
  match(await tab.locator(".simulated").innerText(), /^SIMULATED/);
  deepEqual([asked, errors], [[served.url], []]);
});

test("own files are not judged under an example's root, and what is not evidence is said so", {
  timeout: 120_000,
}, async (t) => {
  const { tab, place, errors } = await open(t);
  const data = JSON.parse((await tab.locator("#examples-data").textContent())!) as {
    files: { name: string; text?: string; base64?: string }[];
  }[];
  const paths = data[2]!.files.map(({ name, text: whole, base64 = "" }) => {
    const path = join(place, name);
    writeFileSync(path, whole ?? Buffer.from(base64, "base64"));
    return path;
  });
  const text = join(place, "note.txt");
  writeFileSync(text, "hello");
  await tab.locator("#examples button").nth(2).click();
  await tab.waitForSelector(".verdict");
  equal(await verdict(tab), "Accepted");
  await tab.locator("#chooser").setInputFiles([...paths, text]);
  await tab.waitForFunction(() => document.querySelector(".simulated") === null);
  equal(await verdict(tab), "Rejected");
  match((await tab.locator("p.fail").allInnerTexts()).join(), /chain\/untrusted-root/);
  match(await tab.locator("#problems").innerText(), /note\.txt is neither/);
  await tab.locator("#clear").click();
  equal(await tab.locator(".verdict").count(), 0);
  deepEqual(errors, []);
});

test("by keyboard alone, on a phone, in the dark: nothing wider than the screen, contrast of the verdict", {
  timeout: 120_000,
}, async (t) => {
  const { tab } = await open(t, { viewport: { width: 360, height: 740 }, colorScheme: "dark" });
  for (let i = 0; i < 20; i++) {
    await tab.keyboard.press("Tab");
    if (await tab.evaluate(() => document.activeElement?.closest("#examples") !== null)) break;
  }
  await tab.keyboard.press("Enter");
  await tab.waitForSelector(".verdict");
  equal(await verdict(tab), "Accepted");
  equal(await tab.evaluate(() => document.activeElement?.id), "result");
  for (const summary of await tab.locator("#result summary").all()) await summary.click();
  const width = await tab.evaluate(() => document.documentElement.scrollWidth);
  ok(width <= 360, `${width} px`);
  const [text, back] = await tab.evaluate(() =>
    [
      getComputedStyle(document.querySelector(".verdict")!).color,
      getComputedStyle(document.body).backgroundColor,
    ].map((color) => color.match(/\d+/g)!.slice(0, 3).map(Number)),
  );
  const light = (rgb: number[]) =>
    rgb
      .map((value) => value / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
      .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i]!, 0);
  const [high, low] = [light(text!), light(back!)].sort((a, b) => b - a);
  ok((high! + 0.05) / (low! + 0.05) >= 4.5);
  ok(light(back!) < 0.05, "dark");
});
