// SPDX-License-Identifier: Apache-2.0
/**
 * The channel in a real machine, from outside: the very connection is verified, programs go through a door, and a page in
 * Chromium sends a form that nobody on the way can read, or refuses visibly.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { Agent, get } from "node:https";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { after, before, type TestContext, test } from "node:test";
import { carry } from "@caisson/cli/development-machine";
import { attestedFetch } from "@caisson/client";
import { openDoor, parsePlace } from "@caisson/client/connect";
import { startInterceptor } from "@caisson/client/testing/interceptor";
import { execFile as sessionFile } from "@caisson/machine/state";
import { type Collateral, readPolicy, readReferences } from "@caisson/verify";
import { type Browser, chromium, type Page } from "playwright-core";
import { makePage } from "../../examples/private-form/page/make.ts";

const repository = new URL("../../", import.meta.url).pathname;
const caisson = join(repository, "caisson");
const example = "examples/private-form";
const image = join(repository, example, "out/private-form-development");
const state = `${image}.state`;
const place = mkdtempSync(join(tmpdir(), "caisson-channel-"));
const canary = "the canary sings at dawn";

let url = "";
let stderr = "";
const child = spawn(caisson, ["up", example], { cwd: repository, stdio: ["ignore", "ignore", "pipe"] });
const status = once(child, "exit");
before(async () => {
  url = await new Promise<string>((resolve, reject) => {
    child.stderr.setEncoding("utf8").on("data", (piece: string) => {
      stderr += piece;
      const found = /private-form answers at (\S+)/.exec(stderr);
      if (found !== null) resolve(found[1]!);
    });
    child.once("exit", () => reject(new Error(stderr)));
  });
});
after(async () => {
  child.kill("SIGINT");
  await status;
  rmSync(place, { recursive: true, force: true });
});

const read = (name: string): unknown => JSON.parse(readFileSync(join(state, name), "utf8"));
const judgement = () => ({
  policy: readPolicy(read("policy.json")),
  references: readReferences(read("references.json"), "the prediction"),
  collateral: read("collateral/simulated.json") as Collateral,
});
const port = () => Number(new URL(url).port);

const run = (...args: string[]): Promise<{ code: number; out: string }> =>
  new Promise((resolve) => {
    execFile(caisson, args, { cwd: repository }, (error, stdout, said) => {
      resolve({ code: typeof error?.code === "number" ? error.code : 0, out: stdout + said });
    });
  });

test("caisson verify judges the very connection, and says where it ends", async () => {
  const direct = await run("verify", "--from", url, "--image", image);
  equal(direct.code, 0, direct.out);
  match(direct.out, /this connection ends in the guest.*--pinnedpubkey 'sha256\/\//s);
  const bound = await run("verify", "--from", url, "--image", image, "--bind", "session", "--json");
  equal(bound.code, 0, bound.out);
  match(bound.out, /"channel\/session-binding"/);
  const between = await startInterceptor(port());
  try {
    const relayed = await run("verify", "--from", between.url, "--image", image, "--bind", "session");
    equal(relayed.code, 10, relayed.out);
    match(relayed.out, /channel\/session/);
    const proxied = await run("verify", "--from", between.url, "--image", image);
    equal(proxied.code, 10, proxied.out);
    match(proxied.out, /channel\/tls-key/);
    match(proxied.out, /sealed to its key still reach it/);
  } finally {
    between.close();
  }
});

/** What the front answers, whoever its certificate is from. */
const answerOf = (path: string, agent?: Agent): Promise<string> =>
  new Promise((resolve, reject) => {
    const options = { rejectUnauthorized: false, ...(agent && { agent }) };
    get(new URL(path, url), options, (response) => {
      text(response).then(resolve, reject);
    }).once("error", reject);
  });

test("the front's evidence carries the platform's collateral: who brings none can judge it", async () => {
  const by = ["--policy", join(state, "policy.json"), "--image", join(state, "references.json")];
  const { code, out } = await run("verify", "--from", url, ...by);
  equal(code, 0, out);
  const { collateral: _, ...bringing } = judgement();
  equal((await attestedFetch(url, bringing)).status, 200);
  const answered = await answerOf(`/.well-known/caisson/evidence?nonce=${"5e".repeat(32)}`);
  const { evidence } = JSON.parse(answered) as { evidence: { collateral: Collateral } };
  deepEqual(evidence.collateral, read("collateral/simulated.json"));
  // A month later its collateral is as old as anybody's, and so is the release, which nobody can doubt.
  const late = ["--at", new Date(Date.now() + 40 * 24 * 3600 * 1000).toISOString()];
  const expired = await run("verify", "--from", url, ...by, ...late);
  equal(expired.code, 10);
  match(expired.out, /because chain\/expired, release\/expired/);
});

