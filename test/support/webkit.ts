// SPDX-License-Identifier: Apache-2.0
/**
 * WebKit (Debian's WebKitGTK in Epiphany), driven by WebDriver: the engine of Safari. Its libraries name their helpers by
 * absolute paths, so it runs in a root of its own, on a screen of its own; for that this process has to be root.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { freeTcpPort } from "@caisson/host/ports";
import { unpackDebian } from "./debian.ts";
import type { BrowserPage } from "./firefox.ts";

const commandMs = 60_000;
const packages = [
  "epiphany-browser",
  "webkit2gtk-driver",
  "xvfb",
  "xauth",
  "dbus",
  "dbus-daemon",
  "dash",
  "coreutils",
  "fonts-dejavu-core",
  "libgl1-mesa-dri",
  "libegl1",
  "glib-networking",
  "libglib2.0-bin",
  "gsettings-desktop-schemas",
];

/** Starts it. Everything of it ends with the test. Throws where it does not come up, with what it said. */
export async function startWebKit(t: TestContext): Promise<BrowserPage> {
  const { root, versions } = await unpackDebian("bookworm", packages, { dependencies: true });
  const place = mkdtempSync(join(tmpdir(), "caisson-webkit-"));
  for (const name of ["changes", "work", "root"]) mkdirSync(join(place, name));
  const port = await freeTcpPort();
  const program = new URL("webkit-root.ts", import.meta.url).pathname;
  // The first process of a namespace takes all others with it.
  const child = spawn(
    "unshare",
    ["--mount", "--pid", "--fork", "--kill-child", process.execPath, program, root, place, `${port}`],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-4096);
    });
  }
  t.after(async () => {
    await stopped(child);
    rmSync(place, { recursive: true, force: true });
  });
  const base = `http://127.0.0.1:${port}`;
  await listens(base, child, () => said);
  const { sessionId } = (await command(`${base}/session`, {
    capabilities: {
      alwaysMatch: {
        acceptInsecureCerts: true,
        "webkitgtk:browserOptions": { binary: "/usr/bin/epiphany", args: ["--automation-mode"] },
      },
    },
  })) as { sessionId: string };
  const session = `${base}/session/${sessionId}`;
  return {
    version: `WebKitGTK ${versions["webkit2gtk-driver"]}`,
    goto: async (url) => void (await command(`${session}/url`, { url })),
    async evaluate(expression) {
      const { value, error } = (await command(`${session}/execute/async`, {
        script: `const done = arguments[0];
          Promise.resolve((${expression})).then((value) => done({ value: value ?? null }), (error) => done({ error: String(error) }));`,
        args: [],
      })) as { value?: unknown; error?: string };
      if (error !== undefined) throw new Error(error);
      return value;
    },
  };
}

async function stopped(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

async function listens(base: string, child: ChildProcess, said: () => string): Promise<void> {
  const limit = performance.now() + commandMs;
  while (performance.now() < limit && child.exitCode === null) {
    if (
      await fetch(`${base}/status`).then(
        ({ ok }) => ok,
        () => false,
      )
    )
      return;
    await sleep(200);
  }
  throw new Error(`WebKit's driver did not start: ${said()}`);
}

/** One command of WebDriver (W3C). Throws its error. */
async function command(url: string, body: object): Promise<unknown> {
  const answer = await fetch(url, {
    method: "POST",
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(commandMs),
  });
  const { value } = (await answer.json()) as { value: { error?: string; message?: string } | null };
  if (!answer.ok) throw new Error(`${value?.error}: ${value?.message}`);
  return value;
}
