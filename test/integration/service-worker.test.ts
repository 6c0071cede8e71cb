// SPDX-License-Identifier: Apache-2.0
/**
 * The Service Worker in Chromium: a page that knows nothing of guests asks its own fetch, and what leaves the browser is
 * sealed. Whoever ends TLS keeps a record, and changes what it likes.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { testGuest, testPlatform } from "@caisson/client/testing/guest";
import { type Change, startInterceptor } from "@caisson/client/testing/interceptor";
import { chromium, type Page } from "playwright-core";
import { browserBundle } from "../support/browser-bundle.ts";

const canary = "the canary sings at dawn";
const platform = testPlatform();

/** Answers with what it got; some of its paths lead elsewhere. */
const application: RequestListener = (request, response) => void answer(request, response);
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname } = new URL(request.url!, "https://guest");
  const moved = /^\/moved\/(\d+)$/.exec(pathname);
  if (moved !== null) return void response.writeHead(Number(moved[1]), { location: "/echo?moved" }).end();
  if (pathname === "/away") return void response.writeHead(307, { location: elsewhere }).end();
  const body = await text(request);
  response.setHeader("content-type", "application/json");
  const { method, url, headers } = request;
  response.end(JSON.stringify({ method, url, channel: headers["caisson-channel"], body, canary }));
}
let elsewhere = "";

/** The worker as a page's owner would build it: the policy is in it, and listeners are there in its first turn. */
const workerOf = (guest: string, policy: object): Promise<string> => {
  const { collateral, trust: anchor } = platform.judgement;
  const trust = { ...anchor, rootKey: anchor.rootKey.toHex() };
  return browserBundle(
    "client",
    `import { sealRequests } from "@caisson/client/service-worker";
     import { readPolicy } from "@caisson/client/browser";
     const { policy, collateral, trust } = ${JSON.stringify({ policy, collateral, trust })};
     const rootKey = Uint8Array.fromHex(trust.rootKey);
     sealRequests(self, ${JSON.stringify(guest)}, {
       policy: readPolicy(policy), collateral, trust: { ...trust, rootKey },
     });`,
  );
};

