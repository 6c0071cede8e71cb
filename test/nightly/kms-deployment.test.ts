// SPDX-License-Identifier: Apache-2.0
/** What operators are given: the description of the interface against a server, manifests against published schemas. */
import { deepEqual, equal, partialDeepStrictEqual, throws } from "node:assert/strict";
import { execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, get } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import test, { type TestContext } from "node:test";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { freeTcpPort } from "@caisson/host/ports";
import { createRootSecret, startKms } from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { parse, parseAllDocuments } from "yaml";
import { unpackDebian } from "../support/debian.ts";
import { startPostgres } from "../support/postgresql.ts";
import { fromNpm, fromPypi } from "../support/pypi.ts";

const repository = new URL("../../", import.meta.url).pathname;
const kubernetesVersion = "1.34.0";

test("a server answers random requests as its OpenAPI description says", async (t) => {
  const directory = temporaryDirectory("kms-openapi", t);
  const machine = new Machine(Date.now());
  mkdirSync(join(directory, "policies"));
  writeFileSync(join(directory, "policies", "app.json"), JSON.stringify(machine.policyFile()));
  createRootSecret(join(directory, "data"));
  const kms = await startKms({
    data: join(directory, "data"),
    policies: join(directory, "policies"),
    host: "127.0.0.1",
    port: 0,
    development: true,
    perAddress: { perSecond: 1e6, burst: 1e6 },
    common: { perSecond: 1e6, burst: 1e6 },
  });
  t.after(() => kms.close());
  // Not the checks that demand 405 for another method (it is a 404 here), or that every valid body succeeds.
  const checks = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
  ];
  const description = join(repository, "docs/kms-openapi.yaml");
  const args = [
    "run",
    description,
    "--url",
    kms.url,
    "--checks",
    checks.join(),
    "--max-examples",
    "40",
    "--seed",
    "1",
  ];
  const program = join(fromPypi("schemathesis==4.32.5"), "schemathesis");
  const run = promisify(execFile)(program, [...args, "--no-color", "--phases", "examples,coverage,fuzzing"], {
    cwd: directory,
    timeout: 400_000,
  });
  const { stdout } = await run.catch((error: { stdout: string; stderr: string }) => {
    throw new Error(`${error.stdout}\n${error.stderr}`.slice(-6000));
  });
  const paths = (parse(readFileSync(description, "utf8")) as { paths: Record<string, object> }).paths;
  const operations = Object.values(paths).reduce((sum, path) => sum + Object.keys(path).length, 0);
  equal(
    new RegExp(`Operations: +${operations} selected / ${operations} total`).test(stdout) ||
      /No issues found/.test(stdout),
    true,
    stdout,
  );
});

