// SPDX-License-Identifier: Apache-2.0
/** Releases judged in a browser: the package bundled without polyfills, small, and of one mind with Node. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import {
  identityVersion,
  readIdentity,
  writeCanonical,
  writeEnvelope,
  writeStatement,
} from "@caisson/releases";
import { otherForm, type Signer, signedBy, signer } from "@caisson/releases/testing/signers";
import { browserBundle } from "../support/browser-bundle.ts";
import { browserPage } from "../support/browser-page.ts";

/** Bytes of the bundle after gzip, at most; what judges nothing (readings, provenance) has entries of its own. */
const BUNDLE_LIMIT = 12_200;

const bundle = () => browserBundle("releases", 'export * from "@caisson/releases";');

test("the bundle needs nothing of Node and is small", async (t) => {
  const code = await bundle();
  for (const name of ["Buffer", "process", "require"]) {
    equal(new RegExp(`\\b${name}\\b`).test(code), false, name);
  }
  const size = gzipSync(code, { level: 9 }).length;
  t.diagnostic(`${size} bytes after gzip, ${code.length} before`);
  ok(size <= BUNDLE_LIMIT, `${size} bytes`);
});

const page = `
import * as caisson from "/bundle.js";
window.judge = async ({ identity, envelope, measured, now }) => {
  const { hash: id } = await caisson.readIdentity(Uint8Array.fromHex(identity));
  try {
    const release = await caisson.readStatement("release", caisson.readEnvelope(envelope));
    const own = await caisson.followIdentity(id, Uint8Array.fromHex(identity), []);
    const floor = caisson.emptyFloor;
    await caisson.judgeRelease(release, { id, identity: own, measured, now, floor, maximumLogAgeMs: 0, rebuilds: [] });
    return "runs";
  } catch (error) {
    return error.code ?? String(error);
  }
};
`;

const owners = [signer("a"), signer("b", "p256")];
const keys = owners.map(({ publicKey }) => publicKey);
const identity = writeCanonical({
  version: identityVersion,
  name: "app",
  generation: 0,
  previous: null,
  owners: { threshold: 2, keys },
  stop: { threshold: 1, keys },
  rebuild: null,
  secrets: null,
  log: null,
  immutable: null,
});
const measured = { manifest: "aa".repeat(32), description: "bb".repeat(32) };

test("in Chromium: a release runs, and every forged one is refused as in Node", {
  timeout: 120_000,
}, async (t) => {
  const run = await browserPage(t, await bundle(), page);
  const { hash: app } = await readIdentity(identity);
  const unsigned = writeStatement("release", [measured.manifest, measured.description], {
    app,
    generation: 0,
    release: 1,
    previous: null,
    minimum: 1,
    notBefore: "2026-01-01T00:00:00Z",
    expires: "2027-01-01T00:00:00Z",
    notes: "",
  });
  const judge = (envelope: object, what = measured) => {
    const now = Date.parse("2026-06-01T12:00:00Z");
    const input = { identity: identity.toHex(), envelope, measured: what, now };
    return run(input);
  };
  const [a, b] = owners as [Signer, Signer];
  const good = signedBy(unsigned, a, b);
  const [first, second] = good.signatures as [Uint8Array, Uint8Array];
  const outcomes = [
    await judge(writeEnvelope(good)),
    await judge(writeEnvelope({ ...good, signatures: [first, first] })),
    await judge(writeEnvelope({ ...good, signatures: [first, otherForm(second)] })),
    await judge(writeEnvelope(good), { ...measured, manifest: "00".repeat(32) }),
    await judge(writeEnvelope({ ...good, payload: good.payload.subarray(1) })),
  ];
  deepEqual(outcomes, [
    "runs",
    "release/signature",
    "release/signature",
    "release/subject",
    "release/malformed",
  ]);
});
