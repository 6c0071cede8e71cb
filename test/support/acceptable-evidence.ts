// SPDX-License-Identifier: Apache-2.0
/** Evidence of the emulated platform, the only one whose root a policy can name, and a policy that accepts it. */
import { fold, runtimeEventDigest } from "@caisson/measure";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { reportData } from "@caisson/verify";
import { writeEvidenceDocument } from "@caisson/verify/evidence-document";
import { toHex } from "@caisson/vocabulary/bytes";
import { bootEvents } from "@caisson/vocabulary/events";

const at = "2026-06-01T00:00:00Z";
const nonce = new Uint8Array(32).fill(7);
const register = "a1".repeat(48);

/** As documents: `policy` is YAML, `at` the time as of which it is accepted. */
export async function acceptableEvidence() {
  const h = hierarchy("command", {
    issued: new Date("2026-01-01T00:00:00Z"),
    expires: new Date("2027-01-01T00:00:00Z"),
  });
  const { collateral, pckChain, trust } = mint(h);

  const time = {
    method: "nts",
    midpoint: Date.parse(at),
    operators: ["a", "b", "c"],
    origin: "image",
    width: 9,
  };
  const payloads: Record<string, Uint8Array> = {
    "app-id": new Uint8Array(20),
    "compose-hash": new Uint8Array(32),
    "instance-id": new Uint8Array(20),
    "secure-time": new TextEncoder().encode(JSON.stringify(time)),
    "key-provider": new TextEncoder().encode('{"id":"","name":"none"}'),
  };
  const runtimeEvents = bootEvents.map((name) => ({ name, payload: payloads[name] ?? new Uint8Array() }));
  const rtmr3 = await fold(
    await Promise.all(runtimeEvents.map(({ name, payload }) => runtimeEventDigest(name, payload))),
  );
  const quote = issueQuote(h, pckChain, {
    mrTd: register,
    rtmr0: register,
    rtmr1: register,
    rtmr2: register,
    rtmr3: toHex(rtmr3),
    reportData: toHex(await reportData("caisson/app/v1", { nonce })),
  });
  const document = writeEvidenceDocument({
    platform: "emulated",
    quote,
    runtimeEvents,
    reportData: { scheme: "caisson/app/v1", fields: { nonce } },
    collateral,
  });
  const registers = { mrtd: register, rtmr0: register, rtmr1: register, rtmr2: register };
  const manifest = { measurements: { emulated: [registers] } };
  const policy = `
version: caisson/policy/v1
platforms: [emulated]
simulatedRoot: "${toHex(trust.rootKey)}"
tcb: { minimumEvaluationNumber: 18 }
platformIdentities: any
app: { id: any, composeHash: ["${"00".repeat(32)}"], instanceId: any }
keyProviders: [{ name: none, id: "" }]
`;

  return { at, nonce, quote, collateral, document, manifest, policy };
}
