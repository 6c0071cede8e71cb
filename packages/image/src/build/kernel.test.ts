// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, notEqual, rejects, throws } from "node:assert/strict";
import { hash } from "node:crypto";
import { appendFile, cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { plainService } from "@caisson/protocol/testing/service";
import { flavours } from "@caisson/vocabulary/flavours";
import fc from "fast-check";
import { tryLock } from "../exclusive.ts";
import { buildKernels, cachedKernels, kernelKey, kernelVariant } from "./kernel.ts";
import { parseConfig, unmetRequests } from "./kernel-config.ts";
import { objectsArchive, objectsKey, takeObjects } from "./kernel-objects.ts";
import { removeAbandoned } from "./toolchain.ts";

const directory = new URL("../../../../kernel/", import.meta.url).pathname;
const read = (name: string) => readFile(join(directory, name), "utf8");
const common = ["guest.config", "hardening.config", "containers.config", "tdx.config"];
const fragments = async (flavour: string) =>
  parseConfig((await Promise.all([...common, `${flavour}.config`].map(read))).join("\n"), flavour);

test("a configuration is symbols with values, and 'is not set' is n", () => {
  const text = `#\n# Automatically generated\n#\nCONFIG_A=y\n# CONFIG_B is not set\n\nCONFIG_C="x y"\nCONFIG_D=-1\n`;
  deepEqual(
    [...parseConfig(text, "t")],
    [
      ["A", "y"],
      ["B", "n"],
      ["C", '"x y"'],
      ["D", "-1"],
    ],
  );
});

for (const [name, text] of [
  ["a symbol without its prefix", "SMP=y"],
  ["an empty value", "CONFIG_SMP="],
  ["a misspelt request to leave out", "# CONFIG_SMP is not  set"],
  ["a request to leave out that lost its #", "CONFIG_SMP is not set"],
  ["a leading space", " CONFIG_SMP=y"],
  ["the same symbol twice", "CONFIG_SMP=y\n# CONFIG_SMP is not set"],
] as const) {
  test(`${name} is refused with its line`, () => {
    throws(() => parseConfig(`CONFIG_A=y\n${text}`, "guest.config"), {
      code: "kernel/fragment",
      message: /guest\.config, line [23]/,
    });
  });
}

test("any text is parsed or refused as a fragment, nothing else", () => {
  const piece = fc.constantFrom(
    "CONFIG_",
    "# CONFIG_",
    "A",
    "=",
    "y",
    '"',
    "\n",
    " ",
    "#",
    " is not set",
    "\0",
  );
  fc.assert(
    fc.property(fc.array(piece), (pieces) => {
      try {
        parseConfig(pieces.join(""), "t");
      } catch (error) {
        equal((error as { code?: string }).code, "kernel/fragment");
      }
    }),
  );
});

test("a request that the kernel dropped, changed or refused to leave out is named", () => {
  const requested = parseConfig(
    '# CONFIG_OFF is not set\n# CONFIG_FORCED is not set\nCONFIG_ON=y\nCONFIG_GONE=y\nCONFIG_LSM="a,b"',
    "requested",
  );
  const resolved = parseConfig('CONFIG_FORCED=y\nCONFIG_ON=y\nCONFIG_LSM="b"', "resolved");
  deepEqual(unmetRequests(requested, resolved), [
    { symbol: "FORCED", requested: "n", resolved: "y" },
    { symbol: "GONE", requested: "y", resolved: "n" },
    { symbol: "LSM", requested: '"a,b"', resolved: '"b"' },
  ]);
});

for (const flavour of ["production", "development"]) {
  test(`the committed ${flavour} configuration is what the fragments ask for`, async () => {
    const resolved = parseConfig(await read(`resolved-${flavour}.config`), flavour);
    deepEqual(unmetRequests(await fragments(flavour), resolved), []);
  });
}

for (const flavour of ["production", "development"]) {
  test(`the ${flavour} kernel of contained services is what the fragments ask for, its own lines winning`, async () => {
    const own = parseConfig(await read("services.config"), "services");
    const requested = new Map([...(await fragments(flavour)), ...own]);
    const resolved = parseConfig(await read(`resolved-services-${flavour}.config`), flavour);
    deepEqual(unmetRequests(requested, resolved), []);
  });
}

test("what contained services need is in their kernel alone, and nothing of it is a bridge, a tunnel or a module", async () => {
  const plain = parseConfig(await read("resolved-production.config"), "plain");
  const services = parseConfig(await read("resolved-services-production.config"), "services");
  for (const symbol of ["USER_NS", "OVERLAY_FS", "VETH", "NETFILTER", "NF_TABLES", "IPV6", "TMPFS_XATTR"]) {
    equal(plain.get(symbol) ?? "n", "n", symbol);
    equal(services.get(symbol), "y", symbol);
  }
  for (const symbol of ["BRIDGE", "TUN", "MODULES", "BPF_SYSCALL", "IP_NF_IPTABLES_LEGACY", "NF_TABLES_IPV6"])
    equal(services.get(symbol) ?? "n", "n", symbol);
});

for (const flavour of ["production", "development"]) {
  test(`the ${flavour} kernel of persistent volumes is that of contained services and its own lines`, async () => {
    const services = parseConfig(await read("services.config"), "services");
    const own = parseConfig(await read("volumes.config"), "volumes");
    const requested = new Map([...(await fragments(flavour)), ...services, ...own]);
    const resolved = parseConfig(await read(`resolved-volumes-${flavour}.config`), flavour);
    deepEqual(unmetRequests(requested, resolved), []);
    const without = parseConfig(await read(`resolved-services-${flavour}.config`), "services");
    for (const symbol of ["DM_CRYPT", "BTRFS_FS", "CRYPTO_XTS", "CRYPTO_AES_NI_INTEL"]) {
      equal(without.get(symbol) ?? "n", "n", symbol);
      equal(resolved.get(symbol), "y", symbol);
    }
    for (const symbol of ["KEYS", "DM_INTEGRITY", "BTRFS_FS_POSIX_ACL", "CRYPTO_USER_API_SKCIPHER"]) {
      equal(resolved.get(symbol) ?? "n", "n", symbol);
    }
  });
}

test("a description with a persistent volume has that kernel, whatever its services are", () => {
  const services = { web: plainService({}) };
  equal(kernelVariant({ services, volumes: {} }), "plain");
  equal(kernelVariant({ services, volumes: { cache: {} } }), "plain");
  equal(
    kernelVariant({ services: { web: plainService({ isolation: "contained" }) }, volumes: {} }),
    "services",
  );
  const data = { size: 2 ** 28, persistent: { kmsAway: "continue" } } as const;
  equal(kernelVariant({ services, volumes: { data } }), "volumes");
});

test("the variant is part of the key, and its fragment changes no other kernel's", async (t) => {
  const inputs = await setUp(t);
  const keys = () =>
    Promise.all([
      kernelKey(inputs, "development"),
      kernelKey({ ...inputs, variant: "services" }, "development"),
    ]);
  const [plain, services] = await keys();
  notEqual(plain, services);
  const fragment = join(inputs.directory, "services.config");
  await writeFile(fragment, `${await readFile(fragment, "utf8")}CONFIG_MORE=y\n`);
  const [plainAfter, servicesAfter] = await keys();
  equal(plainAfter, plain);
  notEqual(servicesAfter, services);
});

test("production and development differ in the driver, the TPM that it reads, and the timer", async () => {
  const production = parseConfig(await read("resolved-production.config"), "production");
  const development = parseConfig(await read("resolved-development.config"), "development");
  const value = (config: Map<string, string>, symbol: string) => config.get(symbol) ?? "n";
  const differing = [...new Set([...production.keys(), ...development.keys()])]
    .filter((symbol) => value(production, symbol) !== value(development, symbol))
    .sort();
  deepEqual(differing, [
    "CAISSON_TDX_EMULATION",
    "CRYPTO_LIB_SHA512",
    "CRYPTO_LIB_SHA512_ARCH",
    "TCG_CRB",
    "TCG_TPM",
    "TDX_GUEST_DRIVER",
    "X86_PM_TIMER",
  ]);
  equal(value(production, "CAISSON_TDX_EMULATION"), "n");
  equal(value(production, "TDX_GUEST_DRIVER"), "y");
});

test("each step of the driver's ABI table has an answer and a source", async () => {
  const { steps } = JSON.parse(await read("driver/abi.json")) as {
    steps: { step: string; answer: string; source: string }[];
  };
  for (const { step, answer, source } of steps) {
    match(step, /^(stat|list|read|write|ioctl|mkdir|rmdir) \S+/);
    equal(typeof answer, "string", step);
    match(source, /\w/, step);
  }
});

/** A copy of `kernel/` that a test may change, with an empty cache. */
async function setUp(t: TestContext) {
  const place = await mkdtemp(join(tmpdir(), "caisson-kernel-"));
  t.after(() => rm(place, { recursive: true, force: true }));
  await cp(directory, join(place, "kernel"), { recursive: true });
  const toolchain = { root: "/nowhere", key: "0".repeat(64) };
  const source = { path: "/nowhere", sha256: "1".repeat(64) };
  return { toolchain, source, directory: join(place, "kernel"), cache: join(place, "cache") };
}

for (const [file, changes] of [
  ["hardening.config", ["production", "development"]],
  ["development.config", ["development"]],
  ["production.config", ["production"]],
  ["driver/boot-log.c", ["development"]],
  ["driver/Makefile", ["development"]],
  ["driver/Kconfig", ["production", "development"]],
  ["driver/abi.json", []],
  ["resolved-production.config", []],
] as const) {
  test(`a changed ${file} is another kernel for: ${changes.join(", ") || "nobody"}`, async (t) => {
    const inputs = await setUp(t);
    const keys = () => Promise.all(flavours.map((flavour) => kernelKey(inputs, flavour)));
    const before = await keys();
    await appendFile(join(inputs.directory, file), "# \n");
    const after = await keys();
    deepEqual(
      flavours.filter((_, index) => before[index] !== after[index]),
      flavours.filter((flavour) => (changes as readonly string[]).includes(flavour)),
    );
  });
}

test("another compiler or source is another kernel", async (t) => {
  const inputs = await setUp(t);
  const toolchain = { ...inputs.toolchain, key: "2".repeat(64) };
  const source = { ...inputs.source, sha256: "2".repeat(64) };
  const all = [inputs, { ...inputs, toolchain }, { ...inputs, source }];
  const keys = await Promise.all(all.map((each) => kernelKey(each, "development")));
  equal(new Set(keys).size, 3);
  equal(new Set(all.map(objectsKey)).size, 3, "and their objects are not used for one another");
});

test("a cache entry counts when it is whole and unaltered", async (t) => {
  const inputs = await setUp(t);
  equal((await cachedKernels(inputs)).size, 0);
  const hashes = { production: hash("sha256", "p"), development: hash("sha256", "d") };
  for (const flavour of ["production", "development"] as const) {
    const entry = join(inputs.cache, "kernel", await kernelKey(inputs, flavour));
    await mkdir(entry, { recursive: true });
    equal((await cachedKernels(inputs)).has(flavour), false);
    await writeFile(join(entry, `bzImage-${flavour}`), flavour[0]!);
    await writeFile(join(entry, `bzImage-${flavour}.sha256`), hashes[flavour]);
    equal((await cachedKernels(inputs)).has(flavour), false);
    await writeFile(join(entry, `config-${flavour}`), "");
    equal((await cachedKernels(inputs)).get(flavour)?.sha256, hashes[flavour]);
  }
  const production = join(inputs.cache, "kernel", await kernelKey(inputs, "production"));
  await writeFile(join(production, "bzImage-production"), "x");
  deepEqual([...(await cachedKernels(inputs)).keys()], ["development"]);
});

test("kept objects are taken when they are what was kept, of the variant first", async (t) => {
  const inputs = await setUp(t);
  const work = join(inputs.cache, "work");
  await mkdir(join(inputs.cache, "kernel"), { recursive: true });
  await mkdir(work);
  const taken = async () => {
    const found = await takeObjects(work, { ...inputs, variant: "services" });
    const content = await readFile(join(work, "objects.tar.zst"), "utf8").catch(() => undefined);
    equal(content !== undefined, found);
    await rm(join(work, "objects.tar.zst"), { force: true });
    return content;
  };
  const archive = objectsArchive(inputs, "services");
  equal(await taken(), undefined);
  await writeFile(archive, "objects");
  equal(await taken(), undefined, "killed before the digest was there");
  await writeFile(`${archive}.sha256`, hash("sha256", "others"));
  equal(await taken(), undefined, "damaged");

  const other = objectsArchive(inputs, "volumes");
  await writeFile(other, "more objects");
  await writeFile(`${other}.sha256`, hash("sha256", "more objects"));
  equal(await taken(), "more objects", "of another variant");
  await writeFile(`${archive}.sha256`, hash("sha256", "objects"));
  equal(await taken(), "objects");
});

test("what dead processes left is removed, what living ones use and finished entries stay", async (t) => {
  const place = await mkdtemp(join(tmpdir(), "caisson-abandoned-"));
  t.after(() => rm(place, { recursive: true, force: true }));
  const key = "a".repeat(64);
  // Process ids above pid_max's limit (2^22) exist nowhere.
  for (const name of [key, `${key}.4194305.Xy12Zw`, `${key}.${process.pid}.Xy12Zw`])
    await mkdir(join(place, name));
  await writeFile(join(place, `${key}.log`), "");
  await removeAbandoned(place);
  deepEqual((await readdir(place)).sort(), [key, `${key}.${process.pid}.Xy12Zw`, `${key}.log`].sort());
});

test("a kernel that another process builds is waited for, then built", async (t) => {
  const inputs = { ...(await setUp(t)), flavours, jobs: 1 };
  const place = join(inputs.cache, "kernel");
  await mkdir(place, { recursive: true });
  const release = await tryLock(`kernel ${join(await realpath(place), objectsKey(inputs))}`);
  const abort = new AbortController();
  const onProgress = ({ step }: { step: string }) => abort.abort(new Error(step));
  await rejects(buildKernels({ ...inputs, onProgress, signal: abort.signal }));
  equal((abort.signal.reason as Error).message, "wait");

  await release!();
  await rejects(buildKernels(inputs), { code: "ENOENT" }); // there is no toolchain: it got so far
  deepEqual(await readdir(place), []);
});
