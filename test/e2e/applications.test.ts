// SPDX-License-Identifier: Apache-2.0
/**
 * Applications that nobody wrote for Caisson, each used by a client: Python's, Node's and PHP's servers, a root of musl, a
 * worker that nobody can reach, jobs; and neighbours that bring none of them down.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { newLogKey } from "../../packages/cli/src/log-key.ts";
import { applicationImages, muslImage } from "../support/applications.ts";
import { type Resolver, startResolver } from "../support/resolver.ts";
import { type ServiceMachine, startServices, writeSpec } from "../support/services.ts";

const caisson = new URL("../../caisson", import.meta.url).pathname;
const place = mkdtempSync(join(tmpdir(), "caisson-applications-"));
let machine: ServiceMachine;
let resolver: Resolver;
/** What services find outside; two ports of it, of which one is on a list. */
const outside: Server[] = [];
const [listed, unlisted] = [0, 1].map((index) => () => (outside[index]!.address() as AddressInfo).port) as [
  () => number,
  () => number,
];

/** Asks a port of a host and says what came of it. */
const reach = (port: number, host = "api.example"): string =>
  `python3 -c 'import urllib.request as r; print(r.urlopen("http://${host}:${port}/", timeout=5).read().decode())' 2>&1 | tail -1`;

const udp = `import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 53))
while True:
    text, client = server.recvfrom(512)
    server.sendto(text[::-1], client)
`;

/** Takes what the kernel counts for all services together, and then asks the guest without a pause, eight at a time. */
const hog = `import ctypes, os, socket, threading, time
libc = ctypes.CDLL(None)
watches = sum(libc.inotify_init() >= 0 for _ in range(300))
timer = ctypes.c_void_p()
timers = sum(libc.timer_create(1, None, ctypes.byref(timer)) == 0 for _ in range(9000))
queues = sum(libc.mq_open(b"/q%d" % n, os.O_CREAT | os.O_RDWR, 0o600, None) >= 0 for n in range(40))
print("holds", watches, timers > 1000, queues > 5, flush=True)
until = time.monotonic() + 10
def flood():
    while time.monotonic() < until:
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.connect("/run/caisson.sock")
                one.sendall(b"GET /info HTTP/1.1\\r\\nhost: guest\\r\\nconnection: close\\r\\n\\r\\n")
                one.recv(1000)
        except OSError:
            pass
threads = [threading.Thread(target=flood) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
`;
const modest = `import ctypes, os
libc = ctypes.CDLL(None)
timer = ctypes.c_void_p()
print(libc.inotify_init() >= 0, libc.timer_create(1, None, ctypes.byref(timer)) == 0, libc.mq_open(b"/q", os.O_CREAT | os.O_RDWR, 0o600, None) >= 0)
`;

/** Waits for children that it never started, and says how many there were. */
const childless = `import os, time
strangers, until = 0, time.monotonic() + 15
while time.monotonic() < until:
    try:
        os.waitpid(-1, 0)
        strangers += 1
    except ChildProcessError:
        time.sleep(0.2)
print("strangers", strangers, flush=True)
`;

const compose = (images: string, musl: string): string => `
x-api: &api
  extra_hosts: ["api.example:10.0.2.2"]
services:
  flask:
    image: ${images}:flask
    ports: ["8000:8000"]
    volumes: ["notes:/srv/data"]
    mem_limit: 192m
  asgi:
    image: ${images}:asgi
    ports: ["8001:8000"]
    read_only: true
    tmpfs: ["/tmp"]
  node:
    image: ${images}:node
    ports: ["3000:3000"]
    mem_limit: 256m
    x-caisson: { egress: none }
  php:
    image: ${images}:php
    environment: { GREETING: good day }
    expose: ["9000"]
  web:
    image: ${images}:web
    environment: { FPM: php }
    ports: ["8080:8080"]
    depends_on: [php]
  musl:
    image: ${musl}
    ports: ["8002:80"]
  names:
    image: ${images}:flask
    ports: ["5353:53/udp"]
    command: ["python3", "-c", ${JSON.stringify(udp)}]
    healthcheck: { disable: true }
    stop_signal: SIGKILL
  worker:
    <<: *api
    image: ${images}:flask
    networks: [alone]
    healthcheck: { disable: true }
    stop_signal: SIGKILL
    x-caisson: { egress: ["api.example:${listed()}"] }
    command: ["sh", "-c", ${JSON.stringify(`${reach(listed())}; ${reach(unlisted())}; exec sleep infinity`)}]
  finder:
    image: ${images}:flask
    networks: [alone]
    healthcheck: { disable: true }
    stop_signal: SIGKILL
    x-caisson: { egress: ["listed.example:${listed()}"] }
    command: ["sh", "-c", ${JSON.stringify(
      [
        reach(listed(), "listed.example"),
        reach(unlisted(), "listed.example"),
        reach(listed(), "other.example"),
      ]
        .concat("exec sleep infinity")
        .join("; "),
    )}]
  failing:
    image: ${images}:flask
    entrypoint: [sh, -c, "echo began >> /tmp/runs; wc -l < /tmp/runs; exit 3"]
    healthcheck: { disable: true }
    restart: on-failure:2
  flaky:
    image: ${images}:flask
    entrypoint: [sh, -c, "test -e /tmp/began && exec sleep infinity; touch /tmp/began"]
    healthcheck: { disable: true }
    restart: always
    stop_signal: SIGKILL
  bomb:
    image: ${images}:flask
    entrypoint: [sh, -c, "echo begins; b() { b | b & }; b 2>/dev/null; sleep 8; echo over"]
    pids_limit: 48
    mem_limit: 64m
    healthcheck: { disable: true }
    depends_on:
      flask: { condition: service_healthy }
      asgi: { condition: service_healthy }
  hog:
    image: ${images}:flask
    command: ["python3", "-c", ${JSON.stringify(hog)}]
    healthcheck: { disable: true }
    x-caisson: { socket: true }
    depends_on: { bomb: { condition: service_completed_successfully } }
  checked:
    image: ${images}:flask
    command: ["python3", "-c", ${JSON.stringify(childless)}]
    healthcheck: { test: [CMD-SHELL, "sleep 4; true"], interval: 2s, timeout: 1s, retries: 1, start_period: 0s }
  maps:
    image: ${musl}
    entrypoint: [/usr/local/bin/server, churn]
    depends_on: { hog: { condition: service_completed_successfully } }
networks: { default: , alone: }
volumes: { notes: }
`;

