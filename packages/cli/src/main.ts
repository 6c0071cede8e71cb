// SPDX-License-Identifier: Apache-2.0
/** The `caisson` command of this repository: every command there is. */

import type { Commands } from "./edition.ts";
import { portableCommands } from "./portable-commands.ts";
import { run } from "./run.ts";
import { jsonText } from "./views/answer.ts";

const commands: Commands = {
  ...portableCommands,
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
  collateral: [
    "fetch what Intel or AMD publishes about a platform",
    () => import("./commands/collateral.ts"),
  ],
  connect: [
    "open a door on this machine to a guest that was verified",
    () => import("./commands/connect.ts"),
  ],
  exec: ["run a command beside a service of a development machine", () => import("./commands/exec.ts")],
  kernel: [
    "which kernels could be used, what differs, what is hardened",
    () => import("./commands/kernel.ts"),
  ],
  firmware: ["compare firmware images", () => import("./commands/firmware.ts")],
  identity: [
    "say who an application is: whose signatures its releases need",
    () => import("./commands/identity.ts"),
  ],
  instance: [
    "write what a production machine needs, and who accepts it",
    () => import("./commands/instance.ts"),
  ],
  kms: ["serve keys to verified guests; back up, restore, check the log", () => import("./commands/kms.ts")],
  log: ["keep, witness and follow transparency logs of releases", () => import("./commands/log.ts")],
  logs: ["what the services of a development machine wrote", () => import("./commands/logs.ts")],
  lock: ["pin the packages of an image", () => import("./commands/lock.ts")],
  pack: ["make the npm packages: built, with types", () => import("./commands/pack.ts")],
  owner: ["make keys that sign identities and releases", () => import("./commands/owner.ts")],
  page: ["write the verifier as one HTML file", () => import("./commands/page.ts")],
  publish: ["write what a stranger needs to verify an image", () => import("./commands/publish.ts")],
  ps: ["the services of a development machine and their states", () => import("./commands/ps.ts")],
  rebuild: [
    "build a released image again, compare it, sign the result",
    () => import("./commands/rebuild.ts"),
  ],
  release: [
    "say which image an application may run; sign, verify, revoke",
    () => import("./commands/release.ts"),
  ],
  secrets: ["seal and sign what an application is given", () => import("./commands/secrets.ts")],
  tcb: ["what is behind on a platform, and what updates it", () => import("./commands/tcb.ts")],
  test: ["run the tests: unit, integration, e2e, attacks", () => import("./commands/test.ts")],
  up: ["build, boot, attest and show an image", () => import("./commands/up.ts")],
};

const edition = {
  commands,
  help: "--yes (or CAISSON_YES=1) lets the launcher install missing Debian packages unasked; --version says the version.",
  async version(json: boolean): Promise<string> {
    const { ownVersion, versionText } = await import("./version.ts");
    return json ? jsonText(ownVersion()) : versionText();
  },
};
await run(edition, process.argv.slice(2));