test("attestedFetch and a door reach the application, which sees how", async () => {
  const answer = await attestedFetch(url, judgement());
  deepEqual([answer.status, ((await answer.json()) as { channel: string }).channel], [200, "tls"]);
  const door = await openDoor(url, parsePlace("127.0.0.1:0"), { ...judgement(), ways: ["tunnel"] });
  try {
    const sent = await fetch(`${door.url}/form`, {
      method: "POST",
      body: JSON.stringify({ message: canary }),
    });
    match(await sent.text(), /The guest read 24 characters.*"channel":"tunnel"/);
  } finally {
    door.close();
  }
});

test("many verifiers at once are served from few quotes", async () => {
  const nonce = (i: number) => i.toString(16).padStart(64, "0");
  const agent = new Agent({ rejectUnauthorized: false, maxSockets: 16, keepAlive: true });
  const roots = await Promise.all(
    Array.from({ length: 32 }, async (_, i) => {
      const body = await answerOf(`/.well-known/caisson/evidence?nonce=${nonce(i)}`, agent);
      const { evidence } = JSON.parse(body) as {
        evidence: { reportData: { fields: { nonceRoot: string } } };
      };
      return evidence.reportData.fields.nonceRoot;
    }),
  );
  agent.destroy();
  // Sixteen at a time, since handshakes under emulation take longer than a quote; a thousand at once: server.test.ts.
  ok(new Set(roots).size <= 16, `${new Set(roots).size} quotes for 32 verifiers`);
});

test("the application's own port is closed from outside", async () => {
  // User networking forwards the front's port alone; a published port would stand here.
  const { ports } = JSON.parse(readFileSync(join(image, "manifest.json"), "utf8")).guest.app.services[
    "private-form"
  ];
  deepEqual(ports, []);
  await rejects(
    new Promise((resolve, reject) =>
      connect(8080, "127.0.0.1").once("connect", resolve).once("error", reject),
    ),
  );
});

const types: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
};

