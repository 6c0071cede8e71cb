// SPDX-License-Identifier: Apache-2.0
/** What evidence must show. Only a verifier can judge these; the image and the guest cannot vouch for themselves. */
import type { CheckId } from "@caisson/verify/errors";
import type { Control } from "../control.ts";
import { live, reasonsForNoCheck, verified } from "../expect.ts";
import type { RemoteFacts } from "../facts.ts";
import { group } from "./group.ts";

/** Judged by the verifier alone. */
const report = (checks: [CheckId, string][]): Pick<Control, "static" | "live" | "remote"> => ({
  static: reasonsForNoCheck.verifier,
  live: reasonsForNoCheck.verifier,
  remote: checks.map(([id, meaning]) => verified(id, meaning)),
});

export const attestation = group("attestation", { decision: "remote", source: "intel" }, [
  {
    id: "Q01",
    title: "No debug TD, no surprising attributes",
    why: "A debug TD is an open book; other bits change what isolation means.",
    source: "zksecurity",
    ...report([
      ["td/debug", "the debug byte is zero"],
      ["td/attributes", "attributes are the policy's"],
      ["td/xfam", "XFAM is the policy's"],
    ]),
  },
  {
    id: "Q02",
    title: "A platform whose flaws are patched",
    why: "A genuine processor with known holes is not protection.",
    source: "zksecurity",
    ...report([
      ["tcb/level", "the TCB level is known and not revoked"],
      ["policy/tcb-status", "its status is the policy's"],
      ["policy/advisories", "no open advisory that the policy does not accept"],
    ]),
  },
  {
    id: "Q03",
    title: "No service TD",
    why: "A migration TD could carry the machine elsewhere.",
    source: "dstack",
    ...report([["td/mr-service-td", "MRSERVICETD is zero or the policy's"]]),
  },
  {
    id: "Q04",
    title: "No unexpected configuration id",
    why: "MRCONFIGID and the owner fields are the host's to set, and bound by the quote.",
    source: "dstack",
    ...report([
      ["td/mr-config-id", "MRCONFIGID"],
      ["td/mr-owner", "MROWNER"],
      ["td/mr-owner-config", "MROWNERCONFIG"],
    ]),
  },
  {
    id: "Q05",
    title: "Runtime events are complete, ordered and unique",
    why: "Root can extend RTMR3 at any time; order and boundary make late events visible.",
    source: "dstack",
    static: reasonsForNoCheck.verifier,
    live: [
      live(
        "every event once",
        ({ events }) => events.find((name, i) => events.indexOf(name) !== i),
        ({ events }) => {
          events.push(events[0]!);
        },
      ),
    ],
    remote: [
      verified("events/sequence", "the events of the policy, in order, once"),
      verified("events/boundary", "and nothing after the boundary"),
    ],
  },
  {
    id: "Q06",
    title: "The runtime log is what RTMR3 holds",
    why: "Digests are recomputed from names and payloads, never taken.",
    source: "dstack",
    tests: ["packages/measure/src/logs/rtmr.test.ts"],
    ...report([["events/runtime-replay", "the log replays to RTMR3"]]),
  },
  {
    id: "Q07",
    title: "The guest reads back what it extended",
    why: "Something else writing to the register is seen at once.",
    source: "design",
    tests: ["packages/guest/src/event-log.test.ts"],
    static: reasonsForNoCheck.behaviour,
    live: "what happened before the report cannot be seen in it",
    remote: "a verifier sees the same through Q06",
  },
  {
    id: "Q08",
    title: "Evidence is fresh",
    why: "Yesterday's quote says nothing about today.",
    source: "dstack",
    ...report([["report-data/expected", "the report data bind the verifier's nonce"]]),
  },
  {
    id: "Q09",
    title: "Parsers are bounded",
    why: "Quotes, logs and certificates come from strangers.",
    source: "dstack",
    tests: ["packages/measure/src/hostile.test.ts"],
    ...report([["quote/format", "the quote is well-formed to its last byte"]]),
  },
  {
    id: "Q11",
    title: "Hardware stands behind the evidence",
    why: "The emulated platform shows that everything works, and proves nothing.",
    source: "design",
    development: {
      reason: "the emulated platform signs with a simulated root that only development policies name",
      kinds: ["live", "remote"],
    },
    static: reasonsForNoCheck.verifier,
    live: [
      live(
        "the platform is tdx",
        ({ platform }) => (platform === "tdx" ? undefined : platform),
        (copy) => {
          copy.platform = "emulated";
        },
      ),
    ],
    remote: [
      {
        expects: "the evidence is of platform tdx",
        judge: ({ platform }: RemoteFacts) => (platform === "tdx" ? undefined : (platform ?? "not stated")),
        break(copy: RemoteFacts) {
          copy.platform = "emulated";
        },
      },
      verified("policy/platform", "and the policy accepts it"),
    ],
  },
  {
    id: "Q12",
    title: "The signature chain ends at a pinned root",
    why: "Every certificate is named, valid, unrevoked and allowed to sign what it signs.",
    ...report([
      ["chain/platform", "the PCK chain"],
      ["chain/revocation", "revocation lists for every issuer"],
      ["qe/key-binding", "the attestation key is the quoting enclave's"],
      ["quote/signature", "and it signed this quote"],
    ]),
  },
  {
    id: "Q13",
    title: "The quoting enclave is Intel's",
    why: "Another enclave would sign anything.",
    ...report([
      ["qe/report-signature", "its report is signed by the PCK"],
      ["qe/identity", "and shows Intel's identity"],
    ]),
  },
  {
    id: "Q14",
    title: "Collateral is signed and current",
    why: "Old collateral hides new holes.",
    ...report([
      ["tcb-info/signature", "TCB info is signed"],
      ["tcb-info/content", "and within its dates"],
      ["qe-identity/signature", "so is the enclave identity"],
      ["qe-identity/content", "and it is current"],
    ]),
  },
  {
    id: "Q15",
    title: "The TDX module is known",
    why: "It is the part of the platform that isolates.",
    ...report([["tdx-module/identity", "its identity and signer are in the TCB info"]]),
  },
]);
