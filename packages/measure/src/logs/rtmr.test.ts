// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { toHex } from "@caisson/vocabulary/bytes";
import { extend, fold, initialRegister, replay } from "./rtmr.ts";
import { runtimeEventDigest, runtimeEventDigestV2 } from "./runtime-events.ts";

test("extend is SHA-384 over old value and digest", async () => {
  const digest = new Uint8Array(48).fill(7);
  const expected = createHash("sha384").update(new Uint8Array(48)).update(digest).digest();
  equal(toHex(await extend(initialRegister(), digest)), expected.toString("hex"));
});

test("a register or digest of another size is refused", async () => {
  await rejects(extend(initialRegister(), new Uint8Array(32)), { code: "register/digest-size" });
  await rejects(extend(new Uint8Array(47), new Uint8Array(48)), { code: "register/digest-size" });
});

test("replay keeps registers apart and MRTD absent until an event extends it", async () => {
  const [a, b] = [new Uint8Array(48).fill(1), new Uint8Array(48).fill(2)];
  const registers = await replay([
    { register: "rtmr3", digest: a },
    { register: "rtmr3", digest: b },
  ]);
  deepEqual(registers.rtmr3, await fold([a, b]));
  deepEqual(registers.rtmr0, initialRegister());
  equal(registers.mrtd, undefined);
});

// Digests of a real guest's RTMR3 log (dstack, quote-report.json): system-preparing and boot-mr-done have no payload.
test("runtime digests, version 1, equal those of a real guest", async () => {
  const none = new Uint8Array();
  equal(toHex(await runtimeEventDigest("system-preparing", none)).slice(0, 16), "f9974020ef507068");
  equal(toHex(await runtimeEventDigest("boot-mr-done", none)).slice(0, 16), "98bd7e6bd3952720");
});

test("runtime digests, version 2, cover canonical JSON", async () => {
  const json = '{"name":"app-id","payload":"00ff","type":134217729}';
  equal(
    toHex(await runtimeEventDigestV2("app-id", Uint8Array.of(0, 255))),
    createHash("sha384").update(json).digest("hex"),
  );
});
