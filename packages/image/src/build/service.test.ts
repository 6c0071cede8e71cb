// SPDX-License-Identifier: Apache-2.0
/** What is measured of a service: its own lines over its image's words. */
import { deepEqual, equal, match, throws } from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { rootCapabilities, type Service } from "@caisson/protocol/guest-config";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { parseComposition } from "../inputs/compose/file.ts";
import type { App, FrontSpec, Spec } from "../inputs/spec.ts";
import type { OciConfig } from "../oci/documents.ts";
import type { OciImage } from "../oci/oci.ts";
import { describeApplication } from "./application.ts";
import { directory, put } from "./tree.ts";

const place = temporaryDirectory("service");

const image = (config: Partial<OciConfig> = {}, digest = "0a"): OciImage => {
  const tree = directory();
  const executable = { kind: "file", mode: 0o755, content: new Uint8Array() } as const;
  for (const path of ["/usr/sbin/nginx", "/entry.sh", "/bin/sh"]) put(tree, path, executable);
  const passwd = Buffer.from("root:x:0:0::/root:/bin/sh\nweb:x:101:102::/home/web:/bin/sh\n");
  put(tree, "/etc/passwd", { kind: "file", mode: 0o644, content: passwd });
  return {
    digest: `sha256:${digest.repeat(32)}`,
    tree,
    config: {
      entrypoint: ["/entry.sh"],
      command: ["nginx"],
      environment: {},
      workingDirectory: "",
      user: "",
      exposedPorts: [],
      volumes: [],
      labels: {},
      ...config,
    },
    changes: [],
  };
};

function describe(
  lines: string,
  config: Partial<OciConfig> = {},
  rest = "",
  app: Partial<App> = {},
  front?: FrontSpec,
) {
  const text = `services:\n  web:\n    image: x\n${lines.replace(/^/gm, "    ")}\n${rest}`;
  const composition = parseComposition(text, join(place, "compose.yaml"), new Map(), app.api === "dstack");
  const images = new Map(
    [...composition.services.keys()].map((name) => [name, image(name === "web" ? config : {})]),
  );
  const spec = { name: "test", directory: place, app, ...(front && { front }) } as unknown as Spec;
  return describeApplication(spec, composition, images);
}
const web = (lines: string, config?: Partial<OciConfig>, rest?: string, app?: Partial<App>): Service =>
  describe(lines, config, rest, app).description.services.web!;

test("an official image with no word about it: root in its own user namespace, a writable layer, limits", () => {
  deepEqual(web(""), {
    image: "0a".repeat(32),
    root: "/app/web/rootfs",
    isolation: "contained",
    range: 0,
    arguments: ["/entry.sh", "nginx"],
    environment: {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOSTNAME: "web",
      HOME: "/root",
    },
    workingDirectory: "/",
    user: 0,
    group: 0,
    additionalGroups: [],
    readOnly: false,
    layerSize: 256 * 2 ** 20,
    tmpfs: [],
    mounts: [],
    files: [],
    capabilities: [...rootCapabilities],
    memory: 512 * 2 ** 20,
    pids: 512,
    shmSize: 64 * 2 ** 20,
    nofile: { soft: 65_536, hard: 65_536 },
    hostname: "web",
    networks: { default: { aliases: [] } },
    extraHosts: {},
    ports: [],
    egress: "all",
    dependsOn: {},
    restart: { policy: "no" },
    stopSignal: "SIGTERM",
    stopGraceMs: 10_000,
    socket: false,
    key: false,
  });
});

const commands: [lines: string, expected: string[]][] = [
  ["command: [nginx, -v]", ["/entry.sh", "nginx", "-v"]],
  ["entrypoint: nginx -g x", ["/usr/sbin/nginx", "-g", "x"]],
  ["entrypoint: nginx\ncommand: -v", ["/usr/sbin/nginx", "-v"]],
  ["entrypoint: []\ncommand: nginx", ["/usr/sbin/nginx"]],
];
for (const [lines, expected] of commands) {
  test(`the command of ${JSON.stringify(lines)}`, () => deepEqual(web(lines).arguments, expected));
}

test("the environment: defaults, then the image's, then the service's", () => {
  const { environment } = web("environment: { B: own, HOME: /here }", {
    environment: { A: "image", B: "image", PATH: "/usr/sbin" },
  });
  deepEqual(environment, { PATH: "/usr/sbin", HOSTNAME: "web", HOME: "/here", A: "image", B: "own" });
});

