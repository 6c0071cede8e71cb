// SPDX-License-Identifier: Apache-2.0
/**
 * Servers as others deploy them, by docs/application.md alone: MariaDB, RabbitMQ, a registry behind HAProxy whose
 * configuration is a file of the project, memcached. Entry points are in the manner of the official images.
 */
import { equal, match } from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { muslImage } from "../support/applications.ts";
import { debianRoot, path } from "../support/debian-image.ts";
import { mariadbImage } from "../support/mariadb.ts";
import { kept, writeImages } from "../support/oci-layout.ts";
import { type ServiceMachine, startServices, writeSpec } from "../support/services.ts";

const caisson = new URL("../../caisson", import.meta.url).pathname;
const run = promisify(execFile);
const place = mkdtempSync(join(tmpdir(), "caisson-servers-"));
let machine: ServiceMachine;

const rabbitmq = `#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  find /var/lib/rabbitmq \\! -user rabbitmq -exec chown rabbitmq: '{}' +
  exec gosu rabbitmq "$0" "$@"
fi
exec "$@"
`;
const registry = `version: 0.1
storage: { filesystem: { rootdirectory: /var/lib/registry } }
http: { addr: ":5000" }
`;
const packages = ["mariadb-server", "rabbitmq-server", "docker-registry", "haproxy", "memcached", "gosu"];

async function images(): Promise<string> {
  const root = await debianRoot("strangers", packages);
  const mariadb = mariadbImage(root, false);
  return kept("servers", { root, mariadb, rabbitmq, registry }, (directory) =>
    writeImages(directory, {
      mariadb,
      rabbitmq: {
        layers: [root, { "usr/local/bin/docker-entrypoint.sh": rabbitmq }],
        config: {
          Env: [path, "HOME=/var/lib/rabbitmq", "LANG=C.UTF-8"],
          Entrypoint: ["docker-entrypoint.sh"],
          Cmd: ["/usr/lib/rabbitmq/bin/rabbitmq-server"],
          Volumes: { "/var/lib/rabbitmq": {} },
        },
      },
      registry: {
        layers: [root, { "etc/registry.yml": registry }],
        config: {
          Env: [path],
          Entrypoint: ["docker-registry"],
          Cmd: ["serve", "/etc/registry.yml"],
          Volumes: { "/var/lib/registry": {} },
        },
      },
      haproxy: {
        layers: [root],
        config: {
          Env: [path],
          User: "haproxy",
          Cmd: ["haproxy", "-W", "-db", "-f", "/etc/haproxy/front.cfg"],
          StopSignal: "SIGUSR1",
        },
      },
      memcached: { layers: [root], config: { Env: [path], User: "memcache", Cmd: ["memcached"] } },
    }),
  );
}

const front = `defaults
  mode http
  timeout connect 5s
  timeout client 120s
  timeout server 120s
frontend all
  bind :80
  default_backend registry
backend registry
  server one registry:5000 check
`;

const compose = (from: string): string => `
services:
  db:
    image: ${from}:mariadb
    volumes: [db:/var/lib/mysql]
    mem_limit: 600m
  queue:
    image: ${from}:rabbitmq
    hostname: queue
    ports: ["5672:5672"]
    mem_limit: 600m
  registry:
    image: ${from}:registry
  front:
    image: ${from}:haproxy
    volumes: ["./conf/front.cfg:/etc/haproxy/front.cfg:ro"]
    ports: ["8080:80"]
    depends_on: [registry]
  cache:
    image: ${from}:memcached
    ports: ["11211:11211"]
    tmpfs: [/tmp]
    read_only: true
volumes: { db: }
`;

before(async () => {
  mkdirSync(join(place, "conf"));
  writeFileSync(join(place, "conf/front.cfg"), front);
  writeSpec(place, "servers", compose(await images()));
  machine = await startServices(place, 3072);
});
after(async () => {
  await machine?.stop();
  rmSync(place, { recursive: true, force: true });
});

/** What a service answers to these bytes, at once. */
function answer(service: string, bytes: string | Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect(machine.portOf(service), "127.0.0.1", () => socket.write(bytes));
    socket.once("data", (found) => {
      socket.destroy();
      resolve(found as Buffer);
    });
    socket.once("error", reject).once("close", () => reject(new Error("it was closed")));
  });
}

test("MariaDB makes its data base, and a user of it asks over the network", async () => {
  await machine.reaches("db", "healthy");
  const rows = async (service: string, ...args: string[]): Promise<string> =>
    (await run(caisson, ["exec", place, service, "mariadb", ...args])).stdout;
  const user =
    "create database shop; create user shop@'%' identified by 'word'; grant all on shop.* to shop@'%'";
  equal(await rows("db", "-e", user), "");
  const asked = ["-h", "db", "-ushop", "-pword", "-Ne", "select database(), 6 * 7", "shop"];
  equal(await rows("queue", ...asked), "shop\t42\n");
});

test("RabbitMQ answers AMQP", async () => {
  await machine.writes("queue", /completed with|Server startup complete/);
  match((await answer("queue", Buffer.from("AMQP\0\0\x09\x01", "latin1"))).toString("latin1"), /RabbitMQ/);
});

test("a registry behind HAProxy takes an image and gives it back", async () => {
  const image = `docker://127.0.0.1:${machine.portOf("front")}/team/app:1`;
  await run("skopeo", ["copy", "--dest-tls-verify=false", `oci:${await muslImage()}`, image]);
  const { stdout } = await run("skopeo", ["inspect", "--tls-verify=false", image]);
  equal((JSON.parse(stdout) as { RepoTags: string[] }).RepoTags.join(), "1");
});

test("memcached keeps a value", async () => {
  equal((await answer("cache", "set a 0 0 1\r\nx\r\n")).toString(), "STORED\r\n");
  equal((await answer("cache", "get a\r\n")).toString(), "VALUE a 0 1\r\nx\r\nEND\r\n");
});

test("told to end, MariaDB shuts down as it should", async () => {
  await machine.vm.powerDown(120_000);
  match(machine.lines("db").join("\n"), /Shutdown complete/);
});