test("the Kubernetes manifests are what its published schemas allow", (t) => {
  const directory = temporaryDirectory("kms-kubernetes", t);
  const text = readFileSync(join(repository, "deploy/kms/kubernetes.yaml"), "utf8");
  const documents = parseAllDocuments(text).map(
    (document) => document.toJS() as { kind: string; apiVersion: string },
  );
  deepEqual(
    documents.map(({ kind }) => kind),
    ["Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "Cluster"],
  );
  const validate = join(fromPypi("kubernetes-validate==1.37.0"), "kubernetes-validate");
  const judge = (document: object) => {
    const file = join(directory, "document.json");
    writeFileSync(file, JSON.stringify(document));
    return spawnSync(validate, ["--strict", "--kubernetes-version", kubernetesVersion, file], {
      encoding: "utf8",
    });
  };
  for (const document of documents) {
    // CloudNativePG's own kind has another schema: below.
    if (document.apiVersion.startsWith("postgresql.cnpg.io/")) continue;
    const { status, stdout, stderr } = judge(document);
    equal(status, 0, stdout + stderr);
  }
  const wrong = structuredClone(documents[0]) as unknown as { spec: { replicas: unknown } };
  wrong.spec.replicas = "three";
  equal(judge(wrong).status === 0, false);
});

test("the database is what CloudNativePG's published schema allows", async () => {
  const models = fromNpm("@kubernetes-models/cloudnative-pg@2.0.0");
  const kind = join(models, "@kubernetes-models/cloudnative-pg/postgresql.cnpg.io/v1/Cluster.js");
  const { Cluster } = createRequire(import.meta.url)(kind) as {
    Cluster: new (document: object) => { validate(): void };
  };
  const text = readFileSync(join(repository, "deploy/kms/kubernetes.yaml"), "utf8");
  const cluster = parseAllDocuments(text)
    .map((document) => document.toJS() as { kind: string; spec: Record<string, unknown> })
    .find((document) => document.kind === "Cluster")!;
  new Cluster(cluster).validate();
  for (const wrong of [
    { instances: "three" },
    { postgresql: { synchronous: { method: "all", number: 1 } } },
    { storage: { size: [] } },
  ]) {
    throws(() => new Cluster({ ...cluster, spec: { ...cluster.spec, ...wrong } }).validate(), /data\/spec/);
  }
});

test("the Compose file is what the Compose specification's schema allows", (t) => {
  const directory = temporaryDirectory("kms-compose", t);
  const check = join(fromPypi("check-jsonschema==0.39.0"), "check-jsonschema");
  const judge = (file: string) =>
    spawnSync(check, ["--builtin-schema", "vendor.compose-spec", file], { encoding: "utf8" });
  const path = join(repository, "deploy/kms/compose.yaml");
  const { status, stdout, stderr } = judge(path);
  equal(status, 0, stdout + stderr);
  const wrong = join(directory, "compose.yaml");
  writeFileSync(
    wrong,
    readFileSync(path, "utf8").replace("networks: [front, back]", "netwerks: [front, back]"),
  );
  equal(judge(wrong).status, 1);
});

test("what the Dockerfile puts into its image is enough for a KMS, and for the Compose file's question how it is", async (t) => {
  const directory = temporaryDirectory("kms-image", t);
  const place = join(directory, "caisson");
  const data = join(directory, "kms");
  const dockerfile = readFileSync(join(repository, "deploy/kms/Dockerfile"), "utf8");
  mkdirSync(place);
  for (const [, names] of dockerfile.matchAll(/^COPY (?!--from)(.*) \/opt\/caisson\/\S*$/gm)) {
    for (const name of names!.split(" "))
      cpSync(join(repository, name), join(place, name), { recursive: true });
  }
  const here = (text: string) => text.replaceAll("/opt/caisson", place).replaceAll("/tmp/kms", data);
  const [, install] = /^RUN (.*\/opt\/caisson\/.*)$/m.exec(dockerfile)!;
  await promisify(execFile)("sh", ["-c", here(install!)], { timeout: 600_000 });
  equal(existsSync(join(place, "node_modules/typescript")), false);

  const port = await freeTcpPort();
  writeFileSync(
    join(directory, "operators.json"),
    JSON.stringify({ keys: [{ type: "ed25519", key: "11".repeat(32) }], threshold: 1 }),
  );
  const args = [
    "--data",
    data,
    "--operators",
    join(directory, "operators.json"),
    "--listen",
    `127.0.0.1:${port}`,
  ];
  const child = spawn(join(place, "caisson"), ["kms", "serve", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  const compose = parse(readFileSync(join(repository, "deploy/kms/compose.yaml"), "utf8")) as {
    "x-kms": { healthcheck: { test: string[] } };
  };
  const [, program, ...question] = compose["x-kms"].healthcheck.test.map((word) =>
    here(word).replace("127.0.0.1:7700", `127.0.0.1:${port}`),
  );
  const healthy = () => spawnSync(program!, question, { timeout: 10_000 }).status;
  equal(healthy(), 0);
  child.kill("SIGKILL");
  await once(child, "exit");
  equal(healthy(), 1);
});

/** The identity of the replica that a balancer leads a new connection to; undefined where it leads to none. */
function whoAnswers(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    get({ host: "127.0.0.1", port, path: "/healthz", agent: false, timeout: 5000 }, (response) => {
      void text(response).then((body) => resolve((JSON.parse(body) as { identityKey: string }).identityKey));
    }).on("error", () => resolve(undefined));
  });
}

/** Who answered eight new connections in a row, once `right` says so; as long as a start or a check may take. */
async function answered(port: number, right: (who: ReadonlySet<string | undefined>) => boolean) {
  for (let tries = 0; ; tries++) {
    const who = new Set<string | undefined>();
    for (let i = 0; i < 8; i++) who.add(await whoAnswers(port));
    if (right(who) || tries === 60) return who;
    await setTimeout(500);
  }
}

/** Starts the balancer of the Compose file with other names and addresses; the port where it listens. */
async function balancer(
  t: TestContext,
  directory: string,
  instead: Readonly<Record<string, string>>,
): Promise<number> {
  const port = await freeTcpPort();
  const file = join(directory, "haproxy.cfg");
  const changes = { ":7700\n  default": `127.0.0.1:${port}\n  default`, ...instead };
  let text = readFileSync(join(repository, "deploy/kms/haproxy.cfg"), "utf8");
  for (const [from, to] of Object.entries(changes)) {
    equal(text.includes(from), true, from);
    text = text.replace(from, to);
  }
  writeFileSync(file, text);
  const { root } = await unpackDebian("bookworm", ["haproxy"], { dependencies: true });
  const libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map((path) => join(root, path));
  const loader = join(root, "lib64/ld-linux-x86-64.so.2");
  const program = ["--library-path", libraries.join(":"), join(root, "usr/sbin/haproxy")];
  const haproxy = spawn(loader, [...program, "-db", "-f", file], { stdio: "ignore" });
  t.after(() => haproxy.kill());
  return port;
}

test("the balancer of the Compose file sends nobody to a replica that is cut off from its database", async (t) => {
  const directory = temporaryDirectory("kms-balancer", t);
  mkdirSync(join(directory, "policies"));
  writeFileSync(
    join(directory, "policies", "app.json"),
    JSON.stringify(new Machine(Date.now()).policyFile()),
  );
  const postgres = await startPostgres((end) => t.after(end));
  // Two of one KMS would share its fate: these are two, which also says who answered.
  const [well, cut] = await Promise.all(
    [[], [postgres.database()]].map(async (databases, i) => {
      const data = join(directory, `data-${i}`);
      createRootSecret(data);
      const kms = await startKms({
        data,
        databases,
        policies: join(directory, "policies"),
        host: "127.0.0.1",
        port: 0,
        development: true,
        perAddress: { perSecond: 1e6, burst: 1e6 },
      });
      t.after(() => kms.close());
      return kms;
    }),
  );
  const port = await balancer(t, directory, {
    // No name is asked for.
    "parse-resolv-conf": "nameserver none 127.0.0.1:9",
    "kms-1:7700": new URL(well!.url).host,
    "kms-2:7700": new URL(cut!.url).host,
  });
  const both = new Set([well!.identityKey, cut!.identityKey]);
  deepEqual(await answered(port, (who) => who.size === 2 && !who.has(undefined)), both);
  await postgres.stop("immediate");
  equal(await whoAnswers(Number(new URL(cut!.url).port)), cut!.identityKey);
  const one = new Set([well!.identityKey]);
  deepEqual(await answered(port, (who) => who.size === 1 && who.has(well!.identityKey)), one);
  // So the balancer's question is all that there is to raise an alert.
  const page = await (await fetch(new URL("/metrics", cut!.url))).text();
  const alerts = readFileSync(join(repository, "deploy/kms/alerts.yaml"), "utf8");
  const [, expression] = /KmsReleasesNothing, expr: '(.*?)'/.exec(alerts)!;
  const counted = [...expression!.matchAll(/\w+_total\{[^}]+\}/g)].map(([series]) =>
    Number(
      page
        .split("\n")
        .find((line) => line.startsWith(series))
        ?.slice(series.length),
    ),
  );
  equal(
    counted.some((count) => count > 0),
    true,
    `${expression}: ${counted.join()}`,
  );
});

