// SPDX-License-Identifier: Apache-2.0
/** What the documents refer to is there: links, files, commands, and every dependency with its version. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";
import { catalogue } from "@caisson/audit";
import { serviceKeys } from "@caisson/image/compose/keys";
import { inertKeys, refusedKeys } from "@caisson/image/compose/refusals";
import type { ImageError } from "@caisson/image/errors";
import { parseSpec } from "@caisson/image/spec";
import { errorDocument } from "../../../test/support/error-document.ts";

const repository = new URL("../../../", import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, repository), "utf8");
const documents = [
  "README.md",
  "README.zh-CN.md",
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  ...globSync("packages/*/README.md", { cwd: repository.pathname }),
  ...globSync("docs/**/*.md", { cwd: repository.pathname }),
];

/** GitHub's anchors of a document's headings. */
const anchors = (text: string): string[] =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );

/** A link that leads nowhere, as it is written. */
function broken(document: string): string[] {
  const links = [...read(document).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
  return links.filter((link) => {
    if (/^https?:/.test(link)) return false;
    const target = new URL(link, new URL(document, repository));
    const anchor = target.hash.slice(1);
    target.hash = "";
    if (!existsSync(target)) return true;
    return anchor !== "" && !anchors(readFileSync(target, "utf8")).includes(decodeURIComponent(anchor));
  });
}

for (const document of documents) {
  test(`${document}: every link and every file that it names is there`, () => {
    deepEqual(broken(document), []);
    // With an ending or a slash at the end: `kernel/dropped` is an error's code.
    const files = [
      ...read(document).matchAll(
        /`((?:packages|docs|test|kernel|bench|examples)\/[a-z\d_./-]*(?:\.[a-z]+|\/))`/g,
      ),
    ];
    deepEqual(
      files.map(([, file]) => file!).filter((file) => !existsSync(new URL(file, repository))),
      [],
    );
  });
}

test("every npm dependency stands in docs/dependencies.md, with the version that is pinned", () => {
  const rows = read("docs/dependencies.md");
  const manifests = ["package.json", ...globSync("packages/*/package.json", { cwd: repository.pathname })];
  const pinned = manifests.flatMap((path) => {
    const { dependencies, devDependencies } = JSON.parse(read(path)) as Record<
      string,
      Record<string, string>
    >;
    return Object.entries({ ...dependencies, ...devDependencies });
  });
  const foreign = new Set(
    pinned.filter(([name]) => !name.startsWith("@caisson/")).map((pair) => pair.join(" ")),
  );
  ok(foreign.has("zod 4.6.7"), "the manifests name no dependencies");
  const listed = new Set(
    [...rows.matchAll(/`(@?[a-z][\w./-]*) (\d[\w.-]*)`/g)].map(([, name, v]) => `${name} ${v}`),
  );
  deepEqual([...listed].sort(), [...foreign].sort());
});

test("every Debian package that the launcher installs stands there, too", () => {
  const rows = read("docs/dependencies.md");
  const launcher = read("caisson");
  const packages = [...launcher.matchAll(/^ *(?:need|need_library) (\S+) /gm)].map(([, name]) => name!);
  equal(packages.length, launcher.match(/^\s*need(?:_library)? /gm)?.length);
  ok(packages.includes("qemu-system-x86"), "the launcher installs nothing");
  deepEqual(
    packages.filter((name) => !rows.includes(`\`${name}\``)),
    [],
  );
});

test("the README shows every command and how many controls there are, and its options exist", () => {
  const tables = ["main", "portable-commands", "run"]
    .map((name) => read(`packages/cli/src/${name}.ts`))
    .join("");
  const commands = [...tables.matchAll(/import\("\.\/commands\/(\w+)\.ts"\)/g)];
  const files = globSync("packages/cli/src/commands/*.ts", { cwd: repository.pathname });
  deepEqual(
    commands.map(([, name]) => `packages/cli/src/commands/${name}.ts`).sort(),
    files.filter((path) => !path.endsWith(".test.ts")).sort(),
  );
  const table = read("README.md").split("## Commands")[1]!;
  const named = commands.map(([, name]) => name!);
  deepEqual(
    named.filter((name) => !table.includes(`\`${name}`)),
    [],
  );
  ok(table.includes(`| ${catalogue.length} controls:`), `there are ${catalogue.length} controls`);
  const sources = named.map((name) => read(`packages/cli/src/commands/${name}.ts`)).join("");
  const options = [...table.split("\n## ")[0]!.matchAll(/--[a-z]+(?:-[a-z]+)*/g)].map(([option]) => option);
  deepEqual(
    options.filter((option) => option !== "--help" && !sources.includes(`"${option}`)),
    [],
  );
});

const namesIn = (text: string): string[] => [...text.matchAll(/`([\w-]+)`/g)].map(([, name]) => name!);
const filesIn = (pattern: string): string[] =>
  globSync(pattern, { cwd: repository.pathname })
    .filter((path) => !path.endsWith(".test.ts"))
    .map((path) => basename(path, ".ts"))
    .sort();

test("the README names every benchmark, and docs/architecture.md every stage of a boot", () => {
  const [, benchmarks] = /^\| `bench` \|[^:]*:(.*)$/m.exec(read("README.md"))!;
  deepEqual(namesIn(benchmarks!).sort(), filesIn("bench/*.ts"));
  const [, table] = /\n\| stage \|.*\n.*\n((?:\|.*\n)+)/.exec(read("docs/architecture.md"))!;
  const stages = table!.split("\n").flatMap((row) => namesIn(row.split("|")[1] ?? ""));
  // The boundary is a line of init.ts.
  deepEqual(stages.filter((name) => name !== "boundary").sort(), filesIn("packages/guest/src/stages/*.ts"));
});

/** What a line of a document says that no translation changes; of a line in a code block, all of it. */
function untranslated(text: string): string[] {
  let code = false;
  return text.split("\n").map((line) => {
    const fence = line.startsWith("```");
    if (fence) code = !code;
    if (code || fence) return line;
    const parts = [
      [line.match(/^#+ /)?.[0] ?? line.match(/^\|/)?.[0] ?? (line === "" ? "empty" : "text")],
      [line.match(/(?<=^\|.*)\|/g)?.length ?? 0],
      // Words stand in another order in another language.
      (line.match(/`[^`]*`/g) ?? []).sort(),
      (line.match(/(?<=\]\()[^)]*/g) ?? []).sort(),
      (line.replace(/`[^`]*`|\]\([^)]*\)/g, " ").match(/\d+(?:[.,]\d+)*/g) ?? []).sort(),
    ];
    return parts.map((part) => part.join(" ")).join("; ");
  });
}

test("the Chinese README has the English one's headings, code, commands, figures and links, line by line", () => {
  const [english, chinese] = ["README.md", "README.zh-CN.md"].map(read) as [string, string];
  // Each leads to the other, in its third line.
  ok(
    english.split("\n")[2]!.includes("](README.zh-CN.md)") &&
      chinese.split("\n")[2]!.includes("](README.md)"),
  );
  const want = untranslated(english.replace("](README.zh-CN.md)", "](README.md)"));
  ok(want.length > 100 && want.some((line) => line.startsWith("## ")), "the README is read wrongly");
  const have = untranslated(chinese);
  const apart = Array.from({ length: Math.max(want.length, have.length) }, (_, index) => index)
    .filter((index) => have[index] !== want[index])
    .map((index) => `line ${index + 1}: README.md has "${want[index]}", README.zh-CN.md "${have[index]}"`);
  // One line too many moves all that follow: the first one is the one to look at.
  equal(apart[0], undefined);
  const prose = chinese.replace(/^```[\s\S]*?^```$|`[^`]*`/gm, "").split("\n");
  deepEqual(
    prose.slice(3).filter((line) => /[a-z]{3}/i.test(line) && !/\p{Script=Han}/u.test(line)),
    [],
    "lines that are not translated",
  );
});

/** The keys of a spec, or of one of its parts, as the error about an unknown one lists them. */
function specKeys(part?: string): string[] {
  try {
    parseSpec(part === undefined ? "unknown: 1" : `${part}: { unknown: 1 }`, "/caisson.yaml");
  } catch (error) {
    return (error as ImageError).facts?.find(([label]) => label === "keys")?.[1].split(", ") ?? [];
  }
  return [];
}

/** What stands in the first column of each table of a section of docs/application.md. */
function keysOfTables(heading: string, key: RegExp): string[][] {
  const section = read("docs/application.md")
    .split(/^(?=## )/m)
    .find((text) => text.startsWith(heading))!;
  return section
    .split(/\n\n/)
    .filter((block) => block.startsWith("|"))
    .map((table) => table.split("\n").slice(2))
    .map((rows) => rows.flatMap((row) => [...row.split("|")[1]!.matchAll(key)].map(([, name]) => name!)));
}

test("docs/application.md has every key of a spec, and no other", () => {
  const [listed] = keysOfTables("## `caisson.yaml`", /`([A-Za-z_.]+)`/g);
  const known = specKeys().flatMap((key) => {
    const inner = specKeys(key);
    return inner.length === 0 ? [key] : inner.map((name) => `${key}.${name}`);
  });
  deepEqual(listed!.sort(), known.sort());
});

test("docs/application.md has every key of a service in a compose file, under what becomes of it", () => {
  const [honoured, inert, refused] = keysOfTables("## Several services", /`([a-z_]+)`/g);
  deepEqual(honoured!.sort(), [...serviceKeys].sort());
  deepEqual(inert!.sort(), Object.keys(inertKeys).sort());
  deepEqual(refused!.sort(), Object.keys(refusedKeys).sort());
});

test("docs/errors.md has every error code of every package", () => {
  equal(read("docs/errors.md"), errorDocument(), "write it again: node test/support/error-document.ts");
});

for (const [file, least] of [
  ["docs/releases.md", 50],
  ["docs/state.md", 35],
] as const) {
  test(`${file} names for every attack a test that is there, and a code that is known`, () => {
    const table = read(file).split("\n## Attacks\n")[1]!.split("\n## ")[0]!;
    const rows = [...table.matchAll(/^\| .+ \| (?:`([a-z-]+\/[a-z-]+)`|–) \| `([^`]+)`: (.+) \|$/gm)];
    equal(rows.length, [...table.matchAll(/^\| /gm)].length - 1);
    ok(rows.length > least);
    const known = read("docs/errors.md");
    for (const [, code, path, name] of rows) {
      const text = read(path!);
      ok(text.includes(`"${name}"`), `${path}: ${name}`);
      ok(code === undefined || known.includes(`\`${code}\``), `${code}`);
    }
  });
}