before(async () => {
  for (const name of ["listed", "unlisted"]) {
    const server = createServer((_, response) => response.end(`${name} answers`)).listen(0, "127.0.0.1");
    await once(server, "listening");
    outside.push(server);
  }
  resolver = await startResolver({ "listed.example": "10.0.2.2", "other.example": "10.0.2.2" });
  process.env["PATH"] = resolver.path;
  const owner = newLogKey(join(place, "owner.key"));
  const text = compose(await applicationImages(), await muslImage());
  writeSpec(place, "shop", text, `  logs: { to: [${owner}] }\n`);
  machine = await startServices(place, 2048);
});
after(async () => {
  await machine?.stop();
  resolver?.stop();
  for (const server of outside) server.close();
  rmSync(place, { recursive: true, force: true });
});

const at = (service: string, path = ""): string => `http://127.0.0.1:${machine.portOf(service)}/${path}`;
const said = async (service: string, path = ""): Promise<unknown> => (await fetch(at(service, path))).json();
const post = (body: object): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});

test("Flask under gunicorn keeps notes in SQLite, as its own user, in a volume", async () => {
  for (const text of ["bread", "butter"])
    equal((await fetch(at("flask", "notes"), post({ text }))).status, 201);
  deepEqual(await said("flask", "notes"), ["bread", "butter"]);
  deepEqual(await said("flask"), { uid: 33, client: "10.0.2.2", home: "/var/www" });
});

test("an ASGI application under uvicorn runs with a read-only root and SQLite in a tmpfs", async () => {
  const first = (await said("asgi")) as { uid: number; hits: number };
  equal(first.uid, 1500);
  equal(((await said("asgi")) as { hits: number }).hits, first.hits + 1);
});

test("Express answers, its native addon works, WebSockets pass, and it sees its memory limit", async () => {
  deepEqual(await said("node"), { uid: 1000, addons: 1, masked: "`cbe", limit: 256 << 20 });
  deepEqual(await (await fetch(at("node", "sum"), post([1, 2, 3]))).json(), { sum: 6 });
  const socket = new WebSocket(at("node").replace("http", "ws"));
  await once(socket, "open");
  socket.send("hello");
  const [{ data }] = (await once(socket, "message")) as [MessageEvent<string>];
  equal(data, "HELLO");
  socket.close();
});

test("PHP-FPM behind nginx keeps a session, is not root, and its log leads to the console", async () => {
  const first = await fetch(at("web"));
  deepEqual(await first.json(), { visits: 1, uid: 33, greeting: "good day" });
  const cookie = first.headers.get("set-cookie")!.split(";")[0]!;
  deepEqual(await (await fetch(at("web"), { headers: { cookie } })).json(), {
    visits: 2,
    uid: 33,
    greeting: "good day",
  });
  await machine.writes("php", /visited/);
  await machine.writes("web", /"GET \/ HTTP\/1\.1" 200/);
});

test("a root of musl and busybox starts as root, drops, and finds its neighbour by name", async () => {
  match(await (await fetch(at("musl"))).text(), /^hello from web, 172\.28\.\d+\.\d+\n$/);
});

