// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { firewall } from "./firewall.ts";

/** NFTA_META_KEY (attribute 2, eight bytes) with NFT_META_OIFNAME, 7: include/uapi/linux/netfilter/nf_tables.h. */
const outgoing = Buffer.from("0800020000000007", "hex");
const incoming = Buffer.from("0800020000000006", "hex");
const bytes = ({ body }: { body: readonly Uint8Array[] }): Buffer => Buffer.concat(body);
/** Rules of the chain `forward` that look at where a packet came from and accept it. */
const forwarding = (rules: Parameters<typeof firewall>[0]): Buffer[] =>
  firewall(rules)
    .map(bytes)
    .filter((rule) => rule.includes("forward\0") && rule.includes(incoming) && rule.includes("svc"))
    .filter((rule) => !/limit\0|reject\0/.test(rule.toString("latin1")));

const rules: Parameters<typeof firewall>[0] = {
  all: { network: "172.28.0.0", bits: 16 },
  networks: [{ network: "172.28.1.0", bits: 24 }],
  guest: ["172.28.1.1"],
  free: ["172.28.1.2"],
  allowed: [{ from: "172.28.1.3", to: { network: "192.0.2.7", bits: 32 }, port: 443 }],
  published: [],
};

test("whatever a service sends to others is accepted for one way out alone: the other service's, or outside", () => {
  const found = forwarding(rules);
  // One network, one free service, TCP and UDP of one that may reach one host.
  equal(found.length, 4);
  for (const rule of found) ok(rule.includes(outgoing), rule.toString("hex"));
});

test("between services the way out is a service's interface, so that an address that none has leads nowhere", () => {
  const [between] = forwarding({ ...rules, free: [], allowed: [] });
  const after = between!.subarray(between!.indexOf(outgoing) + outgoing.length);
  ok(after.includes("svc"));
  ok(!between!.includes("eth0"));
});

test("without networks and egress no rule forwards what a service sends", () => {
  deepEqual(forwarding({ ...rules, networks: [], free: [], allowed: [] }), []);
});

/** Names of the rules' last expressions but verdicts, chain by chain, in their order. */
const kinds = (chain: string): string[] =>
  firewall(rules)
    .map((message) => bytes(message).toString("latin1"))
    .filter((rule) => rule.includes(`\0${chain}\0`))
    .flatMap((rule) => /(notrack|connlimit|limit|reject)\0/.exec(rule)?.[1] ?? []);

test("what services may not send is refused after all rules; what they begin outside is limited before it is let through", () => {
  // Two services reach something outside.
  deepEqual(kinds("forward"), ["limit", "connlimit", "limit", "connlimit", "reject"]);
  const last = firewall(rules).findLastIndex((message) => bytes(message).includes("forward\0"));
  ok(bytes(firewall(rules)[last]!).includes("reject\0"));
});

test("between services nothing is tracked", () => {
  deepEqual(kinds("tracking"), ["notrack"]);
});

test("what a service answers the guest is tracked: a rule for the guest's address comes before", () => {
  const tracking = firewall(rules)
    .map(bytes)
    .filter((rule) => rule.includes("tracking\0") && rule.includes("svc"));
  equal(tracking.length, 2);
  ok(tracking[0]!.includes(Buffer.from("ac1c0101", "hex")) && !tracking[0]!.includes("notrack"));
  ok(tracking[1]!.includes("notrack\0"));
});

test("the front reaches one port of one service, over the services' interfaces, and nothing else by that rule", () => {
  const peers = [{ from: "172.28.2.34", to: "172.28.1.2", port: 8080 }];
  const before = forwarding({ ...rules, networks: [], free: [], allowed: [] });
  const found = forwarding({ ...rules, networks: [], free: [], allowed: [], peers });
  equal(found.length, before.length + 1);
  const added = found.find((rule) => !before.some((other) => other.equals(rule)))!;
  for (const part of ["ac1c0222", "ac1c0102", "1f90"]) ok(added.includes(Buffer.from(part, "hex")), part);
  ok(added.includes(outgoing));
  ok(!added.includes("eth0"));
});

/** NFTA_DATA_VERDICT (nested attribute 2) with its code (attribute 1): NF_DROP is 0, NF_ACCEPT is 1. */
const [drops, accepts] = ["00", "01"].map((code) => Buffer.from(`0c00028008000100000000${code}`, "hex"));

test("a service gets no answer from the guest itself, but to what the guest began", () => {
  const found = firewall(rules)
    .map(bytes)
    // A chain has its hook's name; a rule of it, an expression.
    .filter((message) => message.includes("input\0") && message.includes("immediate\0"));
  deepEqual(
    found.map((rule) => [rule.includes("svc"), rule.includes(drops!), rule.includes(accepts!)]),
    [
      [false, false, true],
      [true, true, false],
    ],
  );
});

test("who may go out is named by address", () => {
  const [free] = forwarding({ ...rules, networks: [], allowed: [] });
  ok(free!.includes(Buffer.of(172, 28, 1, 2)) && free!.includes(accepts!));
  for (const allowed of forwarding({ ...rules, networks: [], free: [] })) {
    ok(allowed.includes(Buffer.of(172, 28, 1, 3)) && allowed.includes(Buffer.of(192, 0, 2, 7)));
  }
});
