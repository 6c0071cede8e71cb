// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import fc from "fast-check";
import { ImageError, type ImageErrorCode } from "../errors.ts";
import { recipientText } from "./log-keys.ts";
import { debianKeys, parseSpec, readSpec } from "./spec.ts";

const minimal = "version: 1\nname: hello\napp:\n  image: ./layout\n  port: 8080\n";
const composed = "version: 1\nname: hello\napp:\n  compose: ./compose.yaml\n";
const parse = (text: string) => parseSpec(text, "/spec/caisson.yaml");
const digest = `sha256:${"0123456789abcdef".repeat(4)}`;

test("a minimal spec, with the defaults", () => {
  deepEqual(parse(minimal), {
    version: 1,
    name: "hello",
    archive: { keys: [...debianKeys], keysNamedIn: "built in, for Debian 13", as_of: {} },
    app: {
      source: { kind: "image", reference: { kind: "local", path: "/spec/layout" } },
      port: 8080,
      environment: {},
      variables: {},
    },
    time: { secure_time: true },
    kms: {},
    path: "/spec/caisson.yaml",
    directory: "/spec",
  });
});

test("a compose file, its variables and the limits of services that name none", () => {
  const { app } = parse(`${composed}  variables: { TAG: "1" }\n  api: dstack\n  memory: 1GiB\n  pids: 9\n`);
  deepEqual(app, {
    source: { kind: "compose", path: "/spec/compose.yaml" },
    environment: {},
    variables: { TAG: "1" },
    api: "dstack",
    memory: 2 ** 30,
    pids: 9,
  });
});

test("keys for logs are one form, however they are written", () => {
  const key = "ab".repeat(32);
  const { app } = parse(
    `${composed}  logs: { to: ["x25519:${key}", ${recipientText(Buffer.from(key, "hex"))}] }\n`,
  );
  deepEqual(app.logs, { to: [key, key] });
});

test("an identity, and secrets with and without a variable", () => {
  const { app } = parse(
    `${minimal}  identity: ./identity.json\n  secrets: [DB_URL, { name: TOKEN, environment: API_TOKEN }]\n`,
  );
  equal(app.identity, "/spec/identity.json");
  deepEqual(app.secrets, [{ name: "DB_URL" }, { name: "TOKEN", environment: "API_TOKEN" }]);
});

test("everything that can be said", () => {
  const spec = parse(`
version: 1
name: all-of-it
archive:
  keys: [04B5 4C3C DCA7 9751 B16B  C6B5 2256 29DF 75B1 88BD]
  as_of: { forky: 2026-11-01 }
app:
  image: registry.example:5000/team/app@${digest}
  port: 443
  environment: { MODE: "1" }
  arguments: [serve, --quiet]
  memory: 2GiB
  pids: 100
time: { secure_time: false }
kms: { identity: ${"ab".repeat(32)} }
`);
  deepEqual(spec.app, {
    source: {
      kind: "image",
      reference: { kind: "registry", registry: "registry.example:5000", repository: "team/app", digest },
    },
    port: 443,
    environment: { MODE: "1" },
    arguments: ["serve", "--quiet"],
    memory: 2 ** 31,
    pids: 100,
    variables: {},
  });
  deepEqual(spec.archive.keys, ["04B54C3CDCA79751B16BC6B5225629DF75B188BD"]);
  equal(spec.archive.keysNamedIn, "/spec/caisson.yaml, line 5, column 3: archive.keys");
  equal(spec.archive.as_of["forky"]?.toISOString(), "2026-11-01T00:00:00.000Z");
  deepEqual(spec.kms, { identity: "ab".repeat(32) });
  deepEqual(spec.time, { secure_time: false });
});

test("an application of one directory of JavaScript", () => {
  const { source } = parse(minimal.replace("image: ./layout", "node: ./app/server.mjs")).app;
  deepEqual(source, { kind: "node", entry: "/spec/app/server.mjs" });
});