test("a UDP port below 1024 is reached, by a user that is not root", async () => {
  const client = createSocket("udp4");
  const answer = once(client, "message");
  // Datagrams may be lost; the second answer comes to nobody.
  const again = setInterval(() => client.send("abc", machine.portOf("names"), "127.0.0.1"), 1_000);
  const [reversed] = (await answer) as [Buffer];
  clearInterval(again);
  client.close();
  equal(reversed.toString(), "cba");
});

test("egress by name and port lets that through and nothing else; none lets nothing through", async () => {
  await machine.writes("worker", /listed answers/);
  await machine.writes("worker", /No route to host/);
  ok(!machine.lines("worker").some((line) => line.includes("unlisted")));
  match(await (await fetch(at("node", `fetch?url=http://10.0.2.2:${listed()}/`))).text(), /EHOSTUNREACH/);
});

test("egress by a name of DNS: its address is known from the start, other ports and names are not reached", async () => {
  await machine.writes("finder", /name resolution/);
  const [found, port, name] = machine.lines("finder");
  equal(found, "listed answers");
  match(port!, /No route to host|unreachable/);
  match(name!, /Temporary failure in name resolution/);
  const words = ["exec", place, "flask", "getent", "hosts", "other.example"];
  const { stdout } = await promisify(execFile)(caisson, words);
  match(stdout, /^10\.0\.2\.2 +other\.example/);
  match(await (await fetch(at("node", "fetch?url=http://other.example/"))).text(), /EAI_AGAIN/);
});

test("a service that fails is started again as often as it says, and keeps what it wrote; one that ends is, too", async () => {
  await machine.reaches("failing", "failed");
  deepEqual(machine.lines("failing"), ["1", "2", "3"]);
  const starts = (service: string) =>
    machine.vm.events.filter(
      (event) => event.kind === "service" && event.service === service && event.state === "running",
    ).length;
  equal(starts("failing"), 3);
  equal(starts("flaky"), 2);
});

test("a check that takes too long is ended with all that it started, and nothing of it falls to the service", async () => {
  await machine.reaches("checked", "unhealthy");
  await machine.writes("checked", /^strangers/);
  deepEqual(machine.lines("checked"), ["strangers 0"]);
});

test("a command beside a service runs as its user, gets its input, and its status is what it ends with", async () => {
  const child = spawn(caisson, ["exec", place, "flask", "sh", "-c", "cat; id -u; exit 5"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin.end("hello\n");
  equal(await text(child.stdout), "hello\n33\n");
  equal(child.exitCode ?? (await once(child, "exit"))[0], 5);
});

test("the machine is audited by its spec, though nothing in it serves a report", async () => {
  const { stdout } = await promisify(execFile)(caisson, ["audit", "--live", place, "--graph"], {
    timeout: 60_000,
  });
  match(stdout, /^development guest on emulated, kernel \d/);
  match(stdout, /● nginx \(\d+\)  \/usr\/sbin\/nginx/);
});

test("beside a fork bomb the others answer, and it ends by itself", async () => {
  await machine.writes("bomb", /begins/);
  const [first, second] = [await said("flask", "notes"), await said("asgi")];
  deepEqual(first, ["bread", "butter"]);
  ok(second !== undefined);
  await machine.reaches("bomb", "completed");
  equal((await fetch(at("musl"))).status, 200);
});

test("one that takes what all share, and floods its socket, takes nothing from the others", async () => {
  const answers = async (): Promise<number> => {
    const began = performance.now();
    for (let n = 0; n < 10; n++) await said("flask");
    return performance.now() - began;
  };
  const before = await answers();
  await machine.writes("hog", /holds 300 True True/);
  const child = spawn(caisson, ["exec", place, "flask", "python3", "-c", modest], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const during = await answers();
  equal(await text(child.stdout), "True True True\n");
  await machine.reaches("hog", "completed");
  // Before and after it, as other work on this machine may begin or end meanwhile.
  const without = Math.max(before, await answers());
  ok(during < 8 * without, `ten answers took ${during} ms beside the flood, ${without} ms without`);
});

test("one that changes the map of its memory while it reads it does not stop the machine", async () => {
  await machine.reaches("maps", "completed");
  equal((await fetch(at("musl"))).status, 200);
});

test("the owner of the key opens what was encrypted of the log, to its end, and nobody else does", async () => {
  await machine.vm.powerDown(60_000);
  const logs = async (key: string) => {
    const args = ["logs", place, "--json", "--key", key];
    const { stdout } = await promisify(execFile)(caisson, args, { maxBuffer: 1 << 26 });
    return JSON.parse(stdout) as {
      lines: { service: string; line: string }[];
      ended: boolean;
      altered: number;
    };
  };
  const opened = await logs(join(place, "owner.key"));
  deepEqual([opened.ended, opened.altered], [true, 0]);
  deepEqual(
    opened.lines.filter(({ service }) => service === "failing").map(({ line }) => line),
    ["1", "2", "3"],
  );
  newLogKey(join(place, "other.key"));
  deepEqual((await logs(join(place, "other.key"))).lines, []);
});