/** A page with a worker before a guest, behind somebody who ends TLS. */
async function start(t: TestContext) {
  const guest = await testGuest(platform, application);
  t.after(() => guest.close());
  const between = await startInterceptor(guest.port);
  t.after(() => between.close());
  const worker = await workerOf(between.url, platform.written);
  const made = { worker };
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url!);
    const isWorker = request.url === "/worker.js";
    response.setHeader("content-type", isWorker ? "text/javascript" : "text/html");
    response.setHeader("cache-control", "no-store");
    response.setHeader("access-control-allow-origin", "*");
    response.end(isWorker ? made.worker : "<!doctype html><title>A page</title>");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  // Another origin than the page's, by another name of the same machine.
  elsewhere = `http://localhost:${port}/elsewhere`;
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--ignore-certificate-errors"],
  });
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${port}/`);
  return { guest, between, page, asked, made };
}

/** Registers the worker, or updates it, and waits until the newest one has this page. */
const control = (page: Page): Promise<void> =>
  page.evaluate(async () => {
    const registration = await navigator.serviceWorker.register("/worker.js", { type: "module" });
    await registration.update();
    const newest = registration.installing ?? registration.waiting ?? registration.active!;
    while (newest.state !== "activated" || navigator.serviceWorker.controller !== newest) {
      if (newest.state === "redundant") throw new Error("the worker was not installed");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });

interface Got {
  status?: number;
  redirected?: boolean;
  body?: { method: string; url: string; channel?: string; body: string };
  error?: string;
}
/** What the page's own fetch gives. */
const ask = (
  page: Page,
  url: string | URL,
  init: { method?: string; body?: string; redirect?: "error" } = {},
): Promise<Got> =>
  page.evaluate(
    async ([to, how]) => {
      try {
        const answer = await fetch(to, how);
        const content = await answer.text();
        return { status: answer.status, redirected: answer.redirected, body: JSON.parse(content || "null") };
      } catch (error) {
        return { error: (error as Error).name };
      }
    },
    [String(url), init] as const,
  );

test("a page's own fetch reaches the guest sealed, with method, body and streams, and nothing of it is on the way", {
  timeout: 120_000,
}, async (t) => {
  const { between, page, asked } = await start(t);
  await control(page);
  const post = await ask(page, new URL("/form?q=canary", between.url), { method: "PUT", body: canary });
  deepEqual(post.body, { method: "PUT", url: "/form?q=canary", channel: "tunnel", body: canary, canary });
  const image = await page.evaluate(async (url) => {
    const answer = await fetch(new Request(url, { mode: "no-cors" }));
    return (await answer.text()).includes("canary");
  }, `${between.url}pixel?canary`);
  equal(image, true);
  // Its own origin's requests are not its business.
  await ask(page, "/other");
  ok(asked.includes("/other"));
  const record = between.record();
  ok(record.includes("/.well-known/caisson/tunnel"));
  equal(/canary|sings|\/form|pixel/.test(record), false);
});

test("where the guest leads elsewhere, nothing goes there in the clear", { timeout: 120_000 }, async (t) => {
  const { between, page, asked } = await start(t);
  await control(page);
  for (const status of [301, 302, 303, 307, 308]) {
    const got = await ask(page, new URL(`/moved/${status}`, between.url), { method: "POST", body: canary });
    const kept = status >= 307;
    deepEqual(
      [got.status, got.body?.channel, got.body?.method, got.body?.url, got.body?.body],
      [200, "tunnel", kept ? "POST" : "GET", "/echo?moved", kept ? canary : ""],
      `${status} ${got.error}`,
    );
  }
  for (const [path, how] of [
    ["/moved/302", { redirect: "error" }],
    ["/away", {}],
  ] as const) {
    const got = await ask(page, new URL(path, between.url), { method: "POST", body: canary, ...how });
    equal(got.error, "TypeError", path);
  }
  equal(asked.includes("/elsewhere"), false);
  equal(/moved|echo|canary/.test(between.record()), false);
});

test("evidence, keys or answers that are replaced: the page's request fails, and nothing was sent", {
  timeout: 180_000,
}, async (t) => {
  const { between, page, made } = await start(t);
  await page.evaluate(() => {
    navigator.serviceWorker.addEventListener("message", ({ data }) => {
      document.title = `${data.type} ${data.code}`;
    });
  });
  const genuine = made.worker;
  const replaced: [string, string, Change][] = [
    [
      "evidence",
      "channel/refused",
      (text) =>
        text.includes("channel-evidence") ? text.replace(/"quote":"..../, '"quote":"AAAA') : undefined,
    ],
    [
      "keys",
      "channel/refused",
      (text) =>
        text.includes("channel-evidence")
          ? text.replace(/("hpkeConfig":"000020)[0-9a-f]{64}/, `$1${"42".repeat(32)}`)
          : undefined,
    ],
    [
      "an answer",
      "channel/protocol",
      (_, { url }) => (url?.endsWith("tunnel") ? '{"thanks":"trust me"}' : undefined),
    ],
    [
      "an answer's end",
      "channel/protocol",
      (text, { url }) => (url?.endsWith("tunnel") ? text.slice(0, -20) : undefined),
    ],
  ];
  for (const [name, code, change] of replaced) {
    // Another worker, since this one remembers whom it accepted.
    made.worker = `${genuine}\n// ${name}`;
    between.change = change;
    await control(page);
    const got = await ask(page, new URL("/form?canary", between.url), { method: "POST", body: canary });
    equal(got.error, "TypeError", name);
    equal(got.body, undefined);
    equal(await page.title(), `caisson/refused ${code}`, name);
  }
  equal(/canary|sings/.test(between.record()), false);
  between.change = () => undefined;
  equal((await ask(page, new URL("/", between.url))).body?.channel, "tunnel");
});

test("an updated worker takes over at once, with its own policy; one that is broken changes nothing", {
  timeout: 120_000,
}, async (t) => {
  const { between, page, made } = await start(t);
  await control(page);
  equal((await ask(page, new URL("/", between.url))).body?.channel, "tunnel");
  const genuine = made.worker;
  made.worker = "this is not a worker";
  await page.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration();
    await registration!.update().catch(() => undefined);
  });
  equal((await ask(page, new URL("/", between.url))).body?.channel, "tunnel");
  const [reference] = platform.written.references;
  const other = [{ ...reference, mrtd: "b2".repeat(48) }];
  made.worker = await workerOf(between.url, { ...platform.written, references: other });
  await control(page);
  match((await ask(page, new URL("/", between.url))).error ?? "", /TypeError/);
  made.worker = genuine;
  await control(page);
  equal((await ask(page, new URL("/", between.url))).body?.channel, "tunnel");
});

test("a worker that the browser ended judges the guest again when it is needed", {
  timeout: 120_000,
}, async (t) => {
  const { guest, between, page } = await start(t);
  await control(page);
  const asked = async () => (await ask(page, new URL("/", between.url))).body?.channel;
  deepEqual([await asked(), await asked(), guest.quotes()], ["tunnel", "tunnel", 1]);
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("ServiceWorker.enable");
  await devtools.send("ServiceWorker.stopAllWorkers");
  deepEqual([await asked(), guest.quotes()], ["tunnel", 2]);
});

test("a page that the worker does not control sends in the clear; it can see that", {
  timeout: 120_000,
}, async (t) => {
  const { page } = await start(t);
  const isControlled = () => page.evaluate(() => navigator.serviceWorker.controller !== null);
  equal(await isControlled(), false);
  await control(page);
  equal(await isControlled(), true);
  const devtools = await page.context().newCDPSession(page);
  // What a reload past the caches is.
  await Promise.all([page.waitForEvent("load"), devtools.send("Page.reload", { ignoreCache: true })]);
  equal(await isControlled(), false);
});
