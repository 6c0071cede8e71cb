// SPDX-License-Identifier: Apache-2.0
import { equal, rejects, throws } from "node:assert/strict";
import { test } from "node:test";
import { isGoogleHost, placeInList } from "./provenance.ts";

const now = new Date("2026-11-26T00:00:00Z");
const answering = (status: number) => async (url: string) => {
  equal(url, "https://storage.googleapis.com/confidential-host-registry/00ff");
  return new Response("", { status });
};

test("Google's register: there, not there, nobody can tell", async () => {
  equal(await isGoogleHost("00ff", { now, fetch: answering(200) }), true);
  equal(await isGoogleHost("00ff", { now, fetch: answering(404) }), false);
  await rejects(isGoogleHost("00ff", { now, fetch: answering(403) }), { code: "collateral/not-served" });
  const fetch = async () => Promise.reject(new TypeError("fetch failed"));
  await rejects(isGoogleHost("00ff", { now, fetch }), { code: "collateral/unreachable" });
});

test("a list of one's own", () => {
  const list = `# ours\n${"ab".repeat(16)} rack 3, unit 7\r\n${"CD".repeat(16)}\n\n`;
  equal(placeInList("AB".repeat(16), list), "rack 3, unit 7");
  equal(placeInList("cd".repeat(16), list), "listed");
  equal(placeInList("ef".repeat(16), list), undefined);
  throws(() => placeInList("ef".repeat(16), "rack 3\n"), { code: "collateral/source" });
});