test("the user: the image's unless the service has one; who is not root has no capability", () => {
  const own = web("user: web", { user: "0" });
  deepEqual([own.user, own.group, own.environment.HOME, own.capabilities], [101, 102, "/home/web", []]);
  equal(web("", { user: "web" }).user, 101);
  deepEqual(web("user: web\ncap_add: [CHOWN]").capabilities, []);
});

test("capabilities: what is dropped is not there, what is added is", () => {
  deepEqual(web("cap_drop: [ALL]").capabilities, []);
  deepEqual(web("cap_drop: [ALL]\ncap_add: [SETUID, CHOWN]").capabilities, ["CHOWN", "SETUID"]);
  deepEqual(
    web("cap_drop: [KILL, NET_RAW]").capabilities,
    rootCapabilities.filter((name) => name !== "KILL"),
  );
  deepEqual(web("cap_add: [NET_RAW]").capabilities, [...rootCapabilities, "NET_RAW"]);
  deepEqual(web("cap_add: [SYS_CHROOT]").capabilities, [...rootCapabilities, "SYS_CHROOT"]);
});

test("who is not root has what is added and a file of the image has, and nothing of it alone", () => {
  const service = (lines: string) => {
    const text = `services:\n  web:\n    image: x\n    user: web\n    ${lines}\n`;
    const composition = parseComposition(text, join(place, "compose.yaml"), new Map(), false);
    const changes: OciImage["changes"] = [
      { path: "/usr/bin/ping", dropped: "capability", capabilities: ["NET_RAW", "NET_ADMIN"] },
    ];
    const images = new Map([["web", { ...image(), changes }]]);
    const spec = { name: "test", directory: place, app: {} } as unknown as Spec;
    return describeApplication(spec, composition, images).description.services.web!.capabilities;
  };
  deepEqual(service("cap_add: [NET_RAW, CHOWN]"), ["NET_RAW"]);
  deepEqual(service("read_only: false"), []);
});

test("a first process of the platform's where one is asked for, and no word of it elsewhere", () => {
  equal(web("init: true").init, true);
  equal("init" in web("init: false"), false);
});

test("volumes of the image are the service's own, unless it mounts something there", () => {
  const volumes = ["/cache", "/data", "/run/x/", "/"];
  const { mounts } = web("volumes: ['v:/data']\ntmpfs: /cache", { volumes }, "volumes: { v: }");
  deepEqual(mounts, [
    { volume: "v", target: "/data", readOnly: false, copyUp: true },
    { target: "/run/x", readOnly: false, copyUp: true },
  ]);
});

test("health: the image's check, field by field the service's over it, and the defaults", () => {
  const healthcheck = { test: ["CMD-SHELL", "curl x"], intervalMs: 1000, retries: 9 };
  deepEqual(web("", { healthcheck }).healthcheck, {
    test: ["/bin/sh", "-c", "curl x"],
    intervalMs: 1000,
    timeoutMs: 30_000,
    retries: 9,
    startPeriodMs: 0,
    startIntervalMs: 5000,
  });
  const own = web("healthcheck: { test: [CMD, ping], retries: 2 }", { healthcheck }).healthcheck!;
  deepEqual([own.test, own.intervalMs, own.retries], [["ping"], 1000, 2]);
  equal(web("healthcheck: { disable: true }", { healthcheck }).healthcheck, undefined);
  equal(web("", { healthcheck: { test: ["NONE"] } }).healthcheck, undefined);
  throws(() => web("healthcheck: { retries: 2 }"), { code: "app/healthcheck" });
});

test("who waits for health that nobody checks is refused before anything is built", () => {
  const lines = "depends_on: { db: { condition: service_healthy } }";
  throws(
    () => web(lines, {}, "  db: { image: y }"),
    (error: Error) => {
      match(error.message, /line 2: services\.web waits for 'db'/);
      return true;
    },
  );
  web(lines, {}, "  db: { image: y, healthcheck: { test: x } }");
});

