// SPDX-License-Identifier: Apache-2.0
/**
 * Ordinary images, unmodified: a web application over Redis and PostgreSQL with health checks and a one-shot migration,
 * nginx beside it, entry points that start as root, a client that uses all of them; a service with a first process of the
 * platform's, one with a capability that its owner asked for, and a neighbour that fills its layer and floods its log.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { judgeFresh } from "@caisson/machine/relying-party";
import { readPolicy, readReferences } from "@caisson/verify";
import { capableImage, ordersImage } from "../support/applications.ts";
import { debianImage } from "../support/debian-image.ts";
import { type ServiceMachine, startServices, writeSpec } from "../support/services.ts";

const caisson = new URL("../../caisson", import.meta.url).pathname;
const place = mkdtempSync(join(tmpdir(), "caisson-containers-"));
let session: ServiceMachine;

const migration = `create table orders (id serial primary key, item text not null);
insert into orders (item) values ('anchor');
`;

/** Starts processes that lose their parent, says which of them nobody reaped, and waits to be told to end. */
const parent = `import os, signal, subprocess, sys, time
def told(*_):
    print("told", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, told)
for _ in range(3): subprocess.run(["sh", "-c", "sleep 0.2 &"])
time.sleep(2)
states = [open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] for pid in os.listdir("/proc") if pid.isdigit()]
print(os.getpid() == 1, open("/proc/1/comm").read().strip(), states.count("Z"), flush=True)
signal.pause()
`;

/** What a service sees of keys and of the guest's socket, its own and its neighbours'. */
const secrets = `import os, socket
found = [os.path.join(at, name) for at, _, names in os.walk("/run") for name in names]
keys = [path for path in found if "secrets" in path]
mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
shown = sum(path.startswith("/run/") for path in mounts)
pids = [pid for pid in os.listdir("/proc") if pid.isdigit()]
print(len(keys), os.path.exists("/run/caisson.sock"), shown, len(pids) < 5, os.path.exists("/app"), flush=True)
`;

/**
 * What a service finds of secrets and sockets that are not its own: it has the uid of its neighbours, names their files,
 * and looks at everything that it can see. Writes its own secrets, and what of the others' it got hold of.
 */
const trespass = `import glob, json, os, re, socket, stat
own = {name: len(open("/run/secrets/" + name).read()) for name in os.listdir("/run/secrets")} if os.path.isdir("/run/secrets") else {}
found = []
for at, directories, names in os.walk("/"):
    directories[:] = [name for name in directories if at != "/" or name not in ("proc", "sys")]
    found += [os.path.join(at, name) for name in names]
def kind(path):
    try: return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError: return False
sockets = [path for path in found if kind(path)]
named = ["/run/secrets/" + name for name in ("caisson-key", "left", "right")]
named += ["/run/caisson.sock", "/run/dstack.sock", "/run/tappd.sock", "/var/run/dstack.sock"]
named += [root + path for root in glob.glob("/proc/*/root") for path in named]
named += [path for root in glob.glob("/proc/*/fd") for path in glob.glob(root + "/*")]
mine = ["/run/secrets/" + name for name in own] + sockets
got = []
for path in named:
    plain = re.sub("^/proc/[^/]+/root", "", path).replace("/var/run/", "/run/")
    try:
        if plain in mine or "/fd/" in path and not re.search("secret|key|caisson", os.path.realpath(path)): continue
        # What another service mounts a socket on is an empty file in the image that they share.
        if kind(path): socket.socket(socket.AF_UNIX).connect(path)
        elif not open(path).read(): continue
        got.append(path)
    except OSError: pass
given = [name for name in ("LEFT", "RIGHT") if len(os.environ.get(name, "")) == 32]
print(json.dumps([own, sockets, got, given]), flush=True)
`;

