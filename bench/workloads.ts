// SPDX-License-Identifier: Apache-2.0
/**
 * Several services in one machine: what each further one costs in time, memory and image, what the network between them
 * costs beside plain crun on the same kernel, and how soon a changed service runs. How a build grows with
 * its images is in `image.ts`.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Row } from "@caisson/cli/commands/bench";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { readSpec } from "@caisson/image";
import { applicationImages, muslImage } from "../test/support/applications.ts";
import { debianImage } from "../test/support/debian-image.ts";
import { type ServiceMachine, startServices, writeSpec } from "../test/support/services.ts";
import { Asking, type Counts, repeated } from "./peer/emulator.ts";
import { plainCrun, type Trial } from "./peer/plain-crun.ts";

const repository = new URL("../", import.meta.url).pathname;
const MiB = 2 ** 20;
/** Of each machine. */
const memory = 1536;

/** Runs a command beside a service; what it printed. */
const inside = (place: string, ...words: string[]): string =>
  execFileSync(join(repository, "caisson"), ["exec", place, ...words], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }); // biome-ignore format: one line

/** Makes the image of a compose file, for as long as `use` takes. */
async function withImage<T>(compose: string, use: (place: string) => Promise<T>): Promise<T> {
  const place = mkdtempSync(join(tmpdir(), "caisson-workloads-"));
  try {
    writeSpec(place, "bench", compose);
    await prepare(await readSpec(place), "development", {}, new Progress());
    return await use(place);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** Starts that image; `seconds` is how long it took until all services were as they should be. */
async function running<T>(
  place: string,
  use: (machine: ServiceMachine, seconds: number) => Promise<T> | T,
): Promise<T> {
  const began = performance.now();
  const machine = await startServices(place, memory);
  try {
    return await use(machine, (performance.now() - began) / 1000);
  } finally {
    await machine.stop();
  }
}

/** Small web servers, each with a health check of its own. */
const servers = (image: string, count: number): string =>
  `services:\n${Array.from(
    { length: count },
    (_, n) => `  web${n}:
    image: ${image}
    entrypoint: [/bin/busybox, httpd, -f, -p, "80", -h, /etc]
    stop_signal: SIGKILL
    healthcheck: { test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/group"], interval: 2s, start_period: 120s }
`,
  ).join("")}`;

async function* healthy(): AsyncGenerator<Row> {
  const image = await muslImage();
  const found = new Map<number, { seconds: number; free: number }>();
  for (const count of [1, 3, 10]) {
    const one = await withImage(servers(image, count), (place) =>
      running(place, (_, seconds) => {
        const text = inside(place, "web0", "cat", "/proc/meminfo");
        return { seconds, free: Number(/MemAvailable: +(\d+) kB/.exec(text)![1]) / 1024 };
      }),
    );
    found.set(count, one);
    const first = found.get(1)!;
    yield {
      name: `start of the machine to ${count} of ${count} services healthy`,
      unit: "s",
      ours: one.seconds,
      ...(count > 1 && { peer: first.seconds, note: "peer: one service" }),
    };
  }
  yield {
    name: "memory for each further service, its own processes included",
    unit: "MiB",
    ours: (found.get(1)!.free - found.get(10)!.free) / 9,
    limit: 8,
  };
}

/** The root of images that have a base in common, beside that of one of them. */
async function* shared(): AsyncGenerator<Row> {
  const images = await applicationImages();
  const place = mkdtempSync(join(tmpdir(), "caisson-workloads-"));
  const sizeOf = async (tags: readonly string[]): Promise<number> => {
    writeSpec(
      place,
      "bench",
      `services:\n${tags.map((tag) => `  ${tag}: { image: "${images}:${tag}" }\n`).join("")}`,
    );
    const { manifest } = await prepare(await readSpec(place), "development", {}, new Progress());
    return manifest.rootfs.size / MiB;
  };
  try {
    yield {
      name: "an image with three applications of one base",
      unit: "MiB",
      ours: await sizeOf(["flask", "asgi", "php"]),
      peer: await sizeOf(["flask"]),
      note: "peer: with one of them",
    };
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

const compose = (image: string, word: string): string => `
services:
  cache:
    image: ${image}
    entrypoint: [/entry/redis.sh]
    working_dir: /data
  web:
    image: ${image}
    entrypoint: [/entry/nginx.sh]
    environment: { UPSTREAM: ${word} }
    stop_signal: SIGQUIT
  client:
    image: ${image}
    entrypoint: [sleep, infinity]
    stop_signal: SIGKILL
    depends_on: { cache: { condition: service_started }, web: { condition: service_started } }
`;

/** Requests over one connection that stays open. */
const http =
  (host: string) =>
  (count: number): string[] => [
    "python3",
    "-c",
    `import http.client
c = http.client.HTTPConnection("${host}")
for _ in range(${count}): c.request("GET", "/"); c.getresponse().read()`,
  ];
const requestCounts = [100, 900] as const;

const quietWeb = (image: string): string => `  quiet:
    image: ${image}
    entrypoint: [sh, -c, "sed -i 's/access_log .*/access_log off;/' /etc/nginx/nginx.conf; exec /entry/nginx.sh"]
    stop_signal: SIGQUIT
`;

const redis =
  (host: string) =>
  (count: number): string[] =>
    `redis-benchmark -h ${host} -n ${count} -c 8 -t get --csv`.split(" ");
const getCounts = [1_000, 11_000] as const;

/** Microseconds of the host's processor for each one more that a service is asked. */
function each(place: string, service: string, ask: (count: number) => string[], counts: Counts): number {
  const asking = new Asking();
  asking.look();
  for (const count of repeated(counts)) {
    inside(place, service, ...ask(count));
    asking.look();
  }
  return asking.each(counts);
}

const web: Pick<Trial, "entry" | "ready" | "ask" | "counts"> = {
  entry: "nginx.sh",
  ready: ["python3", "-c", 'import urllib.request as r; r.urlopen("http://127.0.0.1/")'],
  ask: http("127.0.0.1"),
  counts: requestCounts,
};
const cache: Pick<Trial, "entry" | "ready" | "ask" | "counts" | "lines"> = {
  entry: "redis.sh",
  ready: ["redis-cli", "ping"],
  ask: redis("127.0.0.1"),
  counts: getCounts,
  lines: "nowhere",
};
/** Plain crun, then with single parts of what Caisson adds. */
const trials: Record<string, Trial> = {
  redis: cache,
  "redis-seccomp": { ...cache, seccomp: true },
  "redis-network": { ...cache, network: true },
  "redis-cgroup": { ...cache, cgroup: true },
  "redis-user": { ...cache, user: true, network: true },
  "redis-all": { ...cache, seccomp: true, user: true, network: true, cgroup: true },
  quiet: { ...web, quiet: true, lines: "nowhere" },
  "quiet-all": {
    ...web,
    quiet: true,
    lines: "nowhere",
    seccomp: true,
    user: true,
    network: true,
    cgroup: true,
  },
  reader: { ...web, lines: "reader" },
  console: { ...web, lines: "console" },
};

async function* requests(): AsyncGenerator<Row> {
  const image = `${await debianImage()}:latest`;
  const { ours, peer } = await withImage(compose(image, "one") + quietWeb(image), async (place) => ({
    ours: await running(place, async (machine) => {
      await machine.writes("cache", /Ready to accept connections/);
      return {
        cache: each(place, "client", redis("cache"), getCounts),
        cacheAlone: each(place, "cache", redis("127.0.0.1"), getCounts),
        quiet: each(place, "client", http("quiet"), requestCounts),
        quietAlone: each(place, "quiet", http("127.0.0.1"), requestCounts),
        lines: each(place, "web", http("127.0.0.1"), requestCounts),
      };
    }),
    peer: await plainCrun(place, memory, trials),
  }));
  const note = "of the host's processor; peer: under plain crun, over the loopback, on the same kernel";
  for (const [name, own, beside] of [
    ["Redis, a GET over the service's own loopback", ours.cacheAlone, "redis"],
    ["Redis, a GET from another service", ours.cache, "redis"],
    ["nginx without its log, a request over the service's own loopback", ours.quietAlone, "quiet"],
    ["nginx without its log, a request from another service", ours.quiet, "quiet"],
    ["nginx, its log on the console, a request over the service's own loopback", ours.lines, "console"],
  ] as const) {
    yield { name, unit: "µs", ours: own, peer: peer[beside]!, note };
  }
  for (const [name, one, other] of [
    ["Redis, with the filter of system calls", "redis-seccomp", "redis"],
    ["Redis, with a network of its own", "redis-network", "redis"],
    ["Redis, with a control group", "redis-cgroup", "redis"],
    ["Redis, with users and a network of its own", "redis-user", "redis"],
    ["Redis, with all of these", "redis-all", "redis"],
    ["nginx without its log, with all of these", "quiet-all", "quiet"],
    ["nginx, its log to a reader that throws it away", "reader", "quiet"],
    ["nginx, its log on the console", "console", "quiet"],
  ] as const) {
    const without = `of plain crun alone; peer: ${other}, without it`;
    yield { name: `plain crun: ${name}`, unit: "µs", ours: peer[one]!, peer: peer[other]!, note: without };
  }
}

/** `up` again with another word in one service's environment: the build and the boot. */
async function* changed(): AsyncGenerator<Row> {
  const image = await debianImage();
  const place = mkdtempSync(join(tmpdir(), "caisson-workloads-"));
  try {
    writeSpec(place, "bench", compose(image, "one"));
    await prepare(await readSpec(place), "development", {}, new Progress());
    writeSpec(place, "bench", compose(image, "another"));
    const began = performance.now();
    await prepare(await readSpec(place), "development", {}, new Progress());
    const built = (performance.now() - began) / 1000;
    const seconds = await running(place, () => (performance.now() - began) / 1000);
    yield {
      name: "a service changed: from the change to all running",
      unit: "s",
      ours: seconds,
      limit: 15,
      note: `the build: ${built.toFixed(1)} s`,
    };
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

export async function* run(): AsyncGenerator<Row> {
  process.stderr.write(`load ${readFileSync("/proc/loadavg", "utf8").split(" ")[0]}\n`);
  yield* shared();
  yield* healthy();
  yield* requests();
  yield* changed();
}
