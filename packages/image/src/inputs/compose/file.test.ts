// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import fc from "fast-check";
import { ImageError } from "../../errors.ts";
import { parseComposition, readComposeFile } from "./file.ts";
import { serviceKeys } from "./keys.ts";
import { inertKeys, refusedKeys } from "./refusals.ts";

const place = temporaryDirectory("compose");

const path = join(place, "compose.yaml");
const variables = new Map([["TAG", "1.2"]]);
const parse = (text: string) => parseComposition(text, path, variables);

/** The one service `web` of a file with these lines in it, and the rest of the file. */
const inService = (lines: string, rest = "") =>
  `services:\n  web:\n    image: nginx\n${lines.replace(/^/gm, "    ")}\n${rest}`;
const web = (lines: string, rest = "") => parse(inService(lines, rest)).services.get("web")!;

function problemsOf(text: string): [line: string, what: string][] {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof ImageError && error.code === "compose/refused")
      return error.facts.map(([a, b]) => [a, b]);
    throw error;
  }
  return [];
}

test("a service that says only its image has the specification's defaults", () => {
  const { services, networks, volumes, notes } = parse("services:\n  web:\n    image: nginx\n");
  deepEqual(services.get("web"), {
    name: "web",
    line: 2,
    image: "nginx",
    imageLine: 3,
    environment: {},
    groupAdd: [],
    init: false,
    readOnly: false,
    tmpfs: [],
    mounts: [],
    files: [],
    capabilities: { add: [], drop: [] },
    hostname: "web",
    networks: { default: { aliases: [] } },
    extraHosts: {},
    ports: [],
    egress: "all",
    dependsOn: {},
    restart: { policy: "no" },
    stopGraceMs: 10_000,
    socket: false,
    key: false,
    secrets: [],
    dstack: [],
  });
  deepEqual([networks, volumes, notes], [{ default: { internal: false } }, {}, []]);
});

const forms: [what: string, one: string, other: string][] = [
  ["environment", "environment: { A: 1, B: '', C: true }", "environment: [A=1, B=, C=true]"],
  ["command", "command: nginx -g 'daemon off;'", "command: [nginx, -g, daemon off;]"],
  ["entrypoint", "entrypoint: /run.sh --now", "entrypoint: [/run.sh, --now]"],
  ["ports", "ports: ['80:8080/udp']", "ports: [{ target: 8080, published: '80', protocol: udp }]"],
  ["a range of ports", "ports: ['80-82:90-92']", "ports: ['80:90', '81:91', '82:92']"],
  ["depends_on", "depends_on: [db]", "depends_on: { db: { condition: service_started } }"],
  ["volumes", "volumes: ['v:/v:ro']", "volumes: [{ type: volume, source: v, target: /v, read_only: true }]"],
  [
    "tmpfs",
    "tmpfs: /t:size=1m,mode=755",
    "volumes: [{ type: tmpfs, target: /t, tmpfs: { size: 1m, mode: 0755 } }]",
  ],
  ["networks", "networks: [n]", "networks: { n: }"],
  ["limits", "mem_limit: 64m\npids_limit: 9", "deploy: { resources: { limits: { memory: 64m, pids: 9 } } }"],
  ["processors", "cpus: 0.5", "deploy: { resources: { limits: { cpus: '0.500' } } }"],
  ["healthcheck", "healthcheck: { test: curl x }", "healthcheck: { test: [CMD-SHELL, curl x] }"],
  ["no healthcheck", "healthcheck: { disable: true }", "healthcheck: { test: [NONE] }"],
  ["extra_hosts", "extra_hosts: ['a:10.0.0.1']", "extra_hosts: { a: 10.0.0.1 }"],
  ["nofile", "ulimits: { nofile: 100 }", "ulimits: { nofile: { soft: 100, hard: 100 } }"],
  ["env_file", "env_file: one.env", "env_file: [{ path: one.env }]"],
  [
    "restart",
    "restart: on-failure:3",
    "deploy: { restart_policy: { condition: on-failure, max_attempts: 3 } }",
  ],
  ["restart: no", "restart: no", "restart: false"],
  ["signals", "stop_signal: INT", "stop_signal: SIGINT"],
];
for (const [what, one, other] of forms) {
  test(`both forms of ${what} say the same`, () => {
    writeFileSync(join(place, "one.env"), "FROM_FILE=1\n");
    const rest = "  db: { image: x }\nvolumes: { v: }\nnetworks: { n: }\n";
    const [first, second] = [web(one, rest), web(other, rest)];
    deepEqual(first, second);
    // And it is not what a service without the line has.
    if (!one.startsWith("restart: no")) {
      const without = web("", rest);
      ok(JSON.stringify(first) !== JSON.stringify(without));
    }
  });
}

