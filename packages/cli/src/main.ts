// SPDX-License-Identifier: Apache-2.0
/**
 * The `caisson` command. Each command is a file under `commands/` that exports `command`, a commander `Command`;
 * only the one that is asked for is loaded, so that a new command costs the others no start-up time.
 */
import { Command } from "commander";
import { errorDocument, exitCode, renderError, UsageError } from "./failure.ts";
import { guardOutput } from "./output.ts";
import { suggest } from "./suggest.ts";

const commands: Record<string, [summary: string, load: () => Promise<{ command: Command }>]> = {
  audit: [
    "check an image, a running guest or evidence, control by control",
    () => import("./commands/audit.ts"),
  ],
  bench: ["run the benchmarks and print ratios", () => import("./commands/bench.ts")],
  build: ["make the image of a spec from what its lock names", () => import("./commands/build.ts")],
  check: [
    "say what will run of a compose file or an image, and at what cost",
    () => import("./commands/check.ts"),
  ],
  exec: ["run a command beside a service of a development machine", () => import("./commands/exec.ts")],
  kernel: [
    "which kernels could be used, what differs, what is hardened",
    () => import("./commands/kernel.ts"),
  ],
  firmware: ["compare firmware images", () => import("./commands/firmware.ts")],
  inspect: [
    "show what a firmware, an event log or evidence consists of",
    () => import("./commands/inspect.ts"),
  ],
  identity: [
    "say who an application is: whose signatures its releases need",
    () => import("./commands/identity.ts"),
  ],
  instance: [
    "write what a production machine needs, and who accepts it",
    () => import("./commands/instance.ts"),
  ],
  kms: ["serve keys to verified guests; back up, restore, check the log", () => import("./commands/kms.ts")],
  logs: ["what the services of a development machine wrote", () => import("./commands/logs.ts")],
  lock: ["pin the packages of an image", () => import("./commands/lock.ts")],
  measure: ["predict a boot's registers from files, or explain a log", () => import("./commands/measure.ts")],
  owner: ["make keys that sign identities and releases", () => import("./commands/owner.ts")],
  publish: ["write what a stranger needs to verify an image", () => import("./commands/publish.ts")],
  policy: ["write a policy from evidence, or explain one", () => import("./commands/policy.ts")],
  ps: ["the services of a development machine and their states", () => import("./commands/ps.ts")],
  release: [
    "say which image an application may run; sign, verify, revoke",
    () => import("./commands/release.ts"),
  ],
  test: ["run the tests: unit, integration, e2e, attacks", () => import("./commands/test.ts")],
  time: ["ask NTS servers for the time and show who agrees", () => import("./commands/time.ts")],
  up: ["build, boot, attest and show an image", () => import("./commands/up.ts")],
  verify: ["judge evidence: is it genuine, and is it acceptable?", () => import("./commands/verify.ts")],
};

function helpText(): string {
  const width = Math.max(...Object.keys(commands).map((name) => name.length));
  const rows = Object.entries(commands).map(([name, [summary]]) => `  ${name.padEnd(width)}  ${summary}`);
  return `Usage: caisson COMMAND [options]   (caisson COMMAND --help for its options)\n\n${rows.join("\n")}\n\n--yes (or CAISSON_YES=1) lets the launcher install missing Debian packages unasked; --version says the version.\n`;
}

async function main(argv: string[]): Promise<void> {
  const [name, ...rest] = argv;
  if (name === "--version" || name === "-V") {
    const { ownVersion, versionText } = await import("./version.ts");
    const json = rest.includes("--json");
    process.stdout.write(json ? `${JSON.stringify(ownVersion(), null, 2)}\n` : versionText());
    return;
  }
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(helpText());
    if (name === undefined) process.exitCode = 2;
    return;
  }
  const entry = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (entry === undefined) {
    const near = suggest(name, Object.keys(commands));
    const hint = near === undefined ? "" : `did you mean '${near}'? `;
    throw new UsageError(`there is no command '${name}'`, `${hint}caisson --help lists them`);
  }
  const { command } = await entry[1]();
  throwErrors(command);
  await command.parseAsync(rest, { from: "user" });
}

/** Wrong usage becomes an exception, of subcommands too: commander passes settings on only to those it makes itself. */
function throwErrors(command: Command): void {
  command.exitOverride().configureOutput({ outputError: () => {} });
  for (const subcommand of command.commands) throwErrors(subcommand);
}

/** Whether anything has been written to stdout since. */
function watchStdout(): () => boolean {
  const { stdout } = process;
  const write = stdout.write.bind(stdout) as (...values: unknown[]) => boolean;
  let written = false;
  stdout.write = (...values: unknown[]) => {
    written = true;
    return write(...values);
  };
  return () => written;
}

const argv = process.argv.slice(2);
const subject = `caisson ${argv[0] ?? ""}`.trimEnd();
const hasPrinted = watchStdout();
const outputFailed = guardOutput(subject);
try {
  await main(argv);
} catch (error) {
  const code = exitCode(error);
  if (code !== 0 && !outputFailed()) process.stderr.write(renderError(subject, error));
  // A command that fails after its document has said why in it; a second one would spoil the first.
  if (code !== 0 && argv.includes("--json") && !hasPrinted() && !outputFailed()) {
    process.stdout.write(`${JSON.stringify(errorDocument(error), null, 2)}\n`);
  }
  process.exitCode = code;
}