const raw = `import socket
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
print("raw", [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")][0])
`;
/** What programs look for in a container; prints what is not there. */
const expects = `import errno, os, pty, pwd, socket, stat
def refused(family):
    try: socket.socket(family, socket.SOCK_STREAM)
    except OSError as error: return error.errno == errno.EAFNOSUPPORT
def echo():
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    asking.settimeout(10)
    asking.sendto(bytes([8, 0, 0, 0, 0, 0, 0, 1]), ("127.0.0.1", 0))
    return asking.recv(64)[0] == 0
def writes(place):
    open(place + "/written", "w").close()
    return True
looked = {
    "standard output is a pipe": lambda: stat.S_ISFIFO(os.fstat(1).st_mode),
    "/dev/stdout opens": lambda: open("/dev/stdout", "w").close() is None,
    "a terminal of its own": lambda: os.isatty(pty.openpty()[1]),
    "a named pipe": lambda: os.mkfifo("/tmp/pipe") is None,
    "its interfaces": lambda: {"lo"} < {name for _, name in socket.if_nameindex()},
    "loopback of IPv6": lambda: socket.socket(socket.AF_INET6).bind(("::1", 0)) is None,
    "echo": echo,
    "families that are not there": lambda: refused(40) and refused(38),
    "its control group": lambda: open("/proc/self/cgroup").read() == "0::/\\n",
    "its memory limit": lambda: open("/sys/fs/cgroup/memory.max").read() == "100663296\\n",
    "localhost and its own name": lambda: all(map(socket.gethostbyname, ["localhost", os.uname().nodename])),
    "a resolver": lambda: "nameserver" in open("/etc/resolv.conf").read(),
    "a name for its number": lambda: pwd.getpwuid(os.getuid()).pw_name != "",
    "places to write": lambda: all(map(writes, ["/tmp", "/var/tmp", "/dev/shm", "/own"])),
}
def holds(look):
    try: return look()
    except Exception: return False
print([name for name, look in looked.items() if not holds(look)], flush=True)
`;
const python = (script: string): string => JSON.stringify(["python3", "-c", script]);

const compose = (images: string, image = `${images}:latest`): string => `
services:
  web:
    image: ${images}:web
    environment:
      PORT: 3000
      DATABASE_URL: postgres://shop:word@db/shop
      REDIS_URL: redis://cache:6379
    ports: ["8080:3000"]
    secrets: [caisson-key]
    networks: [default, data]
    x-caisson: { socket: true }
    healthcheck:
      test: [CMD, node, -e, "fetch('http://127.0.0.1:3000/health').then(({ ok }) => process.exit(ok ? 0 : 1))"]
      interval: 20s
      start_period: 300s
    depends_on:
      cache: { condition: service_healthy }
      migrate: { condition: service_completed_successfully }
  static:
    image: ${image}
    entrypoint: [/entry/nginx.sh]
    environment: { UPSTREAM: shop }
    ports: ["8081:80"]
    stop_signal: SIGQUIT
    depends_on: { web: { condition: service_healthy } }
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
    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: word, POSTGRES_DB: shop }
    stop_signal: SIGINT
    volumes: ["db:/var/lib/postgresql/data"]
    networks: [default, data]
    healthcheck: { test: "pg_isready -h 127.0.0.1 -U postgres", interval: 5s, start_period: 300s }
  migrate:
    image: ${image}
    user: postgres
    environment: { PGPASSWORD: word }
    command: [psql, -q, -h, db, -U, shop, -v, ON_ERROR_STOP=1, -f, /migration.sql]
    volumes: ["./migration.sql:/migration.sql:ro"]
    networks: [data]
    depends_on: { db: { condition: service_healthy } }
  client:
    image: ${image}
    user: "1234:1234"
    environment: { PGPASSWORD: word }
    entrypoint: [/bin/sh, -c]
    command:
      - |
        whoami
        redis-cli -h cache set colour blue
        redis-cli -h cache save
        redis-cli -h cache get colour
        psql -h db -U shop -Atc 'select item from orders'
        exec 3<>/dev/null; id -u
    depends_on: { migrate: { condition: service_completed_successfully } }
  parent:
    image: ${image}
    init: true
    command: ${python(parent)}
  curious:
    image: ${image}
    command: ${python(secrets)}
    depends_on: { web: { condition: service_started } }
  left:
    image: ${image}
    user: "1234"
    command: ${python(trespass)}
    environment: [LEFT]
    x-caisson: { environment: { LEFT: left } }
    volumes: ["/var/run/dstack.sock:/var/run/dstack.sock"]
  right:
    image: ${image}
    user: "1234"
    command: ${python(trespass)}
    secrets: [right]
    x-caisson: { socket: true }
  neither:
    image: ${image}
    command: ${python(trespass)}
  expecting:
    image: ${image}
    user: "1234"
    mem_limit: 96m
    tmpfs: ["/own:mode=1777"]
    command: ${python(expects)}
  pinger:
    image: ${images}:capable
    user: "1234"
    cap_add: [NET_RAW, CHOWN]
    command: ${python(raw)}
  modest:
    image: ${images}:capable
    user: "1234"
    command: [sh, -c, ${JSON.stringify(`python3 -c '${raw.replaceAll("'", '"')}' 2>&1 | tail -1`)}]
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
secrets:
  caisson-key: { external: true }
  left: { external: true }
  right: { external: true }
volumes: { cache: , db: }
`;

