// SPDX-License-Identifier: Apache-2.0
import { equal, ok, rejects } from "node:assert/strict";
import { createSocket } from "node:dgram";
import { type TestContext, test } from "node:test";
import type { Environment } from "./environment.ts";
import { encodeAuthenticator, encodeField, fields, fieldType, ntpTimestamp } from "./ntp.ts";
import type { Association } from "./ntske-client.ts";
import { exchange, measure } from "./source.ts";

const now = Date.UTC(2026, 5, 1);
const key = new Uint8Array(32).fill(3);
const association = (host: string, port: number, cookies = 8): Association => ({
  clientToServer: key,
  serverToClient: key,
  cookies: Array.from({ length: cookies }, (_, i) => new Uint8Array(16).fill(i)),
  host,
  family: 4,
  port,
  chain: { subject: "", issuer: "", fingerprint: "", notBefore: 0, notAfter: 0 },
  rttGuess: 0,
});
const never = new AbortController().signal;

/** A clock that advances by `step` milliseconds each time that it is read, and randomness that counts. */
function deterministic(step: number): Environment {
  let [clock, byte] = [1000, 0];
  return {
    monotonic: () => (clock += step),
    random: (length) => new Uint8Array(length).fill(++byte),
    lookup: (_, __, answer) => answer(null, [{ address: "127.0.0.1", family: 4 }]),
  };
}

interface Answer {
  /** Unix milliseconds. */
  receive: number;
  transmit: number;
  /** As in a header. */
  precision?: number;
  stratum?: number;
}

function replyTo(request: Buffer, { receive, transmit, precision = -128, stratum = 2 }: Answer): Buffer {
  const header = Buffer.alloc(48);
  header[0] = (4 << 3) | 4;
  header[1] = stratum;
  header.writeInt8(precision, 3);
  header.writeUInt32BE(65536 / 64, 4); // root delay 15.625 ms
  header.writeUInt32BE(65536 / 128, 8); // root dispersion 7.8125 ms
  header.set(request.subarray(40, 48), 24);
  header.writeBigUInt64BE(ntpTimestamp(receive), 32);
  header.writeBigUInt64BE(ntpTimestamp(transmit), 40);
  const identifier = [...fields(request, 48)].find(({ type }) => type === fieldType.uniqueIdentifier)!;
  const packet = Buffer.concat([header, encodeField(fieldType.uniqueIdentifier, identifier.value)]);
  const inside = encodeField(fieldType.cookie, new Uint8Array(16).fill(99));
  return Buffer.concat([packet, encodeAuthenticator(packet, key, new Uint8Array(16), inside)]);
}

/** Answers requests, having received and sent at the given times (Unix milliseconds); `precision` as in a header. */
async function server(
  t: TestContext,
  receive: number,
  transmit: number,
  header: Pick<Answer, "precision" | "stratum"> = {},
): Promise<number> {
  const socket = createSocket("udp4");
  socket.on("message", (request, peer) =>
    socket.send(replyTo(request, { receive, transmit, ...header }), peer.port, peer.address),
  );
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  t.after(() => socket.close());
  return socket.address().port;
}

test("the interval: what the server sent, to that plus the time on the way, widened by the server's own error", async (t) => {
  const port = await server(t, now, now + 10);
  // Patient enough for a busy machine: a second request would be a second reading of the clock.
  const used = { ...association("named.example", port), rttGuess: 475 };
  const found = await exchange(used, deterministic(40), now, never);
  const error = 15.625 / 2 + 7.8125;
  const close = (a: number, b: number) => ok(Math.abs(a - b) < 0.01, `${a} is not ${b}`);
  close(found.rtt, 30); // 40 ms between two readings of the clock, 10 of them in the server
  close(found.earliest, now + 10 - error);
  close(found.latest, now + 10 + 30 + error);
  equal(found.at, 1080);
  equal(used.cookies.length, 8);
});

test("each request has a cookie of its own, and none is used again in a later exchange", async (t) => {
  const seen: string[] = [];
  let received = 0;
  const socket = createSocket("udp4");
  t.after(() => socket.close());
  socket.on("message", (request, peer) => {
    const cookie = [...fields(request, 48)].find(({ type }) => type === fieldType.cookie)!.value;
    seen.push(Buffer.from(cookie).toString("hex"));
    // The first two are lost.
    if (++received > 2)
      socket.send(replyTo(request, { receive: now, transmit: now }), peer.port, peer.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const used = association("127.0.0.1", socket.address().port);
  await exchange(used, deterministic(1), now, never);
  await exchange(used, deterministic(1), now, never);
  equal(seen.length, 4);
  equal(new Set(seen).size, 4, seen.join(", "));
});

test("a server that claims more time than has passed is refused", async (t) => {
  const port = await server(t, now, now + 60);
  await rejects(exchange(association("127.0.0.1", port), deterministic(40), now, never), {
    code: "ntp/malformed",
  });
});

test("a coarse clock: the interval holds the true time, whatever lies below its precision", async (t) => {
  // The clock moves in steps of 62.5 ms and random bits fill them, so each timestamp is wrong by less, either way.
  for (const [receiveError, transmitError] of [
    [0, 0],
    [62, -62],
    [-62, 62],
    [62, 62],
    [-62, -62],
  ] as const) {
    // Received at now + 15 and sent at now + 25, 40 ms after each other here: on arrival it is now + 25 to now + 55.
    const port = await server(t, now + 15 + receiveError, now + 25 + transmitError, { precision: -4 });
    const found = await exchange(association("127.0.0.1", port), deterministic(40), now, never);
    ok(found.earliest <= now + 25 && now + 55 <= found.latest, JSON.stringify([receiveError, found]));
    ok(found.rtt >= 0 && found.latest - found.earliest <= 40 + 4 * 62.5 + 32);
  }
});

test("a server that is not synchronized yet is asked again with the same keys", async (t) => {
  const port = await server(t, now, now, { stratum: 0 });
  const source = { name: "one", operator: "a", kePort: 1, ca: "" };
  const used = association("127.0.0.1", port);
  const associations = new Map([["one", used]]);
  await rejects(measure(source, associations, deterministic(1), now, never), { code: "ntp/unsynchronized" });
  equal(associations.get("one"), used);
});

test("no cookie, no request", async () => {
  await rejects(exchange(association("127.0.0.1", 9, 0), deterministic(1), now, never), {
    code: "ntp/no-cookie",
  });
});

test("no route is an error, not a crash", async () => {
  await rejects(
    exchange(association("240.0.0.1", 9), deterministic(1), now, never),
    (error: { code: string }) => ["ntp/socket", "ntp/timeout"].includes(error.code),
  );
});

test("an aborted exchange ends at once", async () => {
  const abort = new AbortController();
  const pending = exchange(association("127.0.0.1", 9), deterministic(1), now, abort.signal);
  abort.abort();
  await rejects(pending, { code: "ntp/timeout" });
});
