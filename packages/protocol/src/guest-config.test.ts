// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notDeepEqual, throws } from "node:assert/strict";
import { test } from "node:test";
import { description, mainPort, parseGuestConfig, publishedPorts, serviceLimit } from "./guest-config.ts";
import { plainService } from "./testing/service.ts";

const config = (app: object = {}) => ({
  version: "caisson/guest/v1",
  flavour: "production",
  epoch: 0,
  commandLine: [],
  app: { name: "hello", services: { hello: plainService() }, networks: {}, volumes: {}, ...app },
  time: { secure_time: true },
});

test("the description is the application's canonical JSON: every field of a service is in it", () => {
  const service = plainService({ healthcheck: undefined });
  const bytes = description(parseGuestConfig(config()));
  const text = new TextDecoder().decode(bytes);
  equal(text.startsWith('{"name":"hello","networks":{},"services":{"hello":{"additionalGroups":[]'), true);
  for (const name of Object.keys(service).filter((key) => key !== "healthcheck")) {
    equal(text.includes(`"${name}":`), true, name);
  }
  notDeepEqual(
    description(parseGuestConfig(config({ services: { hello: plainService({ user: 1001 }) } }))),
    bytes,
  );
});

test("refused: no service, more than the limit, an unknown field, a capability outside the seven, an id of 2^16", () => {
  const many = Array.from({ length: serviceLimit + 1 }, (_, i) => [`s${i}`, plainService()]);
  const refused = [
    {},
    Object.fromEntries(many),
    { hello: { ...plainService(), privileged: true } },
    { hello: { ...plainService(), capabilities: ["SYS_ADMIN"] } },
    { hello: plainService({ user: 65_536 }) },
    { "Not a name": plainService() },
  ];
  for (const services of refused) throws(() => parseGuestConfig(config({ services })));
  parseGuestConfig(config({ services: Object.fromEntries(many.slice(1)) }));
});

test("refused: a front beside dstack's sockets, whichever service has them", () => {
  const front = { port: 8443, service: "hello", target: 8080, names: [], require: "tls" };
  const hello = plainService({ isolation: "contained", ports: [] });
  const other = { ...hello, range: 1 };
  const asking = { dstack: [{ socket: "tappd", target: "/var/run/tappd.sock" }] } as const;
  parseGuestConfig(config({ front, services: { hello, other } }));
  parseGuestConfig(config({ services: { hello, other: { ...other, ...asking } } }));
  for (const services of [
    { hello: { ...hello, ...asking }, other },
    { hello, other: { ...other, ...asking } },
  ])
    throws(() => parseGuestConfig(config({ front, services })), /exclude each other/);
});

test("published ports come in the order of the services' names; the main one is the first over TCP", () => {
  const udp = { protocol: "udp", published: 53, target: 53 } as const;
  const tcp = { protocol: "tcp", published: 80, target: 8080 } as const;
  const app = {
    name: "hello",
    services: { z: plainService({ ports: [tcp] }), a: plainService({ ports: [udp] }) },
    networks: {},
    volumes: {},
  };
  deepEqual(publishedPorts(app), [
    { service: "a", ...udp },
    { service: "z", ...tcp },
  ]);
  equal(mainPort(app), 80);
  equal(mainPort({ ...app, services: { a: plainService({ ports: [] }) } }), undefined);
});