const bad: { name: string; text: string; code: ImageErrorCode; where: RegExp }[] = [
  {
    name: "an unknown key",
    text: `${minimal}extra: 1\n`,
    code: "spec/unknown-key",
    where: /line 6, column 1: a spec has no key 'extra'/,
  },
  {
    name: "an unknown key inside",
    text: `${minimal}  prot: 1\n`,
    code: "spec/unknown-key",
    where: /line 6, column 3: 'app' has no key 'prot'/,
  },
  { name: "a key twice", text: `${minimal}name: other\n`, code: "spec/syntax", where: /line 6, column 1/ },
  {
    name: "a wrong type",
    text: minimal.replace("8080", "'8080'"),
    code: "spec/value",
    where: /line 5, column 9: 'app.port'/,
  },
  {
    name: "a number for text",
    text: minimal.replace("hello", "12"),
    code: "spec/value",
    where: /line 2, column 7: 'name'/,
  },
  {
    name: "a port out of range",
    text: minimal.replace("8080", "70000"),
    code: "spec/value",
    where: /line 5, column 9: 'app.port'/,
  },
  {
    name: "a volume without a unit",
    text: `${minimal}volumes: { data: { size: 1000000000 } }\n`,
    code: "spec/value",
    where: /'volumes\.data\.size'/,
  },
  {
    name: "a volume that is too small",
    text: `${minimal}volumes: { data: { size: 16MiB } }\n`,
    code: "spec/value",
    where: /'volumes\.data\.size': at least 256MiB/,
  },
  {
    name: "another policy for when the KMS is away",
    text: `${minimal}volumes: { data: { size: 1GiB, kms_away: ignore } }\n`,
    code: "spec/value",
    where: /'volumes\.data\.kms_away'/,
  },
  {
    name: "a missing key",
    text: "version: 1\nname: x\n",
    code: "spec/value",
    where: /line 1, column 1: 'app'/,
  },
  {
    name: "another version",
    text: minimal.replace("version: 1", "version: 2"),
    code: "spec/value",
    where: /line 1, column 10: 'version'/,
  },
  {
    name: "a name with a slash",
    text: minimal.replace("hello", "../x"),
    code: "spec/value",
    where: /line 2, column 7/,
  },
  {
    name: "an image by a digest that is none",
    text: minimal.replace("./layout", "registry.example/app@sha256:12"),
    code: "spec/value",
    where: /line 4, column 10: 'app.image': .*digest/,
  },
  {
    name: "an image whose name has capital letters",
    text: minimal.replace("./layout", "registry.example/App"),
    code: "spec/value",
    where: /'app.image': 'registry.example\/App' is not the name of an image/,
  },
  {
    name: "both image and node",
    text: `${minimal}  node: ./a.mjs\n`,
    code: "spec/value",
    where: /line 4, column 3: 'app': name one of/,
  },
  {
    name: "neither image nor node",
    text: "version: 1\nname: x\napp:\n  port: 1\n",
    code: "spec/value",
    where: /'app': name one of/,
  },
  {
    name: "memory without a unit",
    text: `${minimal}  memory: 256\n`,
    code: "spec/value",
    where: /line 6, column 11: 'app.memory'/,
  },
  {
    name: "too little memory",
    text: `${minimal}  memory: 1MiB\n`,
    code: "spec/value",
    where: /at least 16MiB/,
  },
  {
    name: "a malformed variable",
    text: `${minimal}  environment: { "A B": x }\n`,
    code: "spec/value",
    where: /'app.environment.A B'/,
  },
  {
    name: "a variable that is a number",
    text: `${minimal}  environment: { A: 1 }\n`,
    code: "spec/value",
    where: /line 6, column 21: 'app.environment.A'/,
  },
  {
    name: "a short fingerprint",
    text: `${minimal}archive: { keys: [ABCD] }\n`,
    code: "spec/value",
    where: /line 6, column 19: 'archive.keys.0': a fingerprint/,
  },
  { name: "no keys", text: `${minimal}archive: { keys: [] }\n`, code: "spec/value", where: /'archive.keys'/ },
  {
    name: "a day that does not exist",
    text: `${minimal}archive: { as_of: { forky: 2026-13-01 } }\n`,
    code: "spec/value",
    where: /no such day/,
  },
  {
    name: "time sources that are none",
    text: `${minimal}time: { sources: [here] }\n`,
    code: "spec/value",
    where: /line 6, column 18/,
  },
  {
    name: "a quorum without the sources that it is of",
    text: `${minimal}time: { minOperators: 2 }\n`,
    code: "spec/value",
    where: /line 6.*sources: this field is missing/,
  },
  {
    name: "a limit of time that does not exist",
    text: `${minimal}time: { limits: { maxRtt: 1 } }\n`,
    code: "spec/value",
    where: /line 6/,
  },
  {
    name: "a tag of YAML",
    text: minimal.replace("8080", "!!js/function x"),
    code: "spec/syntax",
    where: /line 5/,
  },
  { name: "two documents", text: `${minimal}---\nversion: 1\n`, code: "spec/syntax", where: /caisson\.yaml/ },
  { name: "an unclosed bracket", text: "version: [1\n", code: "spec/syntax", where: /line 2/ },
  {
    name: "an alias bomb",
    text: `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [${"*a,".repeat(20)}]\nc: &c [${"*b,".repeat(20)}]\nd: [${"*c,".repeat(20)}]\n`,
    code: "spec/syntax",
    where: /alias/,
  },
  {
    name: "a compose file and an image",
    text: `${minimal}  compose: ./compose.yaml\n`,
    code: "spec/value",
    where: /line 4, column 3: 'app': name one of/,
  },
  {
    name: "a compose file that is none",
    text: composed.replace("./compose.yaml", "./compose"),
    code: "spec/value",
    where: /line 4, column 12: 'app.compose': name a compose file/,
  },
  {
    name: "what a compose file says for each service",
    text: `${composed}  port: 80\n`,
    code: "spec/value",
    where: /line 5, column 9: 'app.port': say this in the compose file/,
  },
  {
    name: "a read-only root that is read-only anyway",
    text: `${minimal.replace("image: ./layout", "node: ./a.mjs")}  read_only: true\n`,
    code: "spec/value",
    where: /'app.read_only': this is for an image/,
  },
  {
    name: "a secret twice",
    text: `${minimal}  secrets: [A, { name: A, environment: B }]\n`,
    code: "spec/value",
    where: /'app.secrets': a secret stands here twice/,
  },
  {
    name: "variables without a compose file",
    text: `${minimal}  variables: { A: x }\n`,
    code: "spec/value",
    where: /'app.variables': this is for a compose file/,
  },
  {
    name: "logs to what is not a key",
    text: `${minimal}  logs: { to: [owner] }\n`,
    code: "spec/value",
    where: /'app\.logs\.to\.0': a public key of age's/,
  },
  {
    name: "logs to nobody",
    text: `${minimal}  logs: { to: [] }\n`,
    code: "spec/value",
    where: /'app\.logs\.to'/,
  },
  { name: "a list", text: "- 1\n", code: "spec/value", where: /line 1, column 1: the spec/ },
  { name: "nothing", text: "", code: "spec/value", where: /the spec/ },
];