before(async () => {
  const images = await debianImage({ web: await ordersImage(), capable: await capableImage() });
  writeSpec(place, "shop", compose(images), "  api: dstack\n");
  writeFileSync(join(place, "migration.sql"), migration);
  session = await startServices(place, 1536, true);
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

test("a web application over Redis and PostgreSQL starts after its migration, and keeps what it is told", async () => {
  const at = `http://127.0.0.1:${session.portOf("web")}/orders`;
  const order = (item: string): RequestInit => ({
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ item }),
  });
  for (const [index, item] of ["rope", "buoy"].entries()) {
    const response = await fetch(at, order(item));
    deepEqual([response.status, await response.json()], [201, { id: index + 2 }]);
  }
  deepEqual(await (await fetch(at)).json(), {
    count: 2,
    orders: ["anchor", "rope", "buoy"].map((item, index) => ({ id: index + 1, item })),
  });
  const states = session.vm.events.flatMap((event) =>
    event.kind === "service" && ["db", "cache", "migrate", "web"].includes(event.service)
      ? [`${event.service} ${event.state}`]
      : [],
  );
  const first = (text: string): number => states.indexOf(text);
  ok(first("db healthy") < first("migrate running") && first("migrate completed") < first("web running"));
  ok(first("cache healthy") < first("web running") && first("web running") < first("web healthy"));
});

test("nginx serves port 80 as its own user, and its log links lead to the console", async () => {
  const response = await fetch(`http://127.0.0.1:${session.portOf("static")}/`);
  equal(await response.text(), "upstream is shop\n");
  await session.writes("static", /GET \/ HTTP\/1.1" 200/);
});

test("a client of an unknown user has a name, and uses both data bases by their names", async () => {
  await session.reaches("client", "completed");
  equal(session.lines("client").join(), "service,OK,OK,blue,anchor,1234");
});

test("with init, the first process is the platform's, and reaps what lost its parent", async () => {
  await session.writes("parent", /^False init 0$/);
});

test("a service sees no key, socket, process or file of another's", async () => {
  await session.reaches("curious", "completed");
  equal(session.lines("curious").join(), "0 False 0 True False");
  const own =
    "fs=require('fs');console.log(fs.readFileSync('/run/secrets/caisson-key','latin1').length,fs.existsSync('/run/caisson.sock'))";
  const { stdout } = await promisify(execFile)(caisson, ["exec", place, "web", "node", "-e", own]);
  equal(stdout, "64 true\n");
});

test("no service has a secret or a socket that its owner gave to another, though both have one uid and root tries", async () => {
  const finds = async (service: string): Promise<unknown> => {
    await session.reaches(service, "completed");
    return JSON.parse(session.lines(service).join("\n"));
  };
  deepEqual(await finds("left"), [{ left: 32 }, ["/run/dstack.sock"], [], ["LEFT"]]);
  deepEqual(await finds("right"), [{ right: 32 }, ["/run/caisson.sock"], [], []]);
  deepEqual(await finds("neither"), [{}, [], [], []]);
});

test("a service finds what programs expect of a container", async () => {
  await session.reaches("expecting", "completed");
  deepEqual(session.lines("expecting"), ["[]"]);
});

test("a user that is not root has the capability that a file of its image has and its owner asks for, and no other", async () => {
  await session.reaches("pinger", "completed");
  equal(session.lines("pinger").join(), "raw 0000000000002000");
  await session.reaches("modest", "completed");
  match(session.lines("modest").join(), /Operation not permitted/);
});

test("Redis answers from outside with what the client saved", async () => {
  equal(await redis("GET colour"), "$4\r\nblue\r\n");
});

test("a neighbour that fills its layer and floods its log disturbs nobody", async () => {
  await session.writes("noisy", /lines were left out/);
  equal(await redis("PING"), "+PONG\r\n");
  equal((await fetch(`http://127.0.0.1:${session.portOf("static")}/`)).status, 200);
});

test("told to end, each service ends by its own signal, and the data base has shut down", async () => {
  await session.vm.powerDown(60_000);
  match(session.lines("db").join("\n"), /database system is shut down/);
  equal(session.lines("parent").at(-1), "told");
});
