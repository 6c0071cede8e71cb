// SPDX-License-Identifier: Apache-2.0
/**
 * Between guest and KMS, and in what the KMS is shown: every change is refused by name, and the application's key
 * never reaches the guest. The first test is the control: an honest host, where the same search finds the key.
 */
import { equal, ok } from "node:assert/strict";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import type { SessionHooks } from "@caisson/machine/session";
import { keyReleasePaths } from "@caisson/protocol/key-release";
import { manInTheMiddle, type Tampering } from "../support/between.ts";
import { attack } from "../support/hostile.ts";

interface Evidence {
  runtimeEvents: { name: string; payload: string }[];
  [field: string]: unknown;
}

const between = (tampering: Tampering): SessionHooks => ({ kms: (url) => manInTheMiddle(url, tampering) });

/** Changes the release request's evidence, or other fields of it. */
const onRelease = (change: (body: Record<string, unknown>) => Record<string, unknown>): SessionHooks =>
  between({ request: (path, body) => (path === keyReleasePaths.release ? change(body) : body) });

const onEvents = (change: (events: Evidence["runtimeEvents"]) => Evidence["runtimeEvents"]): SessionHooks =>
  onRelease((body) => {
    const evidence = body.evidence as Evidence;
    return { ...body, evidence: { ...evidence, runtimeEvents: change(evidence.runtimeEvents) } };
  });

const onAnswer = (
  wanted: string,
  change: (body: Record<string, unknown>) => Record<string, unknown>,
): SessionHooks => between({ answer: (path, body) => (path === wanted ? change(body) : body) });

/** In the KMS's place: accepts, and then changes to a protocol of its own. */
const otherProtocol: SessionHooks = {
  async kms() {
    const open = new Set<Socket>();
    const server = createServer((socket) => {
      open.add(socket);
      socket.on("error", () => {});
      socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      async close() {
        for (const socket of open) socket.destroy();
        await new Promise((resolve) => server.close(resolve));
      },
    };
  },
};

const flipHex = (text: unknown): string => String(text).replace(/^./, (digit) => (digit === "0" ? "1" : "0"));
const other = "ab".repeat(32);

test("control: an honest host, and the key is where it belongs", async () => {
  const ending = await attack({});
  equal(ending.reason, "ready", ending.message);
  equal(ending.keyInMemory, true, "the search must find the key in a guest that has it");
  equal(ending.keyOnConsole, false);
});

/** Evidence as it was sent first, for the test that sends it again. */
let recorded: unknown;

const cases: { name: string; hostile: SessionHooks; reason: string | RegExp }[] = [
  {
    name: "another protocol in place of an answer (101)",
    hostile: otherProtocol,
    reason: "keys/unreachable",
  },
  {
    name: "an event is dropped from the log",
    hostile: onEvents((events) => events.toSpliced(4, 1)),
    reason: /^keys\/denied\/events\//,
  },
  {
    name: "two events change places",
    hostile: onEvents((events) => events.toSpliced(1, 2, events[2]!, events[1]!)),
    reason: /^keys\/denied\/events\//,
  },
  {
    name: "an event is added",
    hostile: onEvents((events) => [...events, { name: "system-ready", payload: "" }]),
    reason: /^keys\/denied\/events\//,
  },
  {
    name: "an event is there twice",
    hostile: onEvents((events) => events.toSpliced(2, 0, events[1]!)),
    reason: /^keys\/denied\/events\//,
  },
  {
    name: "a payload is changed",
    hostile: onEvents((events) =>
      events.map((event) => ({ ...event, payload: event.payload && flipHex(event.payload) })),
    ),
    reason: /^keys\/denied\/(events|app|keys|time)\//,
  },
  {
    name: "the guest is given another nonce",
    hostile: onAnswer(keyReleasePaths.hello, (body) => ({ ...body, nonce: other })),
    reason: "keys/signature",
  },
  {
    name: "the KMS is told another nonce",
    hostile: onRelease((body) => ({ ...body, nonce: other })),
    reason: "keys/signature",
  },
  {
    name: "the ephemeral key is replaced: a relay that wants the keys for itself",
    hostile: onRelease((body) => ({ ...body, ephemeralKey: other })),
    reason: "keys/signature",
  },
  {
    name: "evidence of an earlier boot is sent again",
    hostile: between({
      request: (path, body) => {
        if (path !== keyReleasePaths.release) return body;
        const old = recorded;
        recorded = body.evidence;
        return old === undefined ? body : { ...body, evidence: old };
      },
    }),
    reason: /^keys\/denied\/report-data\//,
  },
  {
    name: "the KMS's answer is altered",
    hostile: onAnswer(keyReleasePaths.release, (body) => {
      const sealed = body.sealed as { enc: string; ciphertext: string };
      return { ...body, sealed: { ...sealed, ciphertext: flipHex(sealed.ciphertext) } };
    }),
    reason: "keys/signature",
  },
  {
    name: "a KMS with another identity answers",
    hostile: { instance: (instance) => ({ ...instance, kms: { ...instance.kms!, identity: other } }) },
    reason: "keys/other-identity",
  },
  {
    name: "development evidence meets a production policy",
    hostile: {
      policy: ({ platforms: _, simulatedRoot: __, ...production }: Record<string, unknown>) => production,
    } as SessionHooks,
    reason: "keys/denied/policy/platform",
  },
  {
    name: "the policy wants sources of time that the image names",
    hostile: { policy: (policy) => ({ ...policy, secureTime: { origins: ["image"] } }) },
    reason: "keys/denied/time/origin",
  },
];

for (const { name, hostile, reason } of cases) {
  test(name, async () => {
    if (name.startsWith("evidence of an earlier boot")) await attack(hostile);
    const ending = await attack(hostile);
    if (typeof reason === "string") equal(ending.reason, reason, ending.message);
    else ok(reason.test(ending.reason), `${ending.reason}: ${ending.message}`);
    equal(ending.keyInMemory, false, "the key is in the guest's memory");
    equal(ending.keyOnConsole, false);
  });
}
