// SPDX-License-Identifier: Apache-2.0
/**
 * Ordinary images, unmodified: nginx, Redis and PostgreSQL with entry points that start as root, a one-shot migration, a
 * client that uses all three, and a neighbour that fills its layer and floods its log.
 */
import { equal, match } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { judgeFresh } from "@caisson/machine/relying-party";
import { readPolicy, readReferences } from "@caisson/verify";
import { debianImage } from "../support/debian-image.ts";
import { type ServiceMachine, startServices, writeSpec } from "../support/services.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-containers-"));
let session: ServiceMachine;

const compose = (image: string): string => `
services:
  web:
    image: ${image}
    entrypoint: [/entry/nginx.sh]
    environment: { UPSTREAM: shop }
    ports: ["8080:80"]
    stop_signal: SIGQUIT
    depends_on:
      cache: { condition: service_healthy }
      migrate: { condition: service_completed_successfully }
  cache:
    image: ${image}
    entrypoint: [/entry/redis.sh]
    working_dir: /data
    volumes: ["cache:/data"]
    ports: ["6379:6379"]
    healthcheck: { test: [CMD, redis-cli, ping], interval: 5s }
  db:
    image: ${image}
    entrypoint: [/entry/postgres.sh]
    stop_signal: SIGINT
    volumes: ["db:/var/lib/postgresql/data"]
    networks: [default, data]
    healthcheck: { test: "pg_isready -h 127.0.0.1 -U postgres", interval: 5s, start_period: 300s }
  migrate:
    image: ${image}
    user: postgres
    entrypoint: [/bin/sh, -c]
    command: ["psql -q -h db -U postgres -c 'create table visits (n int)' -c 'insert into visits values (42)'"]
    networks: [data]
    depends_on: { db: { condition: service_healthy } }
  client:
    image: ${image}
    user: "1234:1234"
    entrypoint: [/bin/sh, -c]
    command:
      - |
        whoami
        redis-cli -h cache set colour blue
        redis-cli -h cache save
        redis-cli -h cache get colour
        psql -h db -U postgres -Atc 'select n from visits'
        exec 3<>/dev/null; id -u
    depends_on: { web: { condition: service_started } }
  noisy:
    image: ${image}
    entrypoint: [/bin/sh, -c]
    command: ["dd if=/dev/zero of=/fill bs=1M 2>&1 | tail -1; yes noise"]
    mem_limit: 128m
    x-caisson: { layer: 32m }
    pids_limit: 8
    depends_on: { client: { condition: service_completed_successfully } }
networks:
  default:
  data: { internal: true }
volumes: { cache: , db: }
`;

before(async () => {
  writeSpec(place, "shop", compose(await debianImage()));
  session = await startServices(place, 1536);
});
after(async () => {
  await session?.stop();
  rmSync(place, { recursive: true, force: true });
});

/** What Redis answers to one inline command over its published port. */
function redis(command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(session.portOf("cache"), "127.0.0.1", () => socket.write(`${command}\r\n`));
    socket.setEncoding("utf8").once("data", (answer) => {
      socket.destroy();
      resolve(String(answer));
    });
    socket.once("error", reject);
  });
}

test("the machine is verified, whatever runs in it", async () => {
  const report = await judgeFresh(await session.evidence(), {
    policy: readPolicy(session.policy),
    references: readReferences(session.references, "references"),
    collateral: session.collateral,
    now: new Date(),
  });
  equal(report.verdict, "accepted", report.codes.join());
});

test("nginx serves port 80 as its own user, and its log links lead to the console", async () => {
  const response = await fetch(`http://127.0.0.1:${session.portOf("web")}/`);
  equal(await response.text(), "upstream is shop\n");
  await session.writes("web", /GET \/ HTTP\/1.1" 200/);
});

test("a client of an unknown user has a name, and uses both data bases by their names", async () => {
  await session.reaches("client", "completed");
  equal(session.lines("client").join(), "service,OK,OK,blue,42,1234");
});

test("Redis answers from outside with what the client saved", async () => {
  equal(await redis("GET colour"), "$4\r\nblue\r\n");
});

test("a neighbour that fills its layer and floods its log disturbs nobody", async () => {
  await session.writes("noisy", /lines were left out/);
  equal(await redis("PING"), "+PONG\r\n");
  equal((await fetch(`http://127.0.0.1:${session.portOf("web")}/`)).status, 200);
});

test("told to end, each service ends by its own signal, and the data base has shut down", async () => {
  await session.vm.powerDown(60_000);
  match(session.lines("db").join("\n"), /database system is shut down/);
});