/** The first circle of imports among files, as the files on it; undefined when there is none. */
function circle(imports: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return undefined;
    for (const next of imports.get(file) ?? []) {
      const found = visit(next, [...path, file]);
      if (found !== undefined) return found;
    }
    done.add(file);
    return undefined;
  };
  for (const file of imports.keys()) {
    const found = visit(file, []);
    if (found !== undefined) return found;
  }
  return undefined;
}

test("no file imports itself by way of others, not even for types", () => {
  deepEqual(
    circle(
      new Map([
        ["a", ["b"]],
        ["b", ["c"]],
        ["c", ["b"]],
      ]),
    ),
    ["b", "c", "b"],
  );
  const imports = new Map(
    globSync("packages/*/src/**/*.ts", { cwd: repository.pathname }).map((path) => {
      const relative = [...read(path).matchAll(/(?:from|import\() ?"(\.[^"]+)"/g)];
      return [path, relative.map(([, to]) => join(dirname(path), to!))] as const;
    }),
  );
  deepEqual(circle(imports), undefined);
});

test("every source file names its licence in its first lines; the kernel driver has the kernel's", () => {
  const options = { cwd: repository.pathname };
  const sources = ["packages", "test", "bench", "examples", "kernel"].flatMap((place) =>
    globSync(`${place}/**/*.{ts,mjs,c,h,css}`, { ...options, exclude: ["**/node_modules/**", "**/out/**"] }),
  );
  ok(sources.length > 0);
  const wrong = sources.filter((path) => {
    const licence = path.startsWith("kernel/driver/") ? "GPL-2.0-only" : "Apache-2.0";
    return !read(path).slice(0, 100).includes(`SPDX-License-Identifier: ${licence}`);
  });
  deepEqual(wrong, []);
});

test("every package has a page that begins with its name, and the files that it names are there", () => {
  for (const place of globSync("packages/*", { cwd: repository.pathname })) {
    const page = read(`${place}/README.md`);
    ok(page.startsWith(`# @caisson/${place.slice("packages/".length)}\n`), place);
    const missing = [...page.matchAll(/`(src\/[\w./-]+)`/g)].filter(
      ([, file]) => !existsSync(new URL(`${place}/${file}`, repository)),
    );
    deepEqual(
      missing.map(([, file]) => file),
      [],
      place,
    );
  }
});

test("what the packages' own pages import is there", async () => {
  let names = 0;
  for (const page of globSync("packages/*/README.md", { cwd: repository.pathname })) {
    for (const [, list, name] of read(page).matchAll(/^import \{([^}]*)\} from "(@caisson\/\w+)";$/gm)) {
      const offered = (await import(name!)) as Record<string, unknown>;
      for (const wanted of list!.split(",").map((text) => text.trim())) {
        ok(Object.hasOwn(offered, wanted), `${page}: ${name} has no ${wanted}`);
        names++;
      }
    }
  }
  ok(names > 0);
});