for (const { name, text, code, where } of bad) {
  test(`refused: ${name}`, () => {
    throws(
      () => parse(text),
      (error) => {
        if (!(error instanceof ImageError)) throw error;
        equal(error.code, code);
        match(error.message, where);
        equal(error.kind, "input");
        return true;
      },
    );
  });
}

test("an unknown key comes with the keys that are known", () => {
  throws(
    () => parse(`${minimal}  prot: 1\n`),
    (error) => {
      deepEqual((error as ImageError).facts, [
        [
          "keys",
          "image, node, port, environment, arguments, memory, pids, compose, variables, identity, secrets, volumes, api, read_only, logs",
        ],
      ]);
      return true;
    },
  );
});

test("persistent volumes, and what happens to them when the KMS is away", () => {
  const text = minimal.replace("port: 8080", "port: 8080\n  volumes: { data: /data }");
  const spec = parseSpec(
    `${text}volumes: { data: { size: 2GiB }, more: { size: 256MiB, kms_away: freeze } }\n`,
    "/x/caisson.yaml",
  );
  deepEqual(spec.app.volumes, { data: "/data" });
  deepEqual(spec.volumes, {
    data: { size: 2 ** 31, kmsAway: "continue" },
    more: { size: 2 ** 28, kmsAway: "freeze" },
  });
});

