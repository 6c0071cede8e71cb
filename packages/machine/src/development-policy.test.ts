// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notEqual } from "node:assert/strict";
import { test } from "node:test";
import type { Manifest } from "@caisson/image";
import { applicationId } from "@caisson/protocol/guest-config";
import { plainService } from "@caisson/protocol/testing/service";
import { readPolicy } from "@caisson/verify";
import { developmentPolicy } from "./development-policy.ts";

function manifest(name: string, secureTime = true): Manifest {
  const app = { name, services: { [name]: plainService() }, networks: {}, volumes: {} };
  return { name, guest: { app, time: { secure_time: secureTime } } } as unknown as Manifest;
}
const root = `04${"ab".repeat(64)}`;
const whole = { mrtd: "a", rtmr0: "b", rtmr1: "c", rtmr2: "d" };
const policyOf = (references: object, of = manifest("hello")) =>
  readPolicy(developmentPolicy(of, references, root));

const idOf = ({ guest }: Manifest) => applicationId(guest).toHex();

test("a development policy accepts this application on the simulated platform, and nothing else", () => {
  const policy = policyOf(whole);
  deepEqual(policy.platforms, ["emulated"]);
  equal(policy.simulatedRoot, root);
  deepEqual(policy.app?.id, [idOf(manifest("hello"))]);
  equal(policy.app?.composeHash?.length, 1);
  deepEqual(policy.events, { bootLog: "required" });
  // Whose keys a machine has is for the caller to say: no default lets any KMS.
  equal(policy.keyProviders, undefined);
});

test("an application's id follows from its description", () => {
  equal(idOf(manifest("hello")), idOf(manifest("hello", false)));
  notEqual(idOf(manifest("hello")), idOf(manifest("other")));
  // 20 bytes.
  equal(/^[0-9a-f]{40}$/.test(idOf(manifest("hello"))), true);
});

test("a register is left open only where there is no reference value for it", () => {
  deepEqual(policyOf(whole).registers, {});
  const { rtmr0: _, ...others } = whole;
  deepEqual(policyOf({ ...others, rtmr0Events: [] }).registers, { rtmr0: "by-event" });
  const { rtmr2: __, ...withoutLine } = whole;
  deepEqual(policyOf(withoutLine).registers, { rtmr2: "any" });
});

test("the host's sources of time are accepted only of an image that asks them", () => {
  deepEqual(policyOf(whole).secureTime, { origins: ["instance"] });
  deepEqual(policyOf(whole, manifest("hello", false)).secureTime, { methods: ["nts", "none"] });
});