test("packages name what they offer: no wildcard, and every file of it is there", () => {
  for (const path of globSync("packages/*/package.json", { cwd: repository.pathname })) {
    const { exports = {} } = JSON.parse(read(path)) as { exports?: Record<string, string> };
    for (const [name, file] of Object.entries(exports)) {
      ok(
        !name.includes("*") && existsSync(new URL(join(dirname(path), file), repository)),
        `${path}: ${name}`,
      );
    }
  }
});

test("tests and benchmarks import what a package offers by its name", () => {
  const offered = new Map(
    globSync("packages/*/package.json", { cwd: repository.pathname }).flatMap((path) => {
      const { name, exports = {} } = JSON.parse(read(path)) as {
        name: string;
        exports?: Record<string, string>;
      };
      return Object.entries(exports).map(
        ([key, file]) => [join(dirname(path), file), join(name, key)] as const,
      );
    }),
  );
  const byPath = globSync("{test,bench}/**/*.ts", { cwd: repository.pathname }).flatMap((path) =>
    [...read(path).matchAll(/from "((?:\.\.\/)+packages\/[^"]+)"/g)].flatMap(([, to]) => {
      const name = offered.get(join(dirname(path), to!));
      return name === undefined ? [] : [`${path}: ${name}`];
    }),
  );
  deepEqual(byPath, []);
});

