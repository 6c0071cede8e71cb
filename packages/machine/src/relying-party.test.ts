// SPDX-License-Identifier: Apache-2.0
/** A relying party before a machine that is not what it says: every answer here is a hostile one. */
import { deepEqual, match, rejects } from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Machine } from "@caisson/kms/testing/machine";
import { type Report, readPolicy, reportData } from "@caisson/verify";
import { limits } from "@caisson/vocabulary/limits";
import { evidencePath } from "@caisson/vocabulary/paths";
import { fetchEvidence, judgeFresh } from "./relying-party.ts";

/** A machine at a URL of loopback; `asked` lists the paths that were asked of it. */
async function serve(t: TestContext, answer: RequestListener): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url!);
    answer(request, response);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

/** Writes for as long as somebody reads. */
const endless: RequestListener = (_, response) => {
  const piece = Buffer.alloc(64 * 1024, "a");
  const more = () => {
    while (response.write(piece));
  };
  response.on("drain", more);
  more();
};

test("a redirection is not followed: the machine that answers is the one that was asked", async (t) => {
  const inside = await serve(t, (_, response) => response.end("{}"));
  const { url } = await serve(t, (_, response) => response.writeHead(302, { location: inside.url }).end());
  await rejects(fetchEvidence(url), { code: "evidence/malformed" });
  deepEqual(inside.asked, []);
});

test("a body without end is read up to the limit", async (t) => {
  const { url } = await serve(t, endless);
  await rejects(fetchEvidence(url), {
    code: "evidence/malformed",
    message: new RegExp(`${limits.document}`),
  });
});

test("what is not a URL that can be asked is refused by name", async () => {
  for (const url of ["localhost:8080", "nowhere", "file:///etc/passwd", "data:application/json,{}"]) {
    await rejects(fetchEvidence(url), { code: "evidence/address", kind: "usage" }, url);
  }
  await rejects(fetchEvidence("localhost:8080"), { fix: "did you mean http://localhost:8080/?" });
});

test("a server that is down is unreachable, one that serves none says what is missing: neither is malformed", async (t) => {
  const { url } = await serve(t, (_, response) => response.writeHead(404).end());
  await rejects(fetchEvidence(url), {
    code: "evidence/not-served",
    kind: "input",
    message: /GET \/\.well-known\/caisson\/evidence answers 404/,
  });
  const silent = await serve(t, (request) => request.socket.destroy());
  for (const [where, reason] of [
    ["http://127.0.0.1:2/", /connection refused/],
    [silent.url, /connection was closed/],
  ] as const) {
    await rejects(fetchEvidence(where), {
      code: "evidence/unreachable",
      kind: "unavailable",
      message: reason,
    });
  }
});

/** `caisson verify --from URL --policy FILE --json`. */
function verifyFrom(url: string, policy: object): Promise<{ status: unknown; report: Report }> {
  const folder = mkdtempSync(join(tmpdir(), "caisson-from-"));
  writeFileSync(join(folder, "policy.json"), JSON.stringify(policy));
  const main = new URL("../../cli/src/main.ts", import.meta.url).pathname;
  const args = [main, "verify", "--from", url, "--policy", join(folder, "policy.json"), "--json"];
  return new Promise((resolve) => {
    execFile(process.execPath, args, (error, stdout) => {
      rmSync(folder, { recursive: true });
      resolve({ status: error?.code ?? 0, report: JSON.parse(stdout) as Report });
    });
  });
}

test("the machine does not choose what its report data means: only an application's evidence is accepted", async (t) => {
  const machine = new Machine(Date.now());
  const kms = "ab".repeat(32);
  const state = machine.booted(kms);
  state.events.push({ name: "system-ready", payload: new Uint8Array() });
  const policy = {
    ...(machine.policyFile().policy as object),
    app: { id: [machine.app], composeHash: "any", instanceId: "any" },
    keyProviders: [{ name: "kms", id: kms }],
  };
  const answers = {
    async "caisson/app/v1"(nonce: Uint8Array) {
      const evidence = await machine.evidence(state, await reportData("caisson/app/v1", { nonce }));
      return { ...evidence, reportData: { scheme: "caisson/app/v1", fields: { nonce: nonce.toHex() } } };
    },
    async raw(nonce: Uint8Array) {
      const padded = new Uint8Array(64);
      padded.set(nonce);
      const evidence = await machine.evidence(state, padded);
      return { ...evidence, reportData: { scheme: "raw", fields: { data: nonce.toHex() } } };
    },
  };
  const results: Record<string, unknown> = {};
  for (const [scheme, answer] of Object.entries(answers)) {
    const { url, asked } = await serve(t, (request, response) => {
      const nonce = Uint8Array.fromHex(new URL(request.url!, "http://x").searchParams.get("nonce")!);
      void answer(nonce).then((document) => response.end(JSON.stringify(document)));
    });
    const { status, report } = await verifyFrom(url, policy);
    results[scheme] = [status, report.codes];
    match(asked.join(), new RegExp(`^${evidencePath}\\?nonce=[0-9a-f]{64}$`));
  }
  deepEqual(results, { "caisson/app/v1": [0, []], raw: [10, ["report-data/scheme"]] });
});

test("evidence over the nonce that was given is fresh, over another it is not", async () => {
  const machine = new Machine(Date.now());
  const kms = "ab".repeat(32);
  const state = machine.booted(kms);
  state.events.push({ name: "system-ready", payload: new Uint8Array() });
  const file = machine.policyFile();
  const policy = readPolicy({
    ...(file.policy as object),
    app: { id: [machine.app], composeHash: "any", instanceId: "any" },
    keyProviders: [{ name: "kms", id: kms }],
  });
  const nonce = new Uint8Array(32).fill(1);
  const document = await machine.evidence(state, await reportData("caisson/app/v1", { nonce }));
  const claim = { scheme: "caisson/app/v1", fields: { nonce: nonce.toHex() } };
  const bytes = new TextEncoder().encode(JSON.stringify({ ...document, reportData: claim }));
  const judged = async (expected: Uint8Array) => {
    const report = await judgeFresh({ bytes, nonce: expected }, { policy, references: [], now: new Date() });
    return [report.verdict, report.codes];
  };
  deepEqual(await judged(nonce), ["accepted", []]);
  deepEqual(await judged(nonce.with(0, 2)), ["rejected", ["report-data/nonce"]]);
});
