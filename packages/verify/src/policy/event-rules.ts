// SPDX-License-Identifier: Apache-2.0
/**
 * What the runtime events of a TD prove, and what a policy makes of it.
 *
 * A log proves something only as far as it replays to a register of the quote. RTMR3 carries the guest's own events;
 * root inside the TD can append to it at any time, so that a name counts only at its place in the one expected
 * sequence, before the boundary (its last event); a second event of the same name, anywhere, is a refusal.
 */
import { fold } from "@caisson/measure";
import { dstackDigest } from "@caisson/measure/dstack-log";
import { equal, toHex } from "@caisson/vocabulary/bytes";
import { allBootEvents, bootEvents, bootSequence } from "@caisson/vocabulary/events";
import {
  hex,
  integer,
  list,
  object,
  oneOf,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
import { VerifyError } from "../errors.ts";
import type { LoggedEvent } from "../evidence/evidence.ts";
import type { TdReport } from "../intel/quote.ts";
import type { Answers } from "../report.ts";
import type { Policy } from "./policy.ts";

const none = new Uint8Array();

/**
 * Checks the runtime events against RTMR3 and the policy's sequence. Returns the events of the sequence by name, or
 * undefined when the log proves nothing, in which case nothing may be read from it.
 */
export async function checkRuntimeEvents(
  events: readonly LoggedEvent[],
  td: TdReport,
  policy: Policy,
  answers: Answers,
): Promise<ReadonlyMap<string, Uint8Array> | undefined> {
  // A name with a colon could make two different events encode alike.
  const badName = events.find(({ name }) => !/^[A-Za-z0-9._-]{1,64}$/.test(name));
  if (badName !== undefined) {
    answers.fail("events/name", {
      expected: "1 to 64 of A-Z a-z 0-9 . _ -",
      actual: JSON.stringify(badName.name),
    });
    return undefined;
  }
  const digests: Uint8Array[] = [];
  for (const { name, payload: data, logged = none, encoding = 1 } of events) {
    const digest = await dstackDigest({ name, data, logged, encoding });
    if (digest === undefined) {
      answers.fail("events/runtime-replay", {
        reason: `the log claims a digest for ${name} that is not the one of its name and payload`,
        actual: toHex(logged),
      });
      return undefined;
    }
    digests.push(digest);
  }
  const rtmr3 = await fold(digests);
  if (!equal(rtmr3, td.rtmrs[3])) {
    answers.fail("events/runtime-replay", {
      expected: `${toHex(td.rtmrs[3])} (quote)`,
      actual: `${toHex(rtmr3)} (${events.length} events)`,
    });
    return undefined;
  }
  answers.pass("events/runtime-replay", { actual: `${events.length} events` });

  const sequence: readonly string[] = policy.events?.sequence ?? sequenceFor(policy);
  const names = events.map(({ name }) => name);
  const before = names.slice(0, sequence.length);
  if (!sequenceHolds(before, sequence, names, answers)) return undefined;
  checkAfterBoundary(names.slice(sequence.length), sequence, policy, answers);
  return new Map(events.slice(0, sequence.length).map(({ name, payload }) => [name, payload]));
}

function sequenceHolds(
  before: readonly string[],
  sequence: readonly string[],
  names: readonly string[],
  answers: Answers,
): boolean {
  const facts = { expected: sequence.join(", "), actual: names.join(", ") || "no events" };
  if (before.length === sequence.length && before.every((name, i) => name === sequence[i])) {
    answers.pass("events/sequence", facts);
    return true;
  }
  const upToBoundary = names.slice(0, names.indexOf(sequence.at(-1)!) + 1 || names.length);
  if (upToBoundary.some((name) => !sequence.includes(name))) answers.fail("events/unexpected", facts);
  else if (sequence.some((name) => !names.includes(name))) answers.fail("events/missing", facts);
  else if (new Set(upToBoundary).size !== upToBoundary.length) answers.fail("events/duplicate", facts);
  else answers.fail("events/order", facts);
  return false;
}

function checkAfterBoundary(
  after: readonly string[],
  sequence: readonly string[],
  policy: Policy,
  answers: Answers,
): void {
  const allowed = policy.events?.afterBoundary ?? [];
  const reserved = new Set<string>([...sequence, ...allBootEvents]);
  const refused = after.filter(
    (name) => reserved.has(name.toLowerCase()) || (allowed !== "any" && !allowed.includes(name)),
  );
  if (refused.length > 0) {
    answers.fail("events/after-boundary", {
      expected: `after ${sequence.at(-1)}: ${allowed === "any" ? "any other name" : allowed.join(", ") || "nothing"}`,
      actual: refused.join(", "),
    });
  } else if (allowed === "any" && after.length > 0) {
    answers.notChecked("events/boundary", "the policy lets any other name follow", {
      actual: after.join(", "),
    });
  } else answers.pass("events/boundary", { actual: after.join(", ") || "nothing follows" });
}

/** What a guest measures where the policy does not say: with volumes where it names some. */
const sequenceFor = ({ volumes = "none" }: Policy): readonly string[] =>
  volumes === "none" ? bootEvents : bootSequence(["volumes"]);

type Payloads = ReadonlyMap<string, Uint8Array>;

const appRules = [
  { event: "app-id", field: "id", check: "app/id", wrong: "app/id", unstated: "app/id-not-stated" },
  {
    event: "compose-hash",
    field: "composeHash",
    check: "app/compose-hash",
    wrong: "app/compose-hash",
    unstated: "app/compose-hash-not-stated",
  },
  {
    event: "instance-id",
    field: "instanceId",
    check: "app/instance-id",
    wrong: "app/instance-id",
    unstated: "app/instance-id-not-stated",
  },
] as const;

/** Whether the measured application is one that the policy names. */
export function checkApplication(payloads: Payloads, policy: Policy, answers: Answers): void {
  const { identity, ...stated } = policy.app ?? {};
  // Of an identity, the release says which description.
  const app = identity === undefined ? stated : { composeHash: "any" as const, ...stated, id: [identity.id] };
  for (const { event, field, check, wrong, unstated } of appRules) {
    const accepted = app[field];
    const payload = payloads.get(event);
    const actual = payload === undefined ? `no event ${event}` : toHex(payload);
    if (accepted === undefined)
      answers.fail(unstated, { expected: `app.${field}: a list, or "any"`, actual });
    else if (accepted === "any") answers.notChecked(check, `the policy leaves app.${field} open`, { actual });
    else if (payload !== undefined && accepted.includes(actual)) answers.pass(check, { actual });
    else answers.fail(wrong, { expected: accepted.join(" or "), actual });
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A JSON payload in its one compact spelling (so that no two parsers can read it differently). */
function readJsonPayload<T>(payload: Uint8Array | undefined, schema: Schema<T>): T {
  if (payload === undefined) throw new SchemaError("", "there is no such event");
  let source: string;
  let value: unknown;
  try {
    source = utf8.decode(payload);
    value = JSON.parse(source);
  } catch {
    throw new SchemaError("", "the payload is not JSON in UTF-8");
  }
  if (JSON.stringify(value) !== source) throw new SchemaError("", "the payload is not canonical JSON");
  return schema(value);
}

const volumesEvent = object({
  names: list(text("a volume's name", /^[a-z0-9][a-z0-9_.-]{0,62}$/, 63), 1, 8),
  seed: hex(20),
});

/** Whether the machine opened the volumes that the policy names, and no others, before it asked for keys. */
export function checkVolumes(payloads: Payloads, policy: Policy, answers: Answers): void {
  const rules = policy.volumes;
  if (rules === undefined) return;
  const payload = payloads.get("volumes");
  if (rules === "none" || payload === undefined) {
    const found = { expected: rules === "none" ? "no event volumes" : rules.names.join(", ") };
    if (rules === "none" && payload === undefined)
      answers.pass("app/volumes", { actual: "no persistent volume" });
    else
      answers.fail("app/volumes", {
        ...found,
        actual: payload === undefined ? "no event volumes" : "an event volumes",
      });
    return;
  }
  try {
    const { names, seed } = readJsonPayload(payload, volumesEvent);
    const actual = `${names.join(", ")} of the instance seed ${seed}`;
    const wanted = [...rules.names].sort().join(", ");
    if (names.join(", ") === wanted && (rules.seeds === undefined || rules.seeds.includes(seed))) {
      answers.pass("app/volumes", { actual });
    } else {
      answers.fail("app/volumes", {
        expected: `${wanted}${rules.seeds === undefined ? "" : ` of ${rules.seeds.join(" or ")}`}`,
        actual,
      });
    }
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    answers.fail("app/volumes-malformed", { reason: `volumes: ${error.message}` });
  }
}

const noTime = object({ method: oneOf("none") });
const agreedTime = object({
  method: oneOf("nts"),
  midpoint: integer(0, 8.64e15),
  operators: list(text("an operator's name", /^/, 256), 0, 64),
  origin: oneOf("image", "instance"),
  width: integer(0, 8.64e15),
});
const timePayload: Schema<{ method: "none" } | ReturnType<typeof agreedTime>> = (value) =>
  typeof value === "object" && value !== null && "method" in value && value.method === "none"
    ? noTime(value)
    : agreedTime(value);

/** How far a TD's clock may be ahead of the verifier's, in ms. */
const CLOCK_TOLERANCE = 2000;

/** Whether the TD agreed with enough operators on the time, before it asked for keys. */
export function checkSecureTime(payloads: Payloads, policy: Policy, now: Date, answers: Answers): void {
  const rules = policy.secureTime ?? {};
  if (rules === "any") {
    answers.notChecked("time/secure-time", "the policy leaves secureTime open");
    return;
  }
  let time: ReturnType<typeof timePayload>;
  try {
    time = readJsonPayload(payloads.get("secure-time"), timePayload);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    answers.fail("time/malformed", { reason: `secure-time: ${error.message}` });
    return;
  }
  const methods = rules.methods ?? ["nts"];
  if (!methods.includes(time.method)) {
    answers.fail("time/method", { expected: methods.join(" or "), actual: time.method });
    return;
  }
  if (time.method === "none") {
    answers.pass("time/secure-time", { actual: "the clock is the host's, and the policy accepts that" });
    return;
  }
  const origins = rules.origins ?? ["image"];
  const operators = new Set(time.operators).size;
  const fewest = rules.minimumOperators ?? 3;
  const widest = rules.maximumWidthMs ?? 250;
  const ahead = time.midpoint - time.width / 2 - now.getTime();
  const age = (now.getTime() - time.midpoint) / 1000;
  if (!origins.includes(time.origin)) {
    answers.fail("time/origin", { expected: origins.join(" or "), actual: time.origin });
  } else if (operators < fewest) {
    answers.fail("time/operators", { expected: `at least ${fewest}`, actual: `${operators}` });
  } else if (time.width > widest) {
    answers.fail("time/width", { expected: `at most ${widest} ms`, actual: `${time.width} ms` });
  } else if (ahead > CLOCK_TOLERANCE) {
    answers.fail("time/future", { expected: `at most ${CLOCK_TOLERANCE} ms ahead`, actual: `${ahead} ms` });
  } else if (rules.maximumAgeSeconds !== undefined && age > rules.maximumAgeSeconds) {
    answers.fail("time/age", { expected: `at most ${rules.maximumAgeSeconds} s`, actual: `${age} s` });
  } else {
    answers.pass("time/secure-time", {
      actual: `${operators} operators, ${time.width} ms wide, ${new Date(time.midpoint).toISOString()}`,
    });
  }
}

const providerPayload = object({ id: hex([0, 64]), name: oneOf("kms", "none") });

/** Whether the TD took its keys from a provider that the policy names. */
export function checkKeyProvider(payloads: Payloads, policy: Policy, answers: Answers): void {
  const accepted = policy.keyProviders;
  if (accepted === "any") {
    answers.notChecked("keys/key-provider", "the policy leaves keyProviders open");
    return;
  }
  if (accepted === undefined) {
    answers.fail("keys/key-provider-not-stated", { expected: 'keyProviders: a list, or "any"' });
    return;
  }
  try {
    const { name, id } = readJsonPayload(payloads.get("key-provider"), providerPayload);
    const found = accepted.some((provider) => provider.name === name && provider.id === id);
    const facts = {
      expected: accepted.map((provider) => `${provider.name} ${provider.id}`.trim()).join(" or "),
      actual: `${name} ${id}`.trim(),
    };
    if (found) answers.pass("keys/key-provider", facts);
    else answers.fail("keys/key-provider", facts);
  } catch (error) {
    if (!(error instanceof VerifyError) && !(error instanceof SchemaError)) throw error;
    answers.fail("keys/malformed", { reason: `key-provider: ${error.message}` });
  }
}