test("signals: the service's, the image's, TERM; one that is not sent is refused", () => {
  equal(web("stop_signal: SIGUSR1", { stopSignal: "SIGQUIT" }).stopSignal, "SIGUSR1");
  equal(web("", { stopSignal: "SIGQUIT" }).stopSignal, "SIGQUIT");
  equal(web("", { stopSignal: "3" }).stopSignal, "SIGQUIT");
  throws(() => web("", { stopSignal: "SIGRTMIN+3" }), { code: "app/signal" });
});

test("limits: the service's, the spec's, the default; a tmpfs may fill memory, the layer half of it", () => {
  const own = web("mem_limit: 100m\npids_limit: 7\ntmpfs: /t", {}, "", { memory: 2 ** 28, pids: 9 });
  deepEqual(
    [own.memory, own.pids, own.layerSize, own.tmpfs[0]!.size],
    [100 * 2 ** 20, 7, 50 * 2 ** 20, 100 * 2 ** 20],
  );
  const spec = web("", {}, "", { memory: 2 ** 28, pids: 9 });
  deepEqual([spec.memory, spec.pids], [2 ** 28, 9]);
});

test("ranges follow the order of names; services of another image have another root", () => {
  const text = "services:\n  b: { image: x }\n  a: { image: y }\n  c: { image: x }\n";
  const composition = parseComposition(text, join(place, "compose.yaml"), new Map());
  const [x, y] = [image(), image({}, "0b")];
  const images = new Map([
    ["a", y],
    ["b", x],
    ["c", x],
  ]);
  const { description, roots } = describeApplication(
    { name: "t", directory: place, app: {} } as unknown as Spec,
    composition,
    images,
  );
  deepEqual(
    Object.entries(description.services).map(([name, { range, root }]) => [name, range, root]),
    [
      ["a", 0, "/app/a/rootfs"],
      ["b", 1, "/app/b/rootfs"],
      ["c", 2, "/app/b/rootfs"],
    ],
  );
  deepEqual(
    roots.map(({ services }) => services),
    [["a"], ["b", "c"]],
  );
});

test("files of the project are in the image as they are, whatever else is set on them", () => {
  mkdirSync(join(place, "conf"), { recursive: true });
  writeFileSync(join(place, "conf", "run.sh"), "#!/bin/sh\n", { mode: 0o711 });
  writeFileSync(join(place, "conf", "x.conf"), "x", { mode: 0o640 });
  const { files, description } = describe("volumes: ['./conf:/etc/conf:ro', './conf/x.conf:/x:ro']");
  equal(files.length, 2);
  const [folder, file] = files.map(({ node }) => node);
  if (folder?.kind !== "directory" || file?.kind !== "file") throw new Error("other kinds");
  deepEqual(
    [...folder.entries].map(([name, node]) => [name, node.kind === "file" && node.mode]),
    [
      ["run.sh", 0o755],
      ["x.conf", 0o644],
    ],
  );
  deepEqual(
    description.services.web!.files.map(({ target, source }) => [target, source]),
    [
      ["/etc/conf", "/app/web/files/0"],
      ["/x", "/app/web/files/1"],
    ],
  );
});

test("refused: a file that is not there, one outside of the project, a link", () => {
  symlinkSync("/etc/passwd", join(place, "link"));
  for (const path of ["./none", "../outside", "./link"]) {
    throws(() => web(`volumes: ['${path}:/x:ro']`), { code: "app/file" });
  }
});

test("a front takes the published port of the service behind it; refused: beside dstack's sockets", () => {
  const front: FrontSpec = { port: 8443, names: [], require: "tls", direct: [] };
  const api = { api: "dstack" } as const;
  const lines = "ports: ['80:8080']";
  const asking = `${lines}\nvolumes: ['/var/run/dstack.sock:/var/run/dstack.sock']`;
  const { description } = describe(lines, {}, "", api, front);
  deepEqual(description.front, { port: 8443, service: "web", target: 8080, names: [], require: "tls" });
  deepEqual(description.services.web!.ports, []);
  equal(describe(asking, {}, "", api).description.services.web!.dstack?.length, 1);
  throws(() => describe(asking, {}, "", api, front), {
    code: "app/front",
    message: /'web' has dstack's socket/,
  });
});

test("refused: a program that is not in the image, an image without one, a user that it does not know", () => {
  throws(() => web("command: none\nentrypoint: []"), { code: "app/program" });
  throws(() => web("", { entrypoint: [], command: [] }), { code: "app/program" });
  throws(() => web("user: nobody-knows"), { code: "app/user" });
});
