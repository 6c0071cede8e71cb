// SPDX-License-Identifier: Apache-2.0
/**
 * The page of examples/private-form in Chromium, before a front without a machine: what it says when, and what it lets
 * send.
 */
import { equal, match } from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { testGuest, testPlatform } from "@caisson/client/testing/guest";
import { type Change, startInterceptor } from "@caisson/client/testing/interceptor";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { chromium, type Page } from "playwright-core";
import { makePage } from "../../examples/private-form/page/make.ts";

const platform = testPlatform();
const types: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
};

/** The root of a test's platform counts only where a policy of the emulated one names it. */
const asEmulated: Change = (answer) =>
  answer.includes("channel-evidence")
    ? answer.replace('"platform":"tdx"', '"platform":"emulated"')
    : undefined;
const altered: Change = (answer) =>
  answer.includes("channel-evidence") ? answer.replace(/"quote":"..../, '"quote":"AAAA') : undefined;

/** A guest behind somebody who ends TLS, and the page for it. All of it ends with the test. */
async function open(t: TestContext, change: object = {}) {
  const guest = await testGuest(platform, (request, response) => {
    void text(request).then((body) =>
      response.end(JSON.stringify({ thanks: `The guest read ${body.length}.` })),
    );
  });
  t.after(() => guest.close());
  const between = await startInterceptor(guest.port, asEmulated);
  t.after(() => between.close());
  const place = temporaryDirectory("page", t);
  const { references, ...rules } = platform.written;
  const simulatedRoot = platform.judgement.trust.rootKey.toHex();
  mkdirSync(join(place, "state/collateral"), { recursive: true });
  for (const [name, content] of Object.entries({
    "policy.json": { ...rules, platforms: ["emulated"], simulatedRoot, ...change },
    "references.json": references[0],
    "collateral/simulated.json": platform.judgement.collateral,
  })) {
    writeFileSync(join(place, "state", name), JSON.stringify(content));
  }
  await makePage(between.url, join(place, "state"), place);
  const server = createServer(({ url }, response) => {
    const name = url === "/" ? "index.html" : url!.slice(1);
    response.setHeader("content-type", types[extname(name)] ?? "text/plain");
    response.end(types[extname(name)] === undefined ? "" : readFileSync(join(place, name)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox"],
  });
  t.after(() => browser.close());
  const page = await browser.newPage({ ignoreHTTPSErrors: true });
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  return { between, page };
}

const verdict = async (page: Page, start: "Accepted" | "Refused") =>
  page.getByText(new RegExp(`^${start}: `)).waitFor({ timeout: 20_000 });

async function fillAndSend(page: Page): Promise<void> {
  await page.fill("#message", "a message");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
}

test("with the keyboard alone: it is sent, answered, and the button keeps the keyboard", {
  timeout: 60_000,
}, async (t) => {
  const { page } = await open(t);
  await verdict(page, "Accepted");
  await fillAndSend(page);
  await page.getByText("The guest read 23.").waitFor();
  await page.locator("#send:focus").waitFor({ timeout: 5_000 });
});

test("a page that was made wrongly says so, and does not check for ever", { timeout: 60_000 }, async (t) => {
  const { page } = await open(t, { platforms: ["unheard of"] });
  await verdict(page, "Refused");
  match((await page.textContent("#refusal"))!, /policy\/malformed/);
  equal(await page.isDisabled("#send"), true);
});

test("a hostile answer fails; checked again and refused, nothing of before stays, and nothing can be sent", {
  timeout: 60_000,
}, async (t) => {
  const { page, between } = await open(t);
  await verdict(page, "Accepted");
  between.change = (answer, request) =>
    request.url!.endsWith("tunnel") ? "thanks" : asEmulated(answer, request);
  await fillAndSend(page);
  await page.locator("#failure:not([hidden])").waitFor();
  match((await page.textContent("#failure"))!, /channel\/protocol/);
  equal(await page.textContent("#answer"), "");
  between.change = altered;
  await page.click("#again");
  await verdict(page, "Refused");
  equal(await page.isVisible("#failure"), false);
  equal(await page.isDisabled("#send"), true);
  equal(between.record().includes("a message"), false);
  await page.click("summary");
  const left = await page.locator("#open li").allTextContents();
  equal(left.filter((line) => line.includes("an earlier check failed")).length, 1);
});

test("a slow check that was overtaken says nothing any more", { timeout: 60_000 }, async (t) => {
  const { page, between } = await open(t);
  await verdict(page, "Accepted");
  // The first of two gets the evidence of the guest, but late; the second gets a stranger's at once.
  let held: (() => Promise<void>) | undefined;
  await page.route("**/.well-known/caisson/evidence?*", async (route) => {
    if (held !== undefined) return route.continue();
    held = () => route.continue();
  });
  await page.click("#again");
  await page.waitForTimeout(300);
  between.change = altered;
  await page.click("#again");
  await verdict(page, "Refused");
  between.change = asEmulated;
  await held!();
  await page.waitForTimeout(1_000);
  match((await page.textContent("#verdict"))!, /^Refused/);
  equal(await page.isDisabled("#send"), true);
});
