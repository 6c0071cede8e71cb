// SPDX-License-Identifier: Apache-2.0
/** Errors that the system itself gives get words, a kind and a remedy; bugs stay bugs. */
import { deepEqual, equal, match } from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { reasonOf, systemError, systemReason } from "@caisson/vocabulary/system-error";
import { exitCode, renderError, UsageError } from "./failure.ts";

const caught = async (work: () => unknown): Promise<unknown> => {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error("it did not fail");
};

const failures: [what: string, work: () => unknown, code: string, exit: number, says: RegExp][] = [
  ["a full disk", () => writeFileSync("/dev/full", "x"), "system/disk", 75, /no space left on the disk/],
  ["no such file", () => readFileSync("/nowhere"), "system/file", 2, /^\/nowhere: no such file/],
  ["a read that fails", () => readFileSync("/proc/self/mem"), "system/disk", 75, /cannot be read/],
  ["what stands there", () => mkdirSync("/tmp"), "system/file", 2, /^\/tmp: it exists already/],
  ["a directory", () => readFileSync("/tmp"), "system/file", 2, /it is a directory/],
  [
    "nobody listens",
    () => fetch("http://127.0.0.1:2/"),
    "system/network",
    75,
    /127\.0\.0\.1:2: connection refused/,
  ],
  ["no such host", () => fetch("http://nowhere.invalid/"), "system/network", 75, /nowhere\.invalid: /],
  [
    "too late",
    () => Promise.reject(AbortSignal.abort(new DOMException("x", "TimeoutError")).reason),
    "system/time-limit",
    75,
    /no answer in time/,
  ],
];
for (const [what, work, code, exit, says] of failures) {
  test(what, async () => {
    const error = await caught(work);
    equal(systemError(error)?.code, code);
    match(systemError(error)!.message, says);
    equal(exitCode(error), exit);
    match(renderError("caisson x", error), /\n {2}try +\S/);
  });
}

/** The port of a server that does this with every connection. */
async function listening(t: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const server = createServer(serve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return (server.address() as { port: number }).port;
}

test("a server that does not speak TLS, and one that does not speak HTTP", async (t) => {
  const port = await listening(t, (socket) => socket.end("SSH-2.0-server\r\n"));
  const error = await caught(() => fetch(`https://127.0.0.1:${port}/`));
  equal(systemError(error)?.code, "system/network");
  equal(reasonOf(error), "it does not speak TLS");
  match(reasonOf(await caught(() => fetch(`http://127.0.0.1:${port}/`))), /HTTP/);
});

test("certificates that nobody here vouches for say so, however deep the cause lies", () => {
  const error = new TypeError("fetch failed", {
    cause: Object.assign(new Error("self-signed certificate"), { code: "DEPTH_ZERO_SELF_SIGNED_CERT" }),
  });
  equal(reasonOf(error), "its certificate is self-signed");
  equal(systemError(error)?.code, "system/network");
  equal(reasonOf(new TypeError("fetch failed", { cause: new Error("odd") })), "odd");
});

test("a server that closes the connection without an answer", async (t) => {
  const port = await listening(t, (socket) => socket.destroy());
  const error = await caught(() => fetch(`http://127.0.0.1:${port}/`));
  equal(systemError(error)?.code, "system/network");
  equal(systemReason(error), "the connection was closed");
});

test("a bug stays a bug", () => {
  for (const error of [
    new TypeError("x"),
    Object.assign(new Error("x"), { code: "ENOSPC" }),
    new RangeError("y"),
  ]) {
    deepEqual([systemError(error), exitCode(error)], [undefined, 1]);
  }
});

test("a message that names the place itself gets the reason alone; what has words of its own keeps them", async () => {
  const absent = await caught(() => readFileSync("/nowhere/at/all"));
  equal(reasonOf(absent), "no such file or directory");
  equal(reasonOf(new Error("fetch failed", { cause: absent })), "no such file or directory");
  equal(
    reasonOf(Object.assign(new UsageError("the lock is older", "lock again"), { cause: absent })),
    "the lock is older",
  );
  equal(reasonOf(new Error("not canonical")), "not canonical");
});
