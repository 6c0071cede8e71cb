// SPDX-License-Identifier: Apache-2.0
/**
 * The browser's client, and its Service Worker, in other engines than Chromium's: sealed through whoever ends TLS, or
 * refused.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { testGuest, testPlatform } from "@caisson/client/testing/guest";
import { startInterceptor } from "@caisson/client/testing/interceptor";
import { browserBundle } from "../support/browser-bundle.ts";
import { type BrowserPage, startFirefox } from "../support/firefox.ts";
import { startWebKit } from "../support/webkit.ts";

const canary = "the canary sings at dawn";
const platform = testPlatform();

const application: RequestListener = (request, response) => {
  void text(request).then((body) => {
    const { method, url, headers } = request;
    response.end(JSON.stringify({ method, url, channel: headers["caisson-channel"], body }));
  });
};

/** What the policy's owner builds in: as JSON has it, and how a page reads it. */
const judgement = () => {
  const { collateral, trust } = platform.judgement;
  return JSON.stringify({
    policy: platform.written,
    collateral,
    trust: { ...trust, rootKey: trust.rootKey.toHex() },
  });
};
const reading = `const { policy, collateral, trust } = ${judgement()};
  const judged = { policy: readPolicy(policy), collateral, trust: { ...trust, rootKey: Uint8Array.fromHex(trust.rootKey) } };`;

for (const [name, start] of [
  ["Firefox", startFirefox],
  ["WebKit", startWebKit],
] as const) {
  test(
    `${name}: a page and a worker seal what they send, and refuse what is not the guest's`,
    {
      timeout: 600_000,
      skip: name === "WebKit" && process.getuid!() !== 0 && "its root of its own takes one who may mount",
    },
    (t) => inBrowser(t, start),
  );
}

async function inBrowser(t: TestContext, start: (t: TestContext) => Promise<BrowserPage>): Promise<void> {
  const guest = await testGuest(platform, application);
  t.after(() => guest.close());
  const between = await startInterceptor(guest.port);
  t.after(() => between.close());
  const [page, worker] = await Promise.all([
    browserBundle(
      "client",
      `import { GuestChannel, readPolicy } from "@caisson/client/browser";
       ${reading}
       window.channel = () => new GuestChannel(${JSON.stringify(between.url)}, judged);`,
    ),
    browserBundle(
      "client",
      `import { sealRequests } from "@caisson/client/service-worker";
       import { readPolicy } from "@caisson/client/browser";
       ${reading}
       sealRequests(self, ${JSON.stringify(between.url)}, judged);`,
    ),
  ]);
  const files: Record<string, string> = { "/page.js": page, "/worker.js": worker };
  const server = createServer(({ url }, response) => {
    const script = files[url!];
    response.setHeader("content-type", script === undefined ? "text/html" : "text/javascript");
    response.setHeader(
      "content-security-policy",
      "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src *",
    );
    response.end(
      script ?? '<!doctype html><title>A page</title><script type="module" src="/page.js"></script>',
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const browser = await start(t);
  t.diagnostic(browser.version);
  await browser.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);

  await t.test("the page's client: the guest reads the form, and nobody on the way", async () => {
    const got = await browser.evaluate(
      `channel().fetch("/form?q", { method: "POST", body: ${JSON.stringify(canary)} }).then((answer) => answer.json())`,
    );
    deepEqual(got, { method: "POST", url: "/form?q", channel: "tunnel", body: canary });
    ok(between.record().includes("/.well-known/caisson/tunnel"));
    equal(/canary|sings|\/form/.test(between.record()), false);
  });

  await t.test(
    "evidence and answers that are replaced are refused, and nothing of the form is sent",
    async () => {
      const attempt = `channel().fetch("/", { method: "POST", body: ${JSON.stringify(canary)} }).then(() => "sent", (error) => error.code)`;
      between.change = (answer) =>
        answer.includes("channel-evidence")
          ? answer.replace(/("hpkeConfig":"000020)[0-9a-f]{64}/, `$1${"42".repeat(32)}`)
          : undefined;
      match(String(await browser.evaluate(attempt)), /^channel\/(?:refused|protocol)$|^evidence\//);
      between.change = (_, { url }) => (url!.endsWith("tunnel") ? '{"thanks":"trust me"}' : undefined);
      equal(await browser.evaluate(attempt), "channel/protocol");
      between.change = () => undefined;
      equal(/canary/.test(between.record()), false);
    },
  );

  await t.test("a worker: the page's own fetch is sealed", async () => {
    await browser.evaluate(`navigator.serviceWorker.register("/worker.js").then(async () => {
      while (navigator.serviceWorker.controller === null) await new Promise((resolve) => setTimeout(resolve, 50));
    })`);
    const got = await browser.evaluate(
      `fetch(${JSON.stringify(`${between.url}form?w`)}, { method: "PUT", body: ${JSON.stringify(canary)} }).then((answer) => answer.json())`,
    );
    deepEqual(got, { method: "PUT", url: "/form?w", channel: "tunnel", body: canary });
    equal(/canary|\/form/.test(between.record()), false);
  });
}
