// SPDX-License-Identifier: Apache-2.0
/** What people use: curl, and Debian's nghttp and h2load, against the front and through a door. */
import { equal, match, ok } from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { RequestListener } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { openDoor, parsePlace } from "@caisson/client/connect";
import { testGuest, testPlatform } from "@caisson/client/testing/guest";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { unpackDebian } from "../support/debian.ts";

const run = promisify(execFile);
const platform = testPlatform();
const place = temporaryDirectory("clients");

const digits = "0123456789".repeat(1000);
const routes: Record<string, RequestListener> = {
  "/digits"({ headers }, response) {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "") ?? [];
    if (from === undefined || to === undefined) return void response.end(digits);
    response.writeHead(206, { "content-range": `bytes ${from}-${to}/${digits.length}` });
    response.end(digits.slice(Number(from), Number(to) + 1));
  },
  "/packed"(_, response) {
    response.setHeader("content-encoding", "gzip");
    response.end(gzipSync(digits));
  },
  "/events"(_, response) {
    response.setHeader("content-type", "text/event-stream");
    response.write("data: first\n\n");
    setTimeout(() => response.end("data: last\n\n"), 300);
  },
  "/upload"(request, response) {
    const hash = createHash("sha256");
    request.on("data", (piece: Buffer) => hash.update(piece));
    request.once("end", () => response.end(`${request.method} ${hash.digest("hex")}`));
  },
  "/trailers"(_, response) {
    response.writeHead(200, { trailer: "grpc-status" });
    response.write("body");
    response.addTrailers({ "grpc-status": "0" });
    response.end();
  },
};
const application: RequestListener = (request, response) => routes[request.url!]!(request, response);

for (const way of ["the front, HTTP/1.1", "the front, HTTP/2", "a door, in TLS", "a door, sealed"] as const) {
  test(`curl: ${way}`, { timeout: 120_000 }, async (t) => {
    const guest = await testGuest(platform, application);
    t.after(() => guest.close());
    const sealed = way.endsWith("sealed");
    let url = guest.url.replace(/\/$/, "");
    if (way.startsWith("a door")) {
      const ways = [sealed ? ("tunnel" as const) : ("tls" as const)];
      const door = await openDoor(guest.url, parsePlace("127.0.0.1:0"), { ...platform.judgement, ways });
      t.after(() => door.close());
      url = door.url;
    }
    const version = way.endsWith("2") ? "--http2" : "--http1.1";
    const curl = async (path: string, ...more: string[]): Promise<string> => {
      const { stdout } = await run("curl", ["-sSk", "-m", "60", version, ...more, `${url}${path}`], {
        maxBuffer: 1 << 24,
      });
      return stdout;
    };
    equal(await curl("/digits", "-o", "/dev/null", "-w", "%{http_version}"), way.endsWith("2") ? "2" : "1.1");
    equal(await curl("/digits"), digits);
    equal(
      await curl("/digits", "-r", "2-5", "-w", " %{http_code} %header{content-range}"),
      "2345 206 bytes 2-5/10000",
    );
    equal(await curl("/packed", "--compressed"), digits);
    equal(await curl("/packed", "-o", "/dev/null", "-w", "%header{content-encoding}"), "gzip");
    const [first, whole] = (await curl("/events", "-N", "-w", "%{time_starttransfer} %{time_total}")).split(
      /(?=\d+\.\d+ )/,
    );
    match(first!, /^data: first\n\ndata: last\n\n$/);
    const [begun, done] = whole!.split(" ").map(Number) as [number, number];
    ok(done - begun > 0.15, "an event is there before the stream's end");
    const file = join(place, "upload");
    const content = randomBytes(sealed ? 8 << 20 : 64 << 20);
    writeFileSync(file, content);
    const hash = createHash("sha256").update(readFileSync(file)).digest("hex");
    equal(await curl("/upload", "-T", file, "-H", "Expect: 100-continue"), `PUT ${hash}`);
    equal(
      await curl("/upload", "-X", "POST", "-T", file, "-H", "Transfer-Encoding: chunked"),
      `POST ${hash}`,
    );
    if (sealed) {
      writeFileSync(file, Buffer.alloc(20 << 20));
      match(await curl("/upload", "-T", file, "-w", " %{http_code}"), /413.* 502$/s);
    }
  });
}

test("nghttp and h2load: trailers, and thousands of streams", { timeout: 300_000 }, async (t) => {
  const suite = /^VERSION_CODENAME=(\S+)/m.exec(readFileSync("/etc/os-release", "utf8"))![1]!;
  const { root } = await unpackDebian(suite, ["nghttp2-client"], { dependencies: true });
  const env = { ...process.env, LD_LIBRARY_PATH: join(root, "usr/lib/x86_64-linux-gnu") };
  const guest = await testGuest(platform, application);
  t.after(() => guest.close());
  const client = async (name: string, ...args: string[]): Promise<string> =>
    (await run(join(root, "usr/bin", name), args, { env, timeout: 120_000, maxBuffer: 1 << 24 })).stdout;
  const said = await client("nghttp", "-nv", "--no-verify-peer", `${guest.url}trailers`);
  match(said, /:status: 200/);
  match(said, /grpc-status: 0/);
  const load = await client("h2load", "-n", "2000", "-c", "20", "-m", "10", `${guest.url}digits`);
  match(load, /2000 succeeded, 0 failed, 0 errored, 0 timeout/);
});