test("every mistake is said at once, in words of ours", () => {
  throws(
    () =>
      parse(
        "version: 1\nname: My App\napp:\n  nod: x\n  port: 99999\n  memory: 3\n  environment: { FOO: 1 }\n",
      ),
    (error) => {
      const { message, facts } = error as ImageError;
      match(message, /line 4, column 3: 'app' has no key 'nod'/);
      deepEqual(
        facts.filter(([label]) => label === "also").map(([, text]) => text),
        [
          "line 2, column 7: 'name': 1 to 63 of a-z, 0-9 and -, starting with a letter or digit",
          "line 5, column 9: 'app.port': at most 65535",
          "line 6, column 11: 'app.memory': it has to be a text: in quotes it is one, \"3\"",
          "line 7, column 23: 'app.environment.FOO': it has to be a text: in quotes it is one, \"1\"",
        ],
      );
      return true;
    },
  );
});

test("a path without its ./ is told what to write", () => {
  throws(
    () => parse("version: 1\nname: a\napp:\n  node: src/index.js\n"),
    /'app.node': write \.\/src\/index\.js/,
  );
  throws(() => parse("version: 1\nname: a\napp:\n  compose: compose.yaml\n"), /write \.\/compose\.yaml/);
  throws(
    () => parse("version: 1\nname: a\napp:\n  node: ./server.ts\n"),
    /a JavaScript file, such as \.\/server\.mjs/,
  );
});

test("a file that is not there is said when the spec is read", async (t) => {
  const directory = temporaryDirectory("spec", t);
  for (const source of ["node: ./missing.js", "compose: ./missing.yaml"]) {
    writeFileSync(join(directory, "caisson.yaml"), `version: 1\nname: a\napp:\n  ${source}\n`);
    await rejects(readSpec(directory), { code: "app/directory", message: /missing\.\w+ is not a file/ });
  }
});

test("a text that is nested without measure is refused in words", () => {
  for (const deep of ["[".repeat(20_000), `a:\n ${"- ".repeat(20_000)}x\nb: 1\n`, '{"a":'.repeat(20_000)])
    throws(() => parse(deep), { code: "spec/syntax", message: /too deep to be read/ });
});

test("any text is a spec or an ImageError", () => {
  const lines = fc.array(fc.oneof(fc.constantFrom(...minimal.split("\n")), fc.string({ maxLength: 12 })));
  fc.assert(
    fc.property(lines, (parts) => {
      try {
        parse(parts.join("\n"));
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
      }
    }),
    { numRuns: 300 },
  );
});

test("a spec that is not there", async () => {
  await rejects(readSpec("/nowhere/at/all"), { code: "spec/unreadable" });
  await rejects(readSpec("/dev/zero"), { code: "spec/unreadable" }); // which never ends
});

test("a compose file where a spec is wanted: the lines to write, which are a spec", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "Caisson shop "));
  t.after(() => rmSync(directory, { recursive: true }));
  const compose = join(directory, "docker-compose.yml");
  writeFileSync(compose, "services: { web: { image: nginx } }\n");
  for (const named of [compose, directory]) {
    await rejects(readSpec(named), (error: ImageError) => {
      equal(error.code, "spec/compose-file");
      writeFileSync(join(directory, "caisson.yaml"), error.facts.map(([, line]) => line).join("\n"));
      return true;
    });
    const { name, app } = await readSpec(directory);
    deepEqual([name, app.source.kind], ["caisson", "compose"]);
    rmSync(join(directory, "caisson.yaml"));
  }
});