test("the room of certificates names no vendor", () => {
  const files = globSync("packages/verify/src/pki/*.ts", { cwd: repository.pathname });
  ok(files.length > 0);
  deepEqual(
    files.filter((path) => /intel|sgx|tdx|\bamd\b/i.test(read(path))),
    [],
  );
});

test("packages import what the table of docs/architecture.md lets them, and name it in their package.json", () => {
  const rows = read("docs/architecture.md").matchAll(/^\| `packages\/(\w+)` \|.*\| ([^|]*) \|$/gm);
  const all = globSync("packages/*", { cwd: repository.pathname }).map((path) =>
    path.slice("packages/".length),
  );
  let rooms = 0;
  for (const [, room, may] of rows) {
    const allowed = may === "all" ? all : all.filter((name) => new RegExp(`\\b${name}\\b`).test(may!));
    const sources = globSync(`packages/${room}/src/**/*.ts`, { cwd: repository.pathname });
    const code = sources.filter((path) => !/\.test\.ts$|\/testing\b/.test(path)).map(read);
    const imported = new Set(
      code.flatMap((text) => [...text.matchAll(/from "@caisson\/(\w+)/g)].map(([, name]) => name!)),
    );
    const { dependencies = {} } = JSON.parse(read(`packages/${room}/package.json`)) as {
      dependencies?: Record<string, string>;
    };
    const named = (name: string) => Object.hasOwn(dependencies, `@caisson/${name}`);
    deepEqual(
      [...imported].filter((name) => !allowed.includes(name) || !named(name)),
      [],
      `packages/${room}`,
    );
    rooms++;
  }
  deepEqual(rooms, all.length);
});
