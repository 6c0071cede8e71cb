// SPDX-License-Identifier: Apache-2.0
/**
 * What stands behind the web, by docs/application.md alone, in one compose file as people have it: Celery's worker and timer
 * over Redis, a Go service that brings its migrations over PostgreSQL, both behind Caddy; Mosquitto, cron, supervisord,
 * OpenSSH for files alone, dnsmasq. Each is used as its clients do. Needs Go.
 */
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { pbkdf2Sync, randomBytes } from "node:crypto";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { everydayImages } from "../support/everyday.ts";
import { fromNpm } from "../support/pypi.ts";
import { type ServiceMachine, startServices, until, writeSpec } from "../support/services.ts";

const caisson = new URL("../../caisson", import.meta.url).pathname;
const run = promisify(execFile);
const place = mkdtempSync(join(tmpdir(), "caisson-everyday-"));
let machine: ServiceMachine;

/** As `mosquitto_passwd` writes a line. */
function password(name: string, word: string): string {
  const salt = randomBytes(12);
  const hash = pbkdf2Sync(word, salt, 101, 64, "sha512");
  return `${name}:$7$101$${salt.toString("base64")}$${hash.toString("base64")}\n`;
}

/** What lies beside the compose file. */
const files = {
  "mosquitto/config/mosquitto.conf": `persistence true
persistence_location /mosquitto/data/
log_dest stdout
listener 1883
allow_anonymous false
password_file /mosquitto/config/passwords
`,
  "mosquitto/config/passwords": password("me", "word"),
  "caddy/Caddyfile": `{
	local_certs
	skip_install_trust
}
localhost {
	encode gzip
	handle_path /notes-api/* {
		reverse_proxy notes:8000
	}
	reverse_proxy site:8000
	log
}
`,
  "cron/jobs": `SHELL=/bin/sh
* * * * * root echo "cron ran as $(id -u)" > /proc/1/fd/1 2>&1
* * * * * www-data echo "cron ran as $(id -u)" > /tmp/www-data
`,
  "dns/dnsmasq.conf": `no-resolv
no-hosts
address=/caisson.test/192.0.2.7
txt-record=note.caisson.test,seven
log-queries
`,
};

const compose = (from: string): string => `
x-celery: &celery
  image: ${from}:celery
  environment:
    BROKER: redis://redis:6379/0
  depends_on: [redis]
services:
  redis:
    image: ${from}:redis
    command: --save 60 1 --loglevel warning
    volumes: ["redis:/data"]
    restart: unless-stopped
    healthcheck:
      test: ["CMD", "redis-cli", "ping"]
      interval: 10s
  worker:
    <<: *celery
    command: celery -A tasks worker --loglevel=info --concurrency=2
    restart: always
  beat:
    <<: *celery
    command: celery -A tasks beat -s /tmp/celerybeat-schedule --pidfile=
  site:
    <<: *celery
    command: gunicorn --bind 0.0.0.0:8000 --access-logfile - --timeout 300 web:app
  db:
    image: ${from}:postgres
    environment:
      POSTGRES_USER: notes
      POSTGRES_PASSWORD: word
      POSTGRES_DB: notes
    volumes: ["db:/var/lib/postgresql/data"]
    shm_size: 128mb
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -U notes -d notes"]
      interval: 5s
      timeout: 5s
      retries: 100
  notes:
    image: ${from}:notes
    environment:
      - DATABASE_URL=notes:word@db:5432/notes
    depends_on:
      db:
        condition: service_healthy
    restart: on-failure
  caddy:
    image: ${from}:caddy
    restart: unless-stopped
    ports:
      - "80:80"
      - "443:443"
      - "443:443/udp"
    volumes:
      - ./caddy/Caddyfile:/etc/caddy/Caddyfile:ro
      - caddy_data:/data
      - caddy_config:/config
  mosquitto:
    image: ${from}:mosquitto
    container_name: mosquitto
    volumes:
      - ./mosquitto/config:/mosquitto/config:ro
      - mosquitto_data:/mosquitto/data
    ports:
      - 1883:1883
  jobs:
    image: ${from}:cron
    volumes:
      - ./cron/jobs:/etc/cron.d/jobs:ro
  panel:
    image: ${from}:supervisor
    ports: ["8081:80"]
  files:
    image: ${from}:sftp
    ports: ["2222:22"]
    command: me:word:1001
    cap_add: [SYS_CHROOT]
    volumes:
      - ./keys:/home/me/.ssh/keys:ro
      - uploads:/home/me/upload
  dns:
    image: ${from}:dnsmasq
    ports: ["5353:53/udp", "5353:53/tcp"]
    volumes: ["./dns/dnsmasq.conf:/etc/dnsmasq.conf:ro"]
volumes:
  redis:
  db:
  caddy_data:
  caddy_config:
  mosquitto_data:
  uploads:
`;