test("variables are filled in, from the spec before .env; $$ is a dollar sign", () => {
  writeFileSync(join(place, ".env"), "TAG=from-env\nPORT=81\n");
  writeFileSync(
    path,
    "services: { web: { image: 'web:${TAG}', ports: ['${PORT}:80'], command: [$$HOME] } }\n",
  );
  const [own, env] = [readComposeFile(path, variables), readComposeFile(path)];
  equal(own.services.get("web")!.image, "web:1.2");
  equal(env.services.get("web")!.image, "web:from-env");
  deepEqual(env.services.get("web")!.ports, [{ protocol: "tcp", published: 81, target: 80 }]);
  deepEqual(env.services.get("web")!.command, ["$HOME"]);
  rmSync(join(place, ".env"));
});

test("files of variables: later ones win, the service's own lines win over all, wherever they stand", () => {
  writeFileSync(join(place, "one.env"), "A=1\nB=1\nC=1\n");
  writeFileSync(join(place, "two.env"), "B=2\nC=2\n");
  const missing = "{ path: none.env, required: false }";
  const found = web(`environment: { C: own }\nenv_file: [one.env, two.env, ${missing}]`);
  deepEqual(found.environment, { A: "1", B: "2", C: "own" });
});

test("anchors and merges are YAML's: a merged service is a service", () => {
  const text = `x-base: &base\n  restart: always\n  cap_drop: [ALL]\nservices:\n  a: { <<: *base, image: a }\n  b: { <<: *base, image: b, restart: "no" }\n`;
  const { services } = parse(text);
  equal(services.get("a")!.restart.policy, "always");
  equal(services.get("b")!.restart.policy, "no");
  equal(services.get("b")!.capabilities.drop, "all");
});

test("configs become files, from the project, from the file itself and from a variable", () => {
  const rest =
    "configs:\n  a: { file: ./a.conf }\n  b: { content: 'v ${TAG}' }\n  c: { environment: TAG }\n  unused: { content: x }\n";
  const { files } = web("configs: [a, b, { source: c, target: /etc/c, mode: 0400, uid: 101 }]", rest);
  const content = (text: string) => Buffer.from(text);
  deepEqual(files, [
    { target: "/a", content: { path: join(place, "a.conf") }, mode: 0o444, user: 0, group: 0 },
    { target: "/b", content: content("v 1.2"), mode: 0o444, user: 0, group: 0 },
    { target: "/etc/c", content: content("1.2"), mode: 0o400, user: 101, group: 0 },
  ]);
});

test("secrets that the owners give are external", () => {
  const text = inService(
    "secrets: [DB_URL, TOKEN]",
    "secrets: { DB_URL: { external: true }, TOKEN: { external: true } }\n",
  );
  const { secrets, key } = parse(text).services.get("web")!;
  deepEqual([secrets, key], [[{ name: "DB_URL" }, { name: "TOKEN" }], false]);
});