/** Serves a page for a guest, and opens it. Both end with the test, however it ends. */
async function openPage(
  t: TestContext,
  browser: Browser,
  guest: string,
  viewport = { width: 1280, height: 900 },
): Promise<Page> {
  const out = mkdtempSync(join(place, "page-"));
  await makePage(guest, state, out);
  const server = createServer((request, response) => {
    const name = request.url === "/" ? "index.html" : request.url!.slice(1);
    try {
      const content = readFileSync(join(out, name));
      response.setHeader("content-type", types[extname(name)] ?? "text/plain");
      response.end(content);
    } catch {
      response.statusCode = 404;
      response.end();
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport });
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  return page;
}

/** By locators: the page's policy lets nobody evaluate text, a test neither. */
const verdict = (page: Page) => page.getByText(/^(?:Accepted|Refused): /).waitFor({ timeout: 120_000 });
/** Pictures go where a person wants to look at them. */
const picture = (page: Page, name: string) => {
  const directory = process.env["CAISSON_PICTURES"];
  return directory === undefined
    ? undefined
    : page.screenshot({ path: join(directory, name), fullPage: true });
};

test("a page in Chromium, through a proxy that ends TLS and records everything", {
  timeout: 600_000,
}, async (t) => {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox"],
  });
  t.after(() => browser.close());
  const between = await startInterceptor(port());
  t.after(() => between.close());

  await t.test("the form reaches the guest, and the canary is nowhere in the record", async (t) => {
    const page = await openPage(t, browser, between.url);
    await verdict(page);
    match((await page.textContent("#verdict"))!, /^Accepted/);
    // With the keyboard alone.
    await page.focus("summary");
    await page.keyboard.press("Enter");
    await picture(page, "desktop-accepted.png");
    await page.focus("#message");
    await page.keyboard.type(canary);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByText(/^The guest read/).waitFor({ timeout: 60_000 });
    match((await page.textContent("#answer"))!, /The guest read 24 characters/);
    ok(between.record().includes("/.well-known/caisson/tunnel"), "it went through the proxy");
    equal(/canary|sings|dawn|guest read/.test(between.record()), false);
  });

  await t.test("on a phone: nothing is wider than the screen, and everything has a name", async (t) => {
    const page = await openPage(t, browser, between.url, { width: 390, height: 844 });
    await verdict(page);
    await page.click("summary");
    await picture(page, "phone-accepted.png");
    equal(await page.locator("html").evaluate((root) => root.scrollWidth <= window.innerWidth), true);
    for (const [role, name] of [
      ["textbox", "Message"],
      ["button", "Send to the machine"],
      ["button", "Check again"],
      ["heading", "A private form"],
      ["region", "All checks"],
    ] as const) {
      equal(await page.getByRole(role, { name }).count(), 1, `${role} ${name}`);
    }
  });

  await t.test("evidence, keys or answers that are replaced are refused, visibly", async (t) => {
    for (const [name, change] of [
      [
        "evidence",
        (text: string) =>
          text.includes("channel-evidence") ? text.replace(/"quote":"..../, '"quote":"AAAA') : undefined,
      ],
      [
        "keys",
        (text: string) =>
          text.includes("channel-evidence")
            ? text.replace(/("hpkeConfig":"000020)[0-9a-f]{64}/, `$1${"42".repeat(32)}`)
            : undefined,
      ],
    ] as const) {
      between.change = change;
      const page = await openPage(t, browser, between.url);
      await verdict(page);
      match((await page.textContent("#verdict"))!, /^Refused/, name);
      equal(await page.isVisible("#refusal"), true, name);
      equal(await page.isDisabled("#send"), true, name);
      await picture(page, `refused-${name}.png`);
    }
    between.change = () => undefined;
    const page = await openPage(t, browser, between.url, { width: 390, height: 844 });
    await verdict(page);
    between.change = (_, { url: path }) => (path?.endsWith("tunnel") ? '{"thanks":"trust me"}' : undefined);
    await page.fill("#message", canary);
    await page.click("#send");
    await page.waitForSelector("#failure:not([hidden])");
    match((await page.textContent("#failure"))!, /channel\/protocol/);
    equal(await page.textContent("#answer"), "");
    await picture(page, "phone-answer-refused.png");
    equal(/canary/.test(between.record()), false);
  });
});

/** Runs a script of Node's inside the front's sandbox, as its user and behind its filter (development machines alone). */
async function insideFront(script: string): Promise<{ status: number; out: string }> {
  const { port: door, token } = read(sessionFile) as { port: number; token: string };
  const socket = connect(door, "127.0.0.1");
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const out = text(stdout);
  const request = { token, service: "_front", arguments: ["/usr/bin/node", "-e", script] };
  try {
    return {
      status: await carry(socket, request, { stdin, stdout, stderr }),
      out: await (stdout.end(), out),
    };
  } finally {
    socket.destroy();
    stdin.destroy();
  }
}

test("inside the front nothing makes a file, starts a program, listens or signals; threads start", async () => {
  const { status, out } = await insideFront(`
    const fs = require("node:fs");
    const attempts = {
      makeFile: () => fs.writeFileSync("/dev/shm/x", "x"),
      makeRunFile: () => fs.openSync("/tmp/x", "wx"),
      write: () => fs.openSync("/dev/null", "w"),
      directory: () => fs.mkdirSync("/dev/shm/d"),
      program: () => { const { error } = require("node:child_process").spawnSync("/usr/bin/node", ["-v"]); if (error) throw error; },
      signal: () => process.kill(1, 0),
      priority: () => require("node:os").setPriority(1),
      become: () => process.setuid(0),
    };
    const said = Object.entries(attempts).map(([name, attempt]) => {
      try { attempt(); return [name, "done"]; } catch (error) { return [name, error.info?.code ?? error.code]; }
    });
    const { Worker } = require("node:worker_threads");
    const server = require("node:net").createServer();
    server.once("error", ({ code }) => said.push(["listen", code]));
    server.once("listening", () => said.push(["listen", "done"]));
    server.listen(0);
    new Worker("require('node:worker_threads').parentPort.postMessage(1)", { eval: true }).once("message", () => {
      said.push(["thread", "done"]);
      console.log(JSON.stringify(Object.fromEntries(said)));
      process.exit(0);
    });
  `);
  equal(status, 0, out);
  const { thread, ...refused } = JSON.parse(out) as Record<string, string>;
  equal(thread, "done");
  for (const [name, code] of Object.entries(refused)) equal(code, "ENOSYS", name);
  equal(Object.keys(refused).length, 9);
});

// The last: it ends the machine.
test("the front killed: the machine stops, with the reason", async () => {
  // The kernel kills all of a control group whose memory is used up.
  const filled = insideFront("const held = []; for (;;) held.push(Buffer.alloc(2 ** 25, 1));");
  await Promise.race([status, filled.catch(() => status)]);
  const limit = AbortSignal.timeout(60_000);
  const [code] = (await Promise.race([
    status,
    once(limit, "abort").then(() => {
      throw new Error(`the machine goes on: ${stderr}`);
    }),
  ])) as [number];
  match(stderr, /the front ended with status 137/);
  ok(code !== 0, "up says that it failed");
  await rejects(attestedFetch(url, judgement()));
});
