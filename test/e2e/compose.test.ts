// SPDX-License-Identifier: Apache-2.0
/** `caisson up` with the services of a compose file: they find each other, and only what is published is reached. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { json, text } from "node:stream/consumers";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { launchServices, writeSpec } from "../support/services.ts";

const repository = new URL("../../", import.meta.url).pathname;
const caisson = join(repository, "caisson");
const example = "examples/compose";

const place = temporaryDirectory("compose");

/** What a command of this machine prints on stdout. */
const said = async (...args: string[]): Promise<string> =>
  (await promisify(execFile)(caisson, args, { cwd: repository })).stdout;

test("a front and a store: healthy in order, by name, one published, one not; ps and logs say so", async () => {
  const child = spawn(caisson, ["up", example, "--json"], {
    cwd: repository,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const status = new Promise<number | null>((resolve) => {
    child.once("exit", resolve);
  });
  let stderr = "";
  const output = text(child.stdout);
  try {
    const url = await new Promise<string>((resolve, reject) => {
      child.stderr.setEncoding("utf8").on("data", (piece: string) => {
        stderr += piece;
        const found = /shop answers at (\S+)/.exec(stderr);
        if (found !== null) resolve(found[1]!);
      });
      child.once("exit", () => reject(new Error(stderr)));
    });
    const visits = async () => Number(/^Visits: (\d+)\n$/.exec(await (await fetch(url)).text())?.[1]);
    const first = await visits();
    ok(first >= 1);
    // `up` asks, too, for its document.
    ok((await visits()) > first);

    const { services } = JSON.parse(await said("ps", example, "--json")) as {
      services: {
        service: string;
        state: string;
        starts: number;
        ports: { published: number; host: number }[];
      }[];
    };
    deepEqual(
      services.map(({ service, state, starts, ports }) => [
        service,
        state,
        starts,
        ports.map(({ published, host }) => [published, `http://127.0.0.1:${host}/`]),
      ]),
      [
        ["store", "healthy", 1, []],
        ["web", "running", 1, [[8080, url]]],
      ],
    );
    match(
      await said("logs", example),
      /store \| the store listens on port 6379\n.*web \| the front listens on port 8080\n/s,
    );
    equal(await said("logs", example, "store").then((lines) => / web /.test(lines)), false);

    // What an outsider finds: evidence of the whole machine, over the one port that is published.
    const evidence = new URL("/.well-known/caisson/evidence?nonce=0123456789abcdef", url);
    equal(((await (await fetch(evidence)).json()) as { version: string }).version, "caisson/evidence/v1");
    await rejects(fetch(`http://127.0.0.1:6379/`));
  } finally {
    child.kill("SIGINT");
  }
  equal(await status, 0, stderr);
  const { verification } = JSON.parse(await output) as { verification: { verdict: string } };
  equal(verification.verdict, "accepted");
});

/**
 * Asks dstack's guest agent for a key and for evidence; before that, as soon as it runs, for a quote over report data that
 * somebody outside chose, and hands it over.
 */
const dstackApplication = (outside: string): string => `
const { request } = process.getBuiltinModule("node:http");
const ask = (path, body) => new Promise((resolve, reject) => {
  const call = { socketPath: "/var/run/dstack.sock", method: "POST", path, headers: { "content-type": "application/json" } };
  request(call, async (response) => {
    let text = "";
    for await (const piece of response) text += piece;
    response.statusCode === 200 ? resolve(JSON.parse(text)) : reject(new Error(text));
  }).once("error", reject).end(JSON.stringify(body));
});
const wanted = await (await fetch("${outside}")).text();
const early = await ask("/GetQuote", { report_data: wanted });
await fetch("${outside}", { method: "POST", body: JSON.stringify(early) });

const { key, signature_chain: chain } = await ask("/GetKey", { path: "a", purpose: "b" });
const { quote, report_data: data } = await ask("/GetQuote", { report_data: "abcd" });
const { app_id: id } = await ask("/Info", {});
const event = await ask("/EmitEvent", { event: "x", payload: "" }).then(() => "taken", () => "refused");
console.log(JSON.stringify([key.length, chain[0].length, quote.includes(data), id.length, event]));
setInterval(() => {}, 1 << 30);
`;

/** Somebody outside: gives what asks report data, and gets the quote over it. */
async function outsider() {
  const [wanted, quoted] = [Promise.withResolvers<Uint8Array>(), Promise.withResolvers<DstackQuote>()];
  const server = createServer((request, response) => {
    if (request.method !== "POST") return void wanted.promise.then((bytes) => response.end(bytes.toHex()));
    void json(request).then((quote) => {
      quoted.resolve(quote as DstackQuote);
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => server.close());
  return { port: (server.address() as AddressInfo).port, wanted, quoted };
}

interface DstackQuote {
  quote: string;
  /** JSON. */
  event_log: string;
}

const documentOf = ({ quote, event_log }: DstackQuote) => ({
  version: "caisson/evidence/v1",
  platform: "emulated",
  quote: Uint8Array.fromHex(quote).toBase64(),
  runtimeEvents: (JSON.parse(event_log) as { imr: number; event: string; event_payload: string }[])
    .filter(({ imr }) => imr === 3)
    .map(({ event, event_payload }) => ({ name: event, payload: event_payload })),
  reportData: { scheme: "raw", fields: {} },
});

test("an application of dstack's finds the agent that it asks for; its earliest quote gets nobody the machine's keys", async () => {
  const { port, wanted, quoted } = await outsider();
  mkdirSync(join(place, "app"));
  writeFileSync(join(place, "app/main.mjs"), dstackApplication(`http://10.0.2.2:${port}/`));
  const socket = "/var/run/dstack.sock";
  const job = `x-caisson: { node: ./app/main.mjs }\n    volumes: ["${socket}:${socket}"]`;
  writeSpec(place, "dstack", `services:\n  job:\n    ${job}\n`, "  api: dstack\n");
  const machine = await launchServices(place, 1024);
  try {
    const stolen = requestKeys({
      post: httpPost(machine.kms.url, 60_000),
      identityKey: Uint8Array.fromHex(machine.kms.identityKey),
      evidence: async (reportData) => {
        wanted.resolve(reportData);
        const document = documentOf(await quoted.promise);
        // The firmware's log is the same for every quote, and the host has it.
        const { bootLog } = JSON.parse(Buffer.from((await machine.evidence()).bytes).toString()) as {
          bootLog: string;
        };
        return { ...document, bootLog };
      },
      now: Date.now,
      toleranceMs: 60_000,
    });
    await rejects(stolen, { code: "keys/denied", denial: "events/after-boundary", message: /^[^;]*$/ });
    // The only service of an image writes without a name before its lines.
    const said = await machine.vm.event(
      (event) => event.kind === "app" && event.line === '[64,130,true,40,"refused"]',
    );
    ok(said !== undefined);
  } finally {
    await machine.stop();
  }
});