test("a variable may have a secret of the owners', whatever environment says of it", () => {
  const top = "secrets: { TOKEN: { external: true }, llm: { external: true } }\n";
  const lines = "x-caisson: { environment: { TOKEN:, KEY: llm } }\nsecrets: [TOKEN]";
  for (const environment of ["[A=1, TOKEN, 'KEY=${KEY}']", "{ A: 1, TOKEN: , KEY: '${KEY}' }"]) {
    const service = parse(inService(`${lines}\nenvironment: ${environment}`, top)).services.get("web")!;
    deepEqual(service.secrets, [
      { name: "TOKEN", environment: "TOKEN" },
      { name: "llm", environment: "KEY" },
    ]);
    deepEqual(service.environment, { A: "1" });
  }
});

test("the application's key is a secret; the socket, egress and the layer have words of their own", () => {
  const text = inService("secrets: [caisson-key]", "secrets: { caisson-key: { external: true } }\n");
  equal(parse(text).services.get("web")!.key, true);
  const own = web(
    "x-caisson: { socket: true, egress: ['api.example.org:443'], layer: 1g, image: ./web.oci }\nbuild: .",
  );
  deepEqual(
    [own.socket, own.egress, own.layerSize, own.image],
    [true, { to: ["api.example.org:443"] }, 2 ** 30, "./web.oci"],
  );
});

test("the sockets of dstack's guest agent are volumes, where the spec has its API", () => {
  const lines = "volumes: ['/var/run/dstack.sock:/var/run/dstack.sock', '/run/tappd.sock:/t.sock:ro']";
  const { services } = parseComposition(inService(lines), path, variables, true);
  deepEqual(services.get("web")!.dstack, [
    { socket: "dstack", target: "/var/run/dstack.sock" },
    { socket: "tappd", target: "/t.sock" },
  ]);
  match(problemsOf(inService(lines)).join(), /app\.api: dstack in caisson\.yaml/);
});

test("a service may be a JavaScript file, and then has no image", () => {
  const text = "services:\n  web:\n    x-caisson: { node: ./web/server.mjs }\n";
  equal(parse(text).services.get("web")!.node, join(place, "web/server.mjs"));
  match(problemsOf(`${text}    image: nginx\n`).join(), /has an image, too/);
  match(problemsOf(text.replace("server.mjs", "server.py")).join(), /JavaScript/);
});

