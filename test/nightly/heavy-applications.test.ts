// SPDX-License-Identifier: Apache-2.0
/** Java, Go and Rust on empty images, Node for musl; each used by a client. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { heavyImages } from "../support/heavy-applications.ts";
import { type ServiceMachine, startServices, writeSpec } from "../support/services.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-heavy-"));
let machine: ServiceMachine;

const compose = (images: string): string => `
services:
  java:
    image: ${images}:java
    ports: ["8080:8080"]
    mem_limit: 800m
    cpus: 0.9
  go:
    image: ${images}:go
    ports: ["8081:80"]
    networks: [default]
  rust:
    image: ${images}:rust
    ports: ["8082:8080"]
  node:
    image: ${images}:node
    ports: ["8083:80"]
`;

before(async () => {
  writeSpec(place, "heavy", compose(await heavyImages()));
  machine = await startServices(place, 2048);
});
after(async () => {
  await machine?.stop();
  rmSync(place, { recursive: true, force: true });
});

const said = async (service: string): Promise<string> =>
  (await fetch(`http://127.0.0.1:${machine.portOf(service)}/`)).text();

test("a JVM sizes its heap and counts its processors by the service's limits", async () => {
  await machine.writes("java", /started/);
  const { heap, processors } = JSON.parse(await said("java")) as { heap: number; processors: number };
  // A quarter of the limit, which collectors round.
  ok(heap > 180 * 2 ** 20 && heap <= 201 * 2 ** 20, `${heap / 2 ** 20} MiB`);
  equal(processors, 1);
});

test("a static Go program on nothing resolves names, lists interfaces, and serves port 80 as nobody", async () => {
  equal(await said("go"), "65532 1 true 2 1\n");
});

test("a static Rust program on nothing writes to its root", async () => {
  equal(await said("rust"), "rust\n");
});

test("Node for musl runs", async () => {
  deepEqual(JSON.parse(await said("node")), ["musl", 1000]);
});
