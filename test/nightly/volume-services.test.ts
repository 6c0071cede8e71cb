// SPDX-License-Identifier: Apache-2.0
/**
 * Ordinary images on persistent volumes, as a compose file names them: PostgreSQL and Redis with entry points that start as
 * root and give the volume to a user of their own, a reader in another range of ids, and a service whose image fills its
 * volume. QEMU is killed, and everything is there again, with its owners; two disks that are exchanged are refused.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { appendFileSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import pg from "pg";
import { debianImage } from "../support/debian-image.ts";
import { launchServices, type ServiceMachine, startServices, writeSpec } from "../support/services.ts";
import { diskOf } from "../support/volume-disk.ts";
import { ending } from "../support/volume-host.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-volume-services-"));
const memory = 1536;
let machine: ServiceMachine;

const compose = (image: string): string => `
services:
  db:
    image: ${image}
    entrypoint: [/entry/postgres.sh]
    environment: { POSTGRES_USER: me, POSTGRES_PASSWORD: word, POSTGRES_DB: kept }
    stop_signal: SIGINT
    ports: ["5432:5432"]
    volumes: ["db:/var/lib/postgresql/data"]
    healthcheck: { test: "pg_isready -h 127.0.0.1 -U postgres", interval: 5s, start_period: 300s }
  cache:
    image: ${image}
    entrypoint: [/entry/redis.sh]
    command: [--appendonly, "yes", --appendfsync, always]
    working_dir: /data
    volumes: ["cache:/data"]
  site:
    image: ${image}
    entrypoint: [/bin/sh, -c]
    command:
      - |
        stat -c '%n %U:%G %a' /etc/redis /etc/redis/*
        head -c 21 /etc/redis/redis.conf; echo
        echo changed it completely > /etc/redis/redis.conf
        touch /etc/redis/new; chattr +C /etc/redis/new 2>&1 | grep -o 'not permitted'
        rm /etc/redis/new; sync; echo written
    volumes: ["site:/etc/redis"]
  reader:
    image: ${image}
    entrypoint: [/bin/sh, -c]
    command:
      - |
        stat -c '%U %a' /db /db/PG_VERSION
        touch /db/mine 2>&1 | grep -o 'Read-only file system'
        redis-cli -h cache incr starts
        stat -c '%U' /data /data/appendonlydir
    volumes: ["db:/db:ro", "cache:/data"]
    depends_on: { db: { condition: service_healthy } }
volumes: { db: , cache: , site: }
`;

before(async () => {
  const image = await debianImage();
  const size = (name: string) => `  ${name}: { size: 256MiB }\n`;
  writeSpec(place, "kept", compose(image));
  appendFileSync(join(place, "caisson.yaml"), `\nvolumes:\n${["db", "cache", "site"].map(size).join("")}`);
});
after(async () => {
  machine?.vm.kill();
  await machine?.stop();
  rmSync(place, { recursive: true, force: true });
});

async function sql(text: string): Promise<unknown[]> {
  const client = new pg.Client({
    host: "127.0.0.1",
    port: machine.portOf("db"),
    user: "me",
    password: "word",
    database: "kept",
    connectionTimeoutMillis: 60_000,
    query_timeout: 120_000,
  });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

/** What the two services that look at volumes say. */
async function seen(): Promise<{ site: string[]; reader: string[] }> {
  await Promise.all([machine.reaches("site", "completed"), machine.reaches("reader", "completed")]);
  return { site: machine.lines("site"), reader: machine.lines("reader") };
}

/** As the image has them, without the set-group-id bit, which images do not keep. */
const owners = ["/etc/redis redis:redis 770", "/etc/redis/redis.conf redis:redis 640"];
const reader = (starts: number) => ["postgres 700", "postgres 600", "Read-only file system", `${starts}`];

test("a new volume begins with what the image has there, and belongs to whom the service gives it", async () => {
  machine = await startServices(place, memory);
  const { site, reader: lines } = await seen();
  deepEqual(site, [...owners, "# Redis configuration", "not permitted", "written"]);
  deepEqual(lines, [...reader(1), "redis", "redis"]);
  match(machine.lines("db").join("\n"), /initialised/);
  await sql("create table kept (n int primary key, t text)");
  await sql("insert into kept select n, repeat(md5(n::text), 32) from generate_series(1, 2000) n");
});

test("after kill -9 of QEMU the data base recovers by itself, and every volume is as it was left", async () => {
  await sql("insert into kept values (2001, 'the last one')");
  machine.vm.kill();
  await machine.stop();
  machine = await startServices(place, memory);
  const { site, reader: lines } = await seen();
  deepEqual(site, [...owners, "changed it completely", "not permitted", "written"]);
  deepEqual(lines, [...reader(2), "redis", "redis"]);
  const log = machine.lines("db").join("\n");
  ok(!log.includes("initialised"), log);
  deepEqual(await sql("select count(*)::int as n, max(t) filter (where n = 2001) as t from kept"), [
    { n: 2001, t: "the last one" },
  ]);
  deepEqual(await sql("select n from kept where t <> repeat(md5(n::text), 32) and n <= 2000"), []);
});

test("a machine that is told to end closes its data base, and opens it again", async () => {
  await machine.vm.powerDown(120_000);
  match(machine.lines("db").join("\n"), /database system is shut down/);
  await machine.stop();
});

test("two disks that are exchanged are refused, whoever both belong to", async () => {
  const { state } = machine;
  const swap = () => {
    renameSync(diskOf(state, "db"), join(state, "third"));
    renameSync(diskOf(state, "cache"), diskOf(state, "db"));
    renameSync(join(state, "third"), diskOf(state, "cache"));
  };
  swap();
  machine = await launchServices(place, memory);
  equal(await machine.vm.event(({ kind }) => kind === "ready"), undefined);
  equal(ending(machine).reason, "keys/denied/volume/other-disk");
  await machine.stop();
  swap();
  machine = await startServices(place, memory);
  deepEqual(await sql("select count(*)::int as n from kept"), [{ n: 2001 }]);
});