/**
 * A name server on loopback that knows `addresses` (IPv4) and denies all other names (RFC 1035, 4.1): what is asked is
 * answered with the question, and for type A with one address that is good for a second.
 */
async function nameServer(t: TestContext, addresses: ReadonlyMap<string, string>): Promise<string> {
  const socket = createSocket("udp4");
  socket.on("message", (query, from) => {
    let end = 12;
    const labels: string[] = [];
    for (let size = query[end]!; size > 0; size = query[end]!) {
      labels.push(query.toString("latin1", end + 1, end + 1 + size));
      end += 1 + size;
    }
    const address = addresses.get(labels.join(".").toLowerCase());
    const isA = query.readUInt16BE(end + 1) === 1;
    const header = Buffer.from(query.subarray(0, 12));
    header.writeUInt16BE(address === undefined ? 0x8183 : 0x8180, 2);
    header.writeUInt16BE(address !== undefined && isA ? 1 : 0, 6);
    header.writeUInt16BE(0, 8);
    header.writeUInt16BE(0, 10);
    const answer = [header, query.subarray(12, end + 5)];
    if (address !== undefined && isA) {
      answer.push(Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...address.split(".").map(Number)]));
    }
    socket.send(Buffer.concat(answer), from.port, from.address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  t.after(() => socket.close());
  return `127.0.0.1:${socket.address().port}`;
}

test("the balancer starts while a replica has no address, follows one that moves, and keeps one that sheds load", async (t) => {
  const directory = temporaryDirectory("kms-balancer", t);
  const replicas = await freeTcpPort();
  /** Answers as a replica does, with the status to whoever asks for the log's head. */
  const replica = async (host: string, name: string, status = 200) => {
    const server = createServer(({ url }, response) => {
      response.statusCode = url === "/v1/log/head" ? status : 200;
      response.end(JSON.stringify({ identityKey: name }));
    }).listen(replicas, host);
    await once(server, "listening");
    t.after(() => server.close());
    return server;
  };
  await replica("127.0.0.2", "one", 429);
  const names = new Map([["kms-1", "127.0.0.2"]]);
  const port = await balancer(t, directory, {
    "parse-resolv-conf": `nameserver test ${await nameServer(t, names)}`,
    "kms-1:7700": `kms-1:${replicas}`,
    "kms-2:7700": `kms-2:${replicas}`,
  });
  const seen = async (...all: string[]) => {
    const right = (who: ReadonlySet<string | undefined>) =>
      who.size === all.length && all.every((one) => who.has(one));
    deepEqual(await answered(port, right), new Set(all));
  };
  await seen("one");
  const second = await replica("127.0.0.3", "two");
  names.set("kms-2", "127.0.0.3");
  await seen("one", "two");
  // Made anew, at another address.
  second.close();
  second.closeAllConnections();
  await replica("127.0.0.4", "two again");
  names.set("kms-2", "127.0.0.4");
  await seen("one", "two again");
});

test("the Deployment's containers start on volumes as a kubelet makes them", async (t) => {
  const directory = temporaryDirectory("kms-volumes", t);
  // kubernetes, pkg/volume/emptydir and pkg/volume/util/atomic_writer.go: mode 777, and files behind two links.
  const volume = (name: string, file?: string) => {
    const path = join(directory, name);
    mkdirSync(path);
    chmodSync(path, 0o777);
    if (file === undefined) return path;
    mkdirSync(join(path, "..2026"));
    cpSync(join(directory, file), join(path, "..2026", file));
    chmodSync(join(path, "..2026", file), 0o440);
    symlinkSync("..2026", join(path, "..data"));
    symlinkSync(join("..data", file), join(path, file));
    return path;
  };
  createRootSecret(join(directory, "made"));
  cpSync(join(directory, "made/root-secret"), join(directory, "root-secret"));
  const operators = { keys: [{ type: "ed25519", key: "11".repeat(32) }], threshold: 1 };
  writeFileSync(join(directory, "operators.json"), JSON.stringify(operators));
  const paths: Record<string, string> = {
    "/given/root": volume("root", "root-secret"),
    "/given/operators": volume("operators", "operators.json"),
    "/own": volume("data"),
  };
  interface Container {
    command: string[];
    args: string[];
    volumeMounts: { name: string; mountPath: string; subPath?: string }[];
    securityContext: object;
  }
  const [deployment] = parseAllDocuments(
    readFileSync(join(repository, "deploy/kms/kubernetes.yaml"), "utf8"),
  );
  const { initContainers, containers, securityContext } = (
    deployment!.toJS() as {
      spec: {
        template: { spec: { initContainers: Container[]; containers: Container[]; securityContext: object } };
      };
    }
  ).spec.template.spec;
  // What Pod Security's "restricted" asks of these; whoever runs this is their user.
  partialDeepStrictEqual(securityContext, { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
  for (const container of [...initContainers, ...containers]) {
    const asked = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };
    deepEqual(container.securityContext, { readOnlyRootFilesystem: true, ...asked });
  }
  const here = (text: string) =>
    Object.entries(paths).reduce((changed, [from, to]) => changed.replaceAll(from, to), text);
  for (const { command, args } of initContainers) {
    execFileSync(command[0]!, [...command.slice(1), ...args.map(here)]);
  }
  const [kms] = containers;
  for (const { name, mountPath, subPath = "." } of kms!.volumeMounts) {
    if (name !== "data") {
      equal(mountPath, "/tmp");
      continue;
    }
    // What is mounted lies in nothing that others may write.
    paths[mountPath] = join(directory, "mounted");
    renameSync(join(paths["/own"]!, subPath), paths[mountPath]);
  }
  const postgres = await startPostgres((end) => t.after(end));
  const port = await freeTcpPort();
  const args = kms!.args
    .map((arg) => here(arg).replace("$(DATABASE)", postgres.database()))
    .map((arg) => arg.replace("0.0.0.0:7700", `127.0.0.1:${port}`).replace("kms:7700", `127.0.0.1:${port}`));
  const program = kms!.command.map((word) => word.replace("/opt/caisson/", repository));
  const child = spawn(program[0]!, [...program.slice(1), ...args], { stdio: ["ignore", "ignore", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => (said += chunk));
  const ready = () =>
    fetch(`http://127.0.0.1:${port}/v1/log/head`).then(
      ({ ok }) => ok,
      () => false,
    );
  for (let tries = 0; tries < 300 && child.exitCode === null && !(await ready()); tries++)
    await setTimeout(100);
  equal(await ready(), true, said);
  deepEqual(await (await fetch(`http://127.0.0.1:${port}/v1/operators`)).json(), {
    ...operators,
    version: 1,
  });
});

/** When an alert of deploy/kms fires: what the metrics were from minute to minute, and the labels that it then has. */
const fires: [alert: string, at: string, series: Record<string, string>, labels: Record<string, string>][] = [
  [
    "KmsReplicaGone",
    "8m",
    { 'up{job="caisson-kms",instance="a"}': "1x4 0x9" },
    { instance: "a", severity: "warning" },
  ],
  ["KmsFewReplicas", "8m", { 'up{job="caisson-kms",instance="a"}': "1x4 _x9" }, { severity: "page" }],
  ["KmsFewReplicas", "8m", {}, { severity: "page" }],
  [
    "KmsReleasesNothing",
    "8m",
    { 'caisson_kms_denied_total{job="caisson-kms",code="log/unavailable"}': "0x4 1+1x9" },
    { code: "log/unavailable", severity: "page" },
  ],
  [
    "KmsReleasesNothing",
    "8m",
    { 'caisson_kms_refused_total{job="caisson-kms",code="log/unavailable"}': "0x4 30+30x9" },
    { code: "log/unavailable", severity: "page" },
  ],
  [
    "KmsLogSplit",
    "8m",
    { 'caisson_kms_peer_heads_total{job="caisson-kms",outcome="split"}': "0x4 1x9" },
    { outcome: "split", severity: "page" },
  ],
  [
    "KmsPeersUnknown",
    "40m",
    {
      'caisson_kms_peer_heads_total{job="caisson-kms",outcome="same"}': "5x60",
      'caisson_kms_peer_heads_total{job="caisson-kms",outcome="unknown"}': "0+6x60",
    },
    { outcome: "same", severity: "warning" },
  ],
  [
    "KmsCollateralExpires",
    "8m",
    { 'caisson_kms_collateral_expiry_timestamp_seconds{job="caisson-kms"}': `${7 * 86_400 + 120}x9` },
    { severity: "warning" },
  ],
  [
    "KmsReloadFailed",
    "20m",
    { 'caisson_kms_config_last_reload_successful{job="caisson-kms"}': "1x4 0x20" },
    { severity: "warning" },
  ],
  [
    "KmsCollateralNotFetched",
    "8h",
    { 'caisson_kms_collateral_fetches_total{job="caisson-kms",result="failed"}': "0x4 1+1x500" },
    { result: "failed", severity: "warning" },
  ],
  [
    "KmsShedsLoad",
    "30m",
    { 'caisson_kms_refused_total{job="caisson-kms",code="http/rate-limited"}': "0x4 1+9x40" },
    { code: "http/rate-limited", severity: "warning" },
  ],
];

test("Prometheus takes the rules and the server's metrics, and each alert fires when it should and not before", async (t) => {
  const directory = temporaryDirectory("kms-alerts", t);
  const promtool = join((await unpackDebian("bookworm", ["prometheus"])).root, "usr/bin/promtool");
  const rules = join(repository, "deploy/kms/alerts.yaml");
  const check = (args: string[], input?: string) => {
    const { status, stdout, stderr } = spawnSync(promtool, args, {
      encoding: "utf8",
      input,
      timeout: 60_000,
    });
    equal(status, 0, `${stdout}${stderr}`);
  };
  check(["check", "rules", rules]);
  check(["check", "config", join(repository, "deploy/kms/prometheus.yaml")]);
  const tests = fires.map(([alertname, at, series, labels]) => {
    const job = { job: "caisson-kms" };
    const exp_labels = alertname === "KmsFewReplicas" ? labels : { ...job, ...labels };
    return {
      interval: "1m",
      input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
      alert_rule_test: [
        ...(Object.keys(series).length === 0 ? [] : [{ eval_time: "0m", alertname, exp_alerts: [] }]),
        { eval_time: at, alertname, exp_alerts: [{ exp_labels }] },
      ],
    };
  });
  const file = join(directory, "tests.json");
  writeFileSync(file, JSON.stringify({ rule_files: [rules], evaluation_interval: "1m", tests }));
  check(["test", "rules", file]);

  createRootSecret(join(directory, "data"));
  mkdirSync(join(directory, "policies"));
  writeFileSync(join(directory, "policies/app.json"), JSON.stringify(new Machine(Date.now()).policyFile()));
  const kms = await startKms({
    data: join(directory, "data"),
    policies: join(directory, "policies"),
    host: "127.0.0.1",
    port: 0,
    development: true,
  });
  t.after(() => kms.close());
  check(["check", "metrics"], await (await fetch(new URL("/metrics", kms.url))).text());
});

test("Grafana's own reader takes every field of the dashboard", () => {
  const python = join(fromPypi("grafana-foundation-sdk==1769699998!10.1.0"), "python3");
  // What it does not know it leaves out, so that a field of a wrong name is gone in what it writes.
  const program = [
    "import json, sys",
    "from grafana_foundation_sdk.cog.encoder import JSONEncoder",
    "from grafana_foundation_sdk.models.dashboard import Dashboard",
    "print(JSONEncoder().encode(Dashboard.from_json(json.load(sys.stdin))))",
  ].join("\n");
  const text = readFileSync(join(repository, "deploy/kms/dashboard.json"), "utf8");
  const { status, stdout, stderr } = spawnSync(python, ["-c", program], { encoding: "utf8", input: text });
  equal(status, 0, stderr);
  const missing = (given: unknown, read: unknown, path: string): string[] => {
    if (typeof given !== "object" || given === null) return given === read ? [] : [path];
    return Object.entries(given).flatMap(([key, value]) =>
      missing(value, (read as Record<string, unknown> | undefined)?.[key], `${path}.${key}`),
    );
  };
  deepEqual(missing(JSON.parse(text), JSON.parse(stdout), "dashboard"), []);
});