before(async () => {
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(place, file)), { recursive: true });
    writeFileSync(join(place, file), content);
  }
  mkdirSync(join(place, "keys"));
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(place, "key")]);
  writeFileSync(join(place, "keys/me.pub"), readFileSync(join(place, "key.pub")));
  writeSpec(place, "everyday", compose(await everydayImages()));
  machine = await startServices(place, 3072);
});
after(async () => {
  await machine?.stop();
  rmSync(place, { recursive: true, force: true });
});

const inside = async (service: string, ...words: string[]): Promise<string> =>
  (await run(caisson, ["exec", place, service, ...words])).stdout;
const portOf = (service: string, published: number): number =>
  machine.ports.find((port) => port.service === service && port.published === published)!.host;

/** Asks Caddy by the name of its certificate, which has to lead to `authority`. */
async function ask(
  authority: string,
  where: string,
  body?: unknown,
): Promise<[status: number, text: string]> {
  const asked = request({
    host: "127.0.0.1",
    port: portOf("caddy", 443),
    servername: "localhost",
    path: where,
    ca: authority,
    method: body === undefined ? "GET" : "POST",
    headers: { host: "localhost", "content-type": "application/json" },
    timeout: 120_000,
  });
  asked.end(body === undefined ? undefined : JSON.stringify(body));
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  return [answer.statusCode!, await text(answer)];
}

/** The authority that Caddy makes for itself. */
const authorityOf = (): Promise<string> =>
  inside("caddy", "cat", "/data/caddy/pki/authorities/local/root.crt");

test("Celery's worker multiplies what a site behind Caddy asks, and does what its timer says", async () => {
  await machine.writes("caddy", /certificate obtained successfully/);
  await machine.writes("worker", /celery@worker ready/);
  await machine.writes("site", /Booting worker/);
  const authority = await authorityOf();
  const [status, started] = await ask(authority, "/multiply", [6, 7]);
  equal(status, 202, started);
  const { id } = JSON.parse(started) as { id: string };
  let found: unknown;
  for (let tries = 0; tries < 120; tries += 1) {
    found = JSON.parse((await ask(authority, `/result/${id}`))[1]);
    if ((found as { state: string }).state === "SUCCESS") break;
    await sleep(1000);
  }
  deepEqual(found, { state: "SUCCESS", result: 42 });
  await machine.writes("worker", /ticked/);
  const plain = await fetch(`http://127.0.0.1:${portOf("caddy", 80)}/`, {
    headers: { host: "localhost" },
    redirect: "manual",
  });
  equal(plain.status, 308);
});

test("a Go service migrates its data base, and keeps a note", async () => {
  await machine.writes("notes", /listening/);
  const authority = await authorityOf();
  deepEqual(await ask(authority, "/notes-api/notes", { text: "seven" }), [201, ""]);
  const [, notes] = await ask(authority, "/notes-api/notes");
  deepEqual(JSON.parse(notes), [{ id: 1, text: "seven", tag: "new" }]);
  // A check of its health that takes too long is not a process of its own that crashed.
  doesNotMatch(machine.lines("db").join("\n"), /terminated by signal/);
});

