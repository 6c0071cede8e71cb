// SPDX-License-Identifier: Apache-2.0
/** Firefox without a window, driven by WebDriver BiDi (W3C): for what has to be seen in another engine than Chromium's. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { unpackDebian } from "./debian.ts";

const commandMs = 60_000;

/** Chromium's tests have no profile of a person either: no start page, no updates, no reports. */
const preferences = {
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.page": 0,
  "datareporting.policy.dataSubmissionEnabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "toolkit.telemetry.enabled": false,
};

interface Answer {
  id?: number;
  type: "success" | "error" | "event";
  result?: unknown;
  error?: string;
  message?: string;
}

/** A browser with one page. */
export interface BrowserPage {
  version: string;
  goto(url: string): Promise<void>;
  /** The value of an expression, awaited, as JSON has it. Throws what it throws. */
  evaluate(expression: string): Promise<unknown>;
}

/** This machine's own suite, whose C library the browser then finds. */
const suite = (): string =>
  /^VERSION_CODENAME=(\S+)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "";

/** Starts Debian's Firefox, unpacked and not installed; browser and profile end with the test. */
export async function startFirefox(t: TestContext): Promise<BrowserPage> {
  const { root } = await unpackDebian(suite(), ["firefox-esr"], { dependencies: true });
  const profile = mkdtempSync(join(tmpdir(), "caisson-firefox-"));
  const lines = Object.entries(preferences).map(([name, value]) => `user_pref("${name}", ${value});\n`);
  writeFileSync(join(profile, "user.js"), lines.join(""));
  const child = spawn(
    join(root, "usr/lib/firefox-esr/firefox-esr"),
    ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"],
    {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        HOME: profile,
        LD_LIBRARY_PATH: join(root, "usr/lib/x86_64-linux-gnu"),
        MOZ_DISABLE_CONTENT_SANDBOX: "1",
      },
    },
  );
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill();
      await once(child, "exit");
    }
    rmSync(profile, { recursive: true, force: true });
  });
  const socket = new WebSocket(`${await addressOf(child)}/session`);
  await once(socket, "open");
  t.after(() => socket.close());
  const send = commands(socket);
  const { capabilities } = (await send("session.new", {
    capabilities: { alwaysMatch: { acceptInsecureCerts: true } },
  })) as { capabilities: { browserVersion: string } };
  const { contexts } = (await send("browsingContext.getTree", {})) as { contexts: { context: string }[] };
  const { context } = contexts[0]!;
  return {
    version: `Firefox ${capabilities.browserVersion}`,
    goto: async (url) => void (await send("browsingContext.navigate", { context, url, wait: "complete" })),
    async evaluate(expression) {
      const answer = (await send("script.evaluate", {
        expression: `Promise.resolve((${expression})).then((value) => JSON.stringify(value ?? null))`,
        target: { context },
        awaitPromise: true,
      })) as { type: string; result?: { value: string }; exceptionDetails?: { text: string } };
      if (answer.type === "exception") throw new Error(answer.exceptionDetails!.text);
      return JSON.parse(answer.result!.value);
    },
  };
}

/** Where it listens, as it says. Throws when it ends first. */
function addressOf(child: ReturnType<typeof spawn>): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = "";
    const timer = setTimeout(() => reject(new Error(`Firefox did not start: ${said}`)), commandMs);
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      const found = /WebDriver BiDi listening on (ws:\/\/\S+)/.exec(said);
      if (found === null) return;
      clearTimeout(timer);
      resolve(found[1]!);
    });
    child.once("exit", () => {
      clearTimeout(timer);
      reject(new Error(`Firefox ended: ${said}`));
    });
  });
}

/** Commands and their answers over one connection. */
function commands(socket: WebSocket): (method: string, params: object) => Promise<unknown> {
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  let count = 0;
  socket.addEventListener("message", ({ data }) => {
    const { id, type, result, error, message } = JSON.parse(String(data)) as Answer;
    const one = id === undefined ? undefined : waiting.get(id);
    if (one === undefined) return;
    waiting.delete(id!);
    if (type === "success") one.resolve(result);
    else one.reject(new Error(`${error}: ${message}`));
  });
  return (method, params) => {
    const id = ++count;
    const one = Promise.withResolvers<unknown>();
    waiting.set(id, one);
    socket.send(JSON.stringify({ id, method, params }));
    const timer = setTimeout(() => one.reject(new Error(`no answer to ${method}`)), commandMs);
    return one.promise.finally(() => clearTimeout(timer));
  };
}