test("a service's JavaScript file is in the compose file's directory, also by way of links", () => {
  const outside = temporaryDirectory("elsewhere");
  symlinkSync(outside, join(place, "link"));
  for (const entry of ["../server.mjs", "./web/../../x/server.mjs", "./link/server.mjs"]) {
    const text = `services:\n  web:\n    x-caisson: { node: ${entry} }\n`;
    match(problemsOf(text).join(), /lies outside of the compose file's/, entry);
  }
});

test("a service on internal networks alone reaches nothing outside; one without a network, neither", () => {
  const rest = "networks: { back: { internal: true } }\n";
  equal(web("networks: [back]", rest).egress, "none");
  equal(web("networks: [back, default]", rest).egress, "all");
  const alone = web("network_mode: none");
  deepEqual([alone.egress, alone.networks], ["none", {}]);
});

test("further names: aliases, the container's name, links", () => {
  const rest = "  db: { image: x, container_name: the-db, networks: { default: { aliases: [sql] } } }\n";
  const { services } = parse(inService("links: ['db:storage']", rest));
  deepEqual(services.get("db")!.networks, { default: { aliases: ["sql", "storage", "the-db"] } });
  deepEqual(services.get("web")!.dependsOn, { db: { condition: "started", required: true } });
});

test("what begins with x- is an extension among keys, and a name among names", () => {
  const text = "x-own: [1]\nservices:\n  x-ray: { image: a, x-more: { b: c }, deploy: { x-y: z } }\n";
  deepEqual([...parse(text).services.keys()], ["x-ray"]);
});

test("a service with a profile is left out, and said", () => {
  const { services, notes } = parse(
    "services:\n  web: { image: x }\n  debug: { image: y, profiles: [debug] }\n",
  );
  deepEqual([...services.keys()], ["web"]);
  deepEqual(notes, [{ line: 3, where: "services.debug", text: "left out: it has a profile" }]);
});

/** Lines of a service, the line of the file and what is said. */
const refused: [lines: string, line: number, said: RegExp, rest?: string][] = [
  ["privileged: true", 4, /privileged.*root of the machine/],
  ["network_mode: host", 4, /ports/],
  ["network_mode: service:db", 4, /reach each other by name/],
  ["pid: host", 4, /sees its own processes/],
  ["ipc: host", 4, /shared memory of its own/],
  ["uts: host", 4, /host name of its own/],
  ["userns_mode: host", 4, /user namespace of its own/],
  ["devices: [/dev/kvm]", 4, /no devices/],
  ["volumes: [/var/run/docker.sock:/var/run/docker.sock]", 4, /no container runtime/],
  ["volumes:\n- /etc/localtime:/etc/localtime:ro", 5, /TZ/],
  ["volumes:\n- /srv/data:/data", 5, /path of one host/],
  ["volumes: [~/x:/x]", 4, /path of one host/],
  ["volumes: ['./data:/data']", 4, /:ro/],
  ["volumes: ['none:/data']", 4, /no volume 'none'.*volumes: \{ none: \{\} \}/],
  ["volumes: ['v:/proc/x']", 4, /the kernel's/, "volumes: { v: }"],
  ["volumes: ['v:/a', '/a']", 2, /two things are mounted at \/a/, "volumes: { v: }"],
  ["volumes: ['v:relative']", 4, /not an absolute path/, "volumes: { v: }"],
  ["volumes: [{ type: image, source: x, target: /x }]", 4, /one of volume, bind, tmpfs/],
  ["cap_add: [SYS_ADMIN]", 4, /SYS_ADMIN.*root's power/],
  ["cap_add: [ALL]", 4, /ALL/],
  ["cap_drop: [NET_BIND_SERVICES]", 4, /NET_BIND_SERVICES is not a capability/],
  ["security_opt: ['seccomp:unconfined']", 4, /seccomp:unconfined/],
  ["sysctls: { net.core.somaxconn: 1024 }", 4, /settings of the kernel/],
  ["extends: { service: x }", 4, /anchor/],
  ["cpus: much", 4, /0\.01 to 64/],
  ["cpu_quota: 50000", 4, /cpus/],
  ["ports: ['127.0.0.1:80:80']", 4, /whoever runs the machine/],
  ["ports: ['80:80/sctp']", 4, /tcp or udp/],
  ["ports: ['80-82:80-81']", 4, /different lengths/],
  ["ports: ['0:80']", 4, /from 1 to 65535/],
  ["ports: ['1-65535:1-65535']", 4, /more than 64/],
  ["ports: ['80:80', '80:81']", 4, /80\/tcp is published by 'web' already/],
  ["environment: [TOKEN]", 4, /does not take one from whoever builds/],
  ["environment: { A: '${NONE}' }", 4, /NONE has no value.*app\.variables/],
  ["environment: { A: [1] }", 4, /a text is wanted, not a list/],
  ["env_file: none.env", 4, /there is no none\.env/],
  ["depends_on: [nobody]", 4, /no service 'nobody'/],
  ["depends_on: { web: { condition: service_started } }", 2, /web → web/],
  ["depends_on: { db: { condition: service_ready } }", 4, /service_healthy/, "  db: { image: x }"],
  [
    "depends_on: { db: { condition: service_healthy } }",
    2,
    /no health check/,
    "  db: { image: x, healthcheck: { disable: true } }",
  ],
  ["networks: [none]", 4, /no network 'none'/],
  ["networks: { default: { ipv4_address: 10.0.0.2 } }", 4, /reached by name/],
  ["healthcheck: { test: [curl, x] }", 4, /CMD/],
  ["healthcheck: { interval: 30 }", 4, /a duration like 30s/],
  ["restart: sometimes", 4, /unless-stopped/],
  ["deploy: { replicas: 2 }", 4, /runs once/],
  ["deploy: { resources: { limits: { cpus: '0' } } }", 4, /0\.01 to 64/],
  ["mem_limit: 1m", 4, /a size like 512m/],
  ["mem_limit: 64m\ndeploy: { resources: { limits: { memory: 65m } } }", 5, /another limit/],
  ["stop_signal: SIGRTMIN+3", 4, /not a signal/],
  ["tty: true", 4, /no terminals/],
  ["init: tini", 4, /true or false/],
  ["cap_add: [CAP_NET_ADMIN]", 4, /NET_ADMIN: networks are made/],
  ["secrets: [db_password]", 4, /no secret 'db_password'/],
  ["configs: [none]", 4, /no config 'none'/],
  ["configs: [{ source: c, mode: 444 }]", 4, /octal/, "configs: { c: { content: x } }"],
  ["tmpfs: /tmp:nonsense", 4, /nonsense/],
  ["ulimits: { memlock: -1 }", 4, /cannot be set/],
  ["extra_hosts: ['host.docker.internal:host-gateway']", 4, /nothing runs beside/],
  ["read_only: yes", 4, /true or false/],
  ["prot: 1", 4, /no such key/],
  ["ports:", 4, /says nothing/],
  ["profiles: debug", 4, /a list is wanted/],
  ["x-caisson: { egress: some }", 4, /one of all, none/],
  ['command: "echo \'open"', 4, /every quote closed/],
  ["platform: linux/arm64", 4, /linux\/amd64/],
  ["secrets: [s]", 4, /its owners give it/, "secrets:\n  s: { file: ./s.txt }"],
  ["secrets: [a-b]", 4, /A-Z a-z 0-9 _/, "secrets:\n  a-b: { external: true }"],
  ["x-caisson: { environment: { A: none } }", 4, /no secret 'none'.*its owners give it/],
  [
    "x-caisson: { environment: { A: caisson-key } }",
    4,
    /no secret/,
    "secrets:\n  caisson-key: { external: true }",
  ],
  [
    "x-caisson: { environment: { a-b: s } }",
    4,
    /not the name of a variable/,
    "secrets:\n  s: { external: true }",
  ],
  [
    "x-caisson: { environment: { A: s, B: s } }",
    4,
    /in another variable/,
    "secrets:\n  s: { external: true }",
  ],
  ["x-caisson: { environment: [s] }", 4, /a map is wanted/, "secrets:\n  s: { external: true }"],
  ["secrets: [{ source: s, target: /etc/s }]", 4, /nowhere else/, "secrets:\n  s: { external: true }"],
];
for (const [lines, line, said, rest] of refused) {
  test(`refused: ${lines}`, () => {
    const problems = problemsOf(inService(lines, rest));
    ok(
      problems.some(
        ([at, what]) => said.test(what) && (at === `line ${line}` || rest?.startsWith("secrets") === true),
      ),
      JSON.stringify(problems),
    );
  });
}

const refusedFiles: [what: string, text: string, said: RegExp][] = [
  ["no services", "version: '3'\n", /there are none/],
  ["only services with profiles", "services: { a: { image: x, profiles: [p] } }\n", /there are none/],
  ["an empty file", "", /there are none/],
  ["a list", "- a\n", /a map is wanted/],
  ["an unknown key", "services: { a: { image: x } }\nservice: {}\n", /no such key/],
  ["other files", "include: [other.yaml]\nservices: { a: { image: x } }\n", /one file/],
  ["a service without an image", "services: { a: { restart: always } }\n", /no image.*LAYOUT/],
  ["a service to be built", "services: { a: { build: . } }\n", /buildah build/],
  ["capitals in a name", "services: { Web: { image: x } }\n", /a-z/],
  ["an external network", "services: { a: { image: x } }\nnetworks: { n: { external: true } }\n", /beside/],
  [
    "an external volume",
    "services: { a: { image: x } }\nvolumes: { v: { external: true } }\n",
    /before the guest/,
  ],
  [
    "services that wait for each other",
    "services:\n  a: { image: x, depends_on: [b] }\n  b: { image: x, depends_on: [c] }\n  c: { image: x, depends_on: [a] }\n",
    /a → b → c → a/,
  ],
  [
    "two services of one name on a network",
    "services:\n  a: { image: x }\n  b: { image: x, container_name: a }\n",
    /'a' is a name of 'a' on the network 'default'/,
  ],
];
for (const [what, text, said] of refusedFiles) {
  test(`refused: ${what}`, () => match(problemsOf(text).join("\n"), said));
}

test("1,000 services are refused with the limit, and nothing else is said about them", () => {
  const many = Array.from({ length: 1000 }, (_, i) => `  s${i}: { image: x, privileged: true }\n`).join("");
  const problems = problemsOf(`services:\n${many}`);
  equal(problems.length, 1);
  match(problems[0]![1], /1000 services are more than 32/);
});

test("all that is wrong is said at once, in the order of lines; after 100, how much more there is", () => {
  const problems = problemsOf(inService("privileged: true\nnope: 1\nports: [x]\npid: host"));
  deepEqual(
    problems.map(([line]) => line),
    ["line 4", "line 5", "line 6", "line 7"],
  );
  const many = problemsOf(inService(Array.from({ length: 150 }, (_, i) => `nope${i}: 1`).join("\n")));
  deepEqual([many.length, many.at(-1)], [101, ["…", "50 more"]]);
});

test("what means less here is said", () => {
  const { notes } = parse(inService("labels: { a: b }\nports: ['80']\nlogging: { driver: x }"));
  deepEqual(
    notes.map(({ line, where }) => `${line} ${where}`),
    ["4 services.web.labels", "5 services.web.ports", "6 services.web.logging"],
  );
});

test("every key is honoured, refused or of no consequence, and no key is two of these", () => {
  const all = [...serviceKeys, ...Object.keys(refusedKeys), ...Object.keys(inertKeys)];
  equal(new Set(all).size, all.length);
});

test("there is no file, or no readable one", () => {
  throws(() => readComposeFile(join(place, "none.yaml")), { code: "compose/unreadable" });
  throws(() => readComposeFile(place), { code: "compose/unreadable" });
  writeFileSync(join(place, ".env"), "not an assignment\n");
  throws(() => readComposeFile(path), { code: "compose/unreadable", message: /\.env, line 1/ });
  rmSync(join(place, ".env"));
});

/** Values that a file may have anywhere, right or not. */
const leaf = fc.oneof(
  fc.constantFrom(
    "nginx",
    "80:80",
    "8080",
    "/x",
    "v:/x",
    "true",
    "30s",
    "64m",
    "db",
    "default",
    "$TAG",
    "${NONE:-a}",
    "CHOWN",
    "A=1",
  ),
  fc.string({ maxLength: 6 }),
  fc.integer(),
  fc.boolean(),
  fc.constant(null),
);
const anything = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    leaf,
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(
      fc.oneof(fc.constantFrom("condition", "target", "source", "size", "x-a"), fc.string({ maxLength: 4 })),
      tie("value"),
      { maxKeys: 3 },
    ),
  ),
})).value;

test("any values of any keys are a composition or named problems with lines of the file", () => {
  const keys = fc.constantFrom(...serviceKeys, "x-caisson", "image", "nope");
  const services = fc.dictionary(
    fc.constantFrom("web", "db", "a.b", "Bad"),
    fc.dictionary(keys, anything, { maxKeys: 6 }),
    { maxKeys: 3 },
  );
  const file = fc.record(
    { services, networks: anything, volumes: anything, configs: anything, secrets: anything },
    { requiredKeys: ["services"] },
  );
  fc.assert(
    fc.property(file, (value) => {
      // JSON is YAML; each member on its own line makes lines worth checking.
      const text = JSON.stringify(value, null, 1);
      const lines = text.split("\n").length;
      try {
        for (const [name, service] of parse(text).services) equal(service.name, name);
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
        if (error.code === "compose/syntax") return;
        equal(error.code, "compose/refused");
        for (const [label] of error.facts) {
          const line = Number(/^line (\d+)$/.exec(label)?.[1] ?? 1);
          ok(line >= 1 && line <= lines, label);
        }
      }
    }),
    { numRuns: 1000 },
  );
});
