// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import type { AppDescription } from "@caisson/protocol/guest-config";
import { plainService } from "@caisson/protocol/testing/service";
import { rulesOf } from "./network.ts";
import { namesFor, planNetwork } from "./plan.ts";

const on = (range: number, networks: string[], change = {}) =>
  plainService({
    isolation: "contained",
    range,
    hostname: `host${range}`,
    networks: Object.fromEntries(networks.map((name) => [name, { aliases: [`${name}-alias-${range}`] }])),
    ports: [],
    ...change,
  });

const app: AppDescription = {
  name: "t",
  services: {
    web: on(0, ["front", "back"], { ports: [{ protocol: "tcp", published: 8080, target: 80 }] }),
    db: on(1, ["back"], { egress: "none" }),
    alone: on(2, [], { egress: { to: ["192.0.2.7:443"] } }),
  },
  networks: { front: { internal: false }, back: { internal: true } },
  volumes: {},
};
const plan = planNetwork(app, ["127.0.0.1", "10.0.2.15"]);

test("each service has an address in each of its networks, and one without networks has one of its own", () => {
  const addresses = Object.fromEntries(
    Object.entries(plan.links).map(([name, links]) => [
      name,
      links.map(({ network, address, inner }) => `${network ?? "own"} ${address} ${inner.name}`),
    ]),
  );
  deepEqual(addresses, {
    web: ["back 172.28.0.2 eth0", "front 172.28.1.2 eth1"],
    db: ["back 172.28.0.3 eth0"],
    alone: ["own 172.28.2.4 eth0"],
  });
});

test("no address, outer name or number is there twice, and names fit into an interface's", () => {
  const links = Object.values(plan.links).flat();
  for (const values of [
    links.map(({ address }) => address),
    links.map(({ outer }) => outer.name),
    links.map(({ outer }) => String(outer.index)),
  ])
    equal(new Set(values).size, values.length);
  ok(links.every(({ outer }) => outer.name.length < 16));
});

test("the machine's own network is not the services'", () => {
  ok(planNetwork(app, ["172.28.3.4"]).all.network.startsWith("10.201."));
  ok(planNetwork(app, ["172.28.3.4", "10.201.1.1"]).all.network.startsWith("192.168."));
});

test("a service finds itself, and others by the networks that both are on", () => {
  deepEqual(namesFor(app, plan, "db"), [
    ["172.28.0.3", ["host1", "db", "back-alias-1"]],
    ["172.28.0.2", ["web", "host0", "back-alias-0"]],
  ]);
  deepEqual(namesFor(app, plan, "alone"), [["172.28.2.4", ["host2", "alone"]]]);
});

test("egress and published ports go by networks that are not internal", () => {
  const allowed = { alone: [{ to: { network: "192.0.2.7", bits: 32 }, port: 443 }] };
  const rules = rulesOf(app, plan, allowed);
  deepEqual(rules.free, ["172.28.1.2"]);
  deepEqual(rules.allowed, [{ from: "172.28.2.4", to: { network: "192.0.2.7", bits: 32 }, port: 443 }]);
  deepEqual(rules.published, [{ protocol: "tcp", port: 8080, address: "172.28.1.2", target: 80 }]);
});

test("a plain service has no link: it is on the guest's own network", () => {
  const single = { ...app, services: { hello: plainService() } };
  deepEqual(planNetwork(single, []).links, {});
});
