// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match } from "node:assert/strict";
import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type ConsoleEvent, encodeConsole } from "@caisson/protocol/console";
import { plainService } from "@caisson/protocol/testing/service";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { render as renderLine } from "./commands/logs.ts";
import { list, render } from "./commands/ps.ts";
import { readConsole } from "./console-log.ts";

const place = temporaryDirectory("console");
const path = join(place, "console.log");

const line = (text: string, service = "web"): Extract<ConsoleEvent, { kind: "app" }> => ({
  kind: "app",
  at: 1,
  service,
  line: text,
});

test("events come out of whatever else is on the console, however long lines are", async () => {
  writeFileSync(
    path,
    `[    0.1] kernel\r\n${encodeConsole(line("é one"))}${"x".repeat(300_000)}\n${encodeConsole(line("two"))}half of`,
  );
  const events = await Array.fromAsync(readConsole(path));
  deepEqual(events, [line("é one"), line("two")]);
});

test("following goes on with what is written, in pieces, and begins anew with another start", async () => {
  writeFileSync(path, encodeConsole(line("first")));
  const stop = new AbortController();
  const seen: string[] = [];
  const text = encodeConsole(line("über"));
  const bytes = Buffer.from(text);
  for await (const event of readConsole(path, stop.signal)) {
    if (event.kind !== "app") continue;
    seen.push(event.line);
    if (event.line === "first") {
      // Split within a character of two bytes.
      const at = bytes.indexOf(0xc3) + 1;
      appendFileSync(path, bytes.subarray(0, at));
      setTimeout(() => appendFileSync(path, bytes.subarray(at)), 50);
    }
    if (event.line === "über") writeFileSync(path, encodeConsole(line("again")));
    if (event.line === "again") stop.abort();
  }
  deepEqual(seen, ["first", "über", "again"]);
});

async function* events(...list: ConsoleEvent[]): AsyncGenerator<ConsoleEvent> {
  yield* list;
}

test("the services of a machine: the last state of each, how often it was started, what is published", async () => {
  const services = { web: plainService(), db: plainService({ ports: [] }) };
  const state = (service: string, name: string, at: number, detail?: string): ConsoleEvent => ({
    kind: "service",
    at,
    service,
    state: name,
    ...(detail !== undefined && { detail }),
  });
  const listing = await list(
    { services },
    events(
      state("web", "running", 2),
      state("web", "exited", 3, "status 1"),
      state("web", "running", 4),
      state("nobody", "running", 4),
      { kind: "ready", at: 5 },
    ),
    [{ service: "web", protocol: "tcp", published: 8080, host: 40_123 }],
  );
  const port = { service: "web", protocol: "tcp", published: 8080, target: 8080, host: 40_123 };
  deepEqual(listing, {
    services: [
      { service: "db", state: "not started", starts: 0, ports: [] },
      { service: "web", state: "running", since: 4, starts: 2, ports: [port] },
    ],
    machine: "ready",
    runs: true,
  });
  const text = render(listing);
  match(text, /^SERVICE +STATE +SINCE +STARTS +PORTS\n/);
  match(text, /\nweb +running +4\.0 s +2 +8080→8080\/tcp at 127\.0\.0\.1:40123\n/);
  match(text, /\nthe machine: ready\n$/);
  match(render({ ...listing, runs: false }), /\nthe machine: does not run; what it said last: ready\n$/);
});

test("what a guest says does not move the reader's cursor", async () => {
  const evil = "\u001b[2J\u0007";
  equal(renderLine([1, `w${evil}`, `${evil}text`]), "     1.0 s  w  |  text\n");
  const listing = await list(
    { services: { web: plainService() } },
    events({ kind: "service", at: 1, service: "web", state: `${evil}x`, detail: evil }),
  );
  equal(render(listing).includes("\u001b"), false);
});
