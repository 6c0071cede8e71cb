// SPDX-License-Identifier: Apache-2.0
/** Keys, and the rules under which they leave the key service. */
import { NotApplicable, type Test } from "../control.ts";
import { inSource, live, reasonsForNoCheck, rootCovered, verified } from "../expect.ts";
import type { RemoteFacts } from "../facts.ts";
import { group } from "./group.ts";

/** As `verified`, where the policy names an application's identity: only then is a release judged. */
function ifReleased(...question: Parameters<typeof verified>): Test<RemoteFacts> {
  const [id] = question;
  const asked = verified(...question);
  return {
    ...asked,
    judge: (facts) =>
      facts.report.checks.some((one) => one.id === id)
        ? asked.judge(facts)
        : new NotApplicable("the policy names no identity"),
  };
}

export const keyRelease = group("key release", { decision: "remote", source: "dstack" }, [
  {
    id: "X01",
    title: "The whole tuple decides",
    why: "A policy that leaves out a register releases keys to whatever that register would have shown.",
    source: "zksecurity",
    static: reasonsForNoCheck.kms,
    live: reasonsForNoCheck.kms,
    remote: [verified("registers/reference", "MRTD and RTMR0 to RTMR2 match one reference together")],
  },
  {
    id: "X02",
    title: "The key service is measured before it is asked",
    why: "Whose keys these are is part of the evidence.",
    static: inSource("packages/guest/src/stages/keys.ts"),
    live: [
      live(
        "key-provider comes after boot-mr-done and before system-ready",
        ({ events }) => {
          const at = ["boot-mr-done", "key-provider", "system-ready"].map((name) => events.indexOf(name));
          return at[0]! >= 0 && at[0]! < at[1]! && at[1]! < at[2]! ? undefined : events.join(", ");
        },
        (copy) => {
          copy.events = copy.events.filter((name) => name !== "key-provider");
        },
      ),
    ],
    remote: [verified("keys/key-provider", "the measured key service is the policy's")],
  },
  {
    id: "X03",
    title: "Evidence is bound to its exchange",
    why: "A replayed or relayed quote does not carry this nonce and this key.",
    tests: ["packages/guest/src/key-client.test.ts"],
    static: reasonsForNoCheck.behaviour,
    live: "a report is not an exchange",
    remote: [
      verified("report-data/preimage", "the quoted report data is the hash of the stated fields"),
      verified("report-data/expected", "and they hold the expected nonce"),
    ],
  },
  {
    id: "X04",
    title: "Derivation contexts cannot be confused",
    why: "Fields are length-prefixed, and purpose and version take part.",
    tests: ["packages/protocol/src/derivation.test.ts", "packages/vocabulary/src/frame.test.ts"],
    static: reasonsForNoCheck.kms,
    live: reasonsForNoCheck.kms,
    remote: "a property of code, not of evidence: the named tests show it",
  },
  {
    id: "X05",
    title: "Application and instance are measured",
    why: "The host may choose the instance's seed, not pretend to another one's id.",
    static: inSource("packages/guest/src/stages/identity.ts"),
    live: [
      live(
        "app-id, compose-hash and instance-id before boot-mr-done",
        ({ events }) => {
          const end = events.indexOf("boot-mr-done");
          return ["app-id", "compose-hash", "instance-id"].find(
            (name) => !events.slice(0, end).includes(name),
          );
        },
        (copy) => {
          copy.events = copy.events.filter((name) => name !== "instance-id");
        },
      ),
    ],
    remote: [
      verified("app/id", "the application is the policy's"),
      verified("events/sequence", "the instance was measured in its place"),
    ],
  },
  {
    id: "X06",
    title: "Answers of the key service are signed, and sealed to the quoted key",
    why: "Nobody in between reads or replaces them.",
    tests: ["packages/guest/src/key-client.test.ts", "packages/protocol/src/hpke.test.ts"],
    static: reasonsForNoCheck.behaviour,
    live: "a report is not an exchange",
    remote: "a property of the exchange, not of evidence: the named tests show it",
  },
  {
    id: "X08",
    title: "A failure leaves no key, and no weaker mode",
    why: "The stage fails, the console says why, the machine ends.",
    tests: ["packages/guest/src/key-client.test.ts"],
    static: reasonsForNoCheck.behaviour,
    live: [
      live(
        "no key file without a measured key service",
        ({ files, events }) =>
          files.some(({ path }) => path === "/run/caisson/app-key") && !events.includes("key-provider")
            ? "there is one"
            : undefined,
        (copy) => {
          copy.files.push({ path: "/run/caisson/app-key", mode: 0o400, uid: 1000, size: 64 });
          copy.events = copy.events.filter((name) => name !== "key-provider");
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "X09",
    title: "Owners' secrets are measured before they are given",
    why: "A verifier sees which set is in use, and a service gets none that was not measured.",
    tests: ["packages/guest/src/stages/secrets.test.ts", "packages/kms/src/secrets.test.ts"],
    static: reasonsForNoCheck.behaviour,
    live: [
      live(
        "a secret's file only after the event secrets, between key-provider and system-ready",
        ({ files, events }) => {
          if (!files.some(({ path }) => /^\/run\/caisson\/.*-key-/.test(path))) return undefined;
          const at = ["key-provider", "secrets", "system-ready"].map((name) => events.indexOf(name));
          return at[0]! >= 0 && at[0]! < at[1]! && at[1]! < at[2]! ? undefined : events.join(", ");
        },
        (copy) => {
          copy.files.push({ path: "/run/caisson/app-key-DB_URL", mode: 0o400, uid: 1000, size: 8 });
          copy.events = copy.events.filter((name) => name !== "secrets");
        },
      ),
    ],
    remote: "an image without secrets measures none: the policy's events.sequence says whether it must",
  },
  {
    id: "X10",
    title: "A release counts as the log of its application's identity shows it",
    why: "Owners' signatures say that they released it; the log, that everybody is shown it, and what ended it.",
    source: "design",
    tests: ["packages/releases/src/log/proof.test.ts", "packages/kms/src/followed-log.test.ts"],
    static: reasonsForNoCheck.kms,
    live: reasonsForNoCheck.kms,
    remote: [
      ifReleased("app/release", "owners signed the release, and it is neither revoked nor below the minimum"),
      ifReleased("app/log", "it is in the log that the identity names, if it names one, as a quorum saw it"),
    ],
  },
]);