test("Mosquitto lets in who has a password, and passes on what it is told", async () => {
  const { connectAsync } = createRequire(import.meta.url)(join(fromNpm("mqtt@5.16.0"), "mqtt")) as {
    connectAsync(this: void, url: string, options: object): Promise<Client>;
  };
  interface Client extends NodeJS.EventEmitter {
    subscribeAsync(topic: string, options: object): Promise<unknown>;
    publishAsync(topic: string, text: string, options: object): Promise<unknown>;
    endAsync(): Promise<void>;
  }
  const url = `mqtt://127.0.0.1:${portOf("mosquitto", 1883)}`;
  const options = { username: "me", password: "word", connectTimeout: 60_000 };
  const client = await connectAsync(url, options);
  const heard = once(client, "message");
  await client.subscribeAsync("rooms/#", { qos: 2 });
  await client.publishAsync("rooms/seven", "18 degrees", { qos: 2, retain: true });
  deepEqual((await heard).slice(0, 2).map(String), ["rooms/seven", "18 degrees"]);
  await client.endAsync();
  const another = ["-h", "mosquitto", "-u", "me", "-P", "word", "-C", "1", "-t", "rooms/seven"];
  equal(await inside("redis", "mosquitto_sub", ...another), "18 degrees\n");
  const stranger = { ...options, password: "another", reconnectPeriod: 0 };
  await connectAsync(url, stranger).then(
    () => ok(false, "it let in who has another password"),
    (error: Error) => match(error.message, /Not authorized/i),
  );
});

test("cron runs its jobs, each as its user, and root's writes to the log of the container", async () => {
  await machine.writes("jobs", /cron ran as 0/);
  let found = "";
  for (let tries = 0; found === "" && tries < 90; tries += 1) {
    await sleep(1000);
    found = await inside("jobs", "sh", "-c", "cat /tmp/www-data || true");
  }
  equal(found, "cron ran as 33\n");
});

test("supervisord runs nginx and a site behind its socket, which write where it does", async () => {
  const answered = await until(
    () => fetch(`http://127.0.0.1:${portOf("panel", 8081)}/`),
    (_, { status }) => status === 200,
  );
  equal(answered, "33\n");
  await machine.writes("panel", /"GET \/ HTTP\/1.1" 200/);
  const states = await inside("panel", "supervisorctl", "status");
  deepEqual(
    states
      .trim()
      .split("\n")
      .map((line) => line.split(/ +/).slice(0, 2)),
    [
      ["gunicorn", "RUNNING"],
      ["nginx", "RUNNING"],
    ],
  );
});

test("OpenSSH takes a file, shut into its user's directory, and no command", async () => {
  await machine.writes("files", /Server listening/);
  const flags = ["-F", "/dev/null", "-i", join(place, "key"), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]; // biome-ignore format: one line
  const port = String(portOf("files", 2222));
  writeFileSync(join(place, "sent"), randomBytes(300_000));
  writeFileSync(
    join(place, "batch"),
    `put ${place}/sent upload/one\nget upload/one ${place}/back\nls -1 /\n`,
  );
  const { stdout } = await run("sftp", ["-b", join(place, "batch"), ...flags, "-P", port, "me@127.0.0.1"]);
  deepEqual(readFileSync(join(place, "back")), readFileSync(join(place, "sent")));
  match(stdout, /\n\/upload\n/);
  equal(await inside("files", "stat", "-c", "%u:%G", "/home/me/upload/one"), "1001:users\n");
  await run("ssh", [...flags, "-p", port, "me@127.0.0.1", "id"]).then(
    () => ok(false, "it ran a command"),
    ({ code, stderr }: { code: number; stderr: string }) => ok(code !== 0, stderr),
  );
});

test("dnsmasq answers by UDP", async () => {
  const resolver = new Resolver({ timeout: 20_000, tries: 3 });
  resolver.setServers([`127.0.0.1:${portOf("dns", 5353)}`]);
  deepEqual(await resolver.resolve4("www.caisson.test"), ["192.0.2.7"]);
  deepEqual(await resolver.resolveTxt("note.caisson.test"), [["seven"]]);
});

test("told to end, each ends as it should", async () => {
  await machine.vm.powerDown(120_000);
  const ended = {
    db: /database system is shut down/,
    notes: /stopped/,
    worker: /Warm shutdown/,
    mosquitto: /terminating/,
  };
  for (const [service, line] of Object.entries(ended)) match(machine.lines(service).join("\n"), line);
});
