// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import test from "node:test";
import { KeyError, type KeyErrorCode } from "./key-client.ts";
import { withPatience } from "./patience.ts";

/** Fails in turn as told, then succeeds; what was waited for. */
async function run(...failures: [KeyErrorCode, denial?: string][]) {
  const pauses: number[] = [];
  let calls = 0;
  const exchange = async () => {
    const failure = failures[calls++];
    if (failure !== undefined) throw new KeyError(failure[0], "no", failure[1]);
    return "keys";
  };
  const result = withPatience(exchange, async (ms) => pauses.push(ms));
  return { result: await result, pauses };
}

test("what may pass is asked again, in growing pauses", async () => {
  deepEqual(await run(), { result: "keys", pauses: [] });
  const passing = [["keys/unreachable"], ["keys/refused"], ["keys/denied", "log/unavailable"]] as const;
  equal((await run(...passing.map((one) => [...one] as [KeyErrorCode, string?]))).result, "keys");
  const { pauses } = await run(["keys/unreachable"], ["keys/denied", "policy/changed"]);
  deepEqual(pauses, [1000, 2000]);
});

test("it ends, and what does not pass ends it at once", async () => {
  await rejects(run(...Array.from({ length: 5 }, () => ["keys/unreachable"] as [KeyErrorCode])), {
    code: "keys/unreachable",
  });
  for (const failure of [["keys/denied", "td/debug"], ["keys/signature"], ["keys/time"]] as const) {
    await rejects(run([...failure] as [KeyErrorCode, string?]), { code: failure[0] });
  }
});
