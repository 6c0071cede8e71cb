// SPDX-License-Identifier: Apache-2.0
/**
 * The audit on real things: images that were built here, a stock Debian kernel, and the command's exit codes.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { type Audit, audit, catalogue, collectImage, judge } from "@caisson/audit";
import { type KernelConfig, parseKernelConfig } from "@caisson/audit/kernel-config";
import { checkRecommendations } from "@caisson/audit/kernel-recommendations";
import { goodImage, resolvedConfig } from "@caisson/audit/testing/facts";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { imageOf } from "../support/image.ts";

const repository = new URL("../../", import.meta.url).pathname;
const directories: Record<string, string> = {};
before(async () => {
  for (const flavour of ["production", "development"] as const)
    directories[flavour] = (await imageOf(flavour)).directory;
});
const image = (flavour: string): string => directories[flavour]!;
const scratch = temporaryDirectory("audit");

/** Ids with this status. */
function ids(result: Audit, status: string): string[] {
  return result.rows
    .filter(({ results }) => results.some((one) => one.status === status))
    .map(({ control }) => control.id);
}

test("the production image passes every required control", async () => {
  const result = audit({ static: await collectImage(image("production")) }, [], new Date());
  deepEqual(result.failedRequired, []);
  deepEqual(ids(result, "deviation"), []);
  // Recommended only; docs/threat-model.md says why each is not met.
  deepEqual(ids(result, "fail"), ["K34", "P21", "F04"]);
});

test("the development image deviates as declared", async () => {
  const result = audit({ static: await collectImage(image("development")) }, [], new Date());
  deepEqual(result.failedRequired, []);
  for (const id of ["K35", "K37", "T13"]) ok(ids(result, "deviation").includes(id), id);
});

test("one changed byte in the root, and one in the command line, are found", async () => {
  const copy = join(scratch, "changed");
  cpSync(image("production"), copy, { recursive: true });
  const manifest = JSON.parse(readFileSync(join(copy, "manifest.json"), "utf8"));
  const file = openSync(join(copy, manifest.rootfs.file), "r+");
  // The last data block is the content of a file, never of a directory.
  writeSync(file, Buffer.from([0xff]), 0, 1, (manifest.rootfs.verity.dataBlocks - 1) * 4096);
  writeFileSync(
    join(copy, "manifest.json"),
    JSON.stringify({
      ...manifest,
      commandLine: manifest.commandLine.replace("lockdown=confidentiality", "lockdown=integrity"),
    }),
  );
  const { failedRequired } = audit({ static: await collectImage(copy) }, [], new Date());
  for (const id of ["C10", "C17", "C19", "V12", "U10"]) ok(failedRequired.includes(id), id);
});

const caisson = (...args: string[]) =>
  spawnSync(process.execPath, [`${repository}packages/cli/src/main.ts`, ...args], {
    encoding: "utf8",
    timeout: 120_000,
  });

test("exit codes: unknown control, nothing to audit, no image, malformed baseline", () => {
  equal(caisson("audit", "--explain", "K99").status, 2);
  equal(caisson("audit").status, 2);
  equal(caisson("audit", scratch).status, 30);
  equal(caisson("audit", "--live", join(scratch, "nothing.json")).status, 30);
  const baseline = join(scratch, "baseline.yaml");
  writeFileSync(baseline, "version: caisson/audit-baseline/v1\naccepted:\n  - control: K01\n");
  const run = caisson("audit", scratch, "--baseline", baseline);
  equal(run.status, 30);
  match(run.stderr, /baseline\/schema/);
});

test("a hardened configuration passes the check, two configurations differ, a bare one is rejected", () => {
  const production = `${repository}kernel/resolved-production.config`;
  equal(caisson("kernel", "config", "check", production).status, 0);
  match(
    caisson("kernel", "config", "diff", production, `${repository}kernel/resolved-development.config`).stdout,
    /TDX_GUEST_DRIVER +y → n/,
  );
  const bare = join(scratch, "bare.config");
  writeFileSync(bare, "CONFIG_MODULES=y\n");
  equal(caisson("kernel", "config", "check", bare).status, 10);
});

/** How many of the controls on the kernel a configuration passes, everything else being as it should. */
function kernelControls(release: string, config: KernelConfig): { passed: number; of: number } {
  const facts = { ...goodImage(), kernel: { release, config, size: 0 } };
  const asked = catalogue.filter(
    ({ group, static: check }) => group.startsWith("kernel ") && typeof check !== "string",
  );
  return {
    passed: asked.filter((control) => judge(control, "static", facts).outcome === "pass").length,
    of: asked.length,
  };
}

test("Debian's cloud kernel, by the same controls and recommendations", (context) => {
  const fetched = spawnSync(
    "sh",
    [
      "-c",
      "apt-get download $(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/{print $2; exit}') && dpkg-deb -x ./*.deb .",
    ],
    {
      cwd: scratch,
      timeout: 240_000,
      encoding: "utf8",
    },
  );
  equal(fetched.status, 0, fetched.stderr);
  const name = readdirSync(join(scratch, "boot")).find((file) => file.startsWith("config-"))!;
  const config = parseKernelConfig(readFileSync(join(scratch, "boot", name), "utf8"));
  const findings = checkRecommendations(config);
  const failed = findings.filter(({ outcome }) => outcome === "fail").map(({ symbol }) => symbol);
  context.diagnostic(`${name}: ${failed.length} of ${findings.length} recommendations are not followed`);
  const stock = kernelControls(/\d+\.\d+\.\d+/.exec(name)![0], config);
  const ours = kernelControls("7.3.4", resolvedConfig("production"));
  context.diagnostic(`controls on the kernel: ${stock.passed} of ${stock.of}; ours ${ours.passed}`);
  ok(stock.passed < ours.passed / 2);
  for (const symbol of ["MODULES", "KPROBES", "BPF_SYSCALL", "USER_NS"]) ok(failed.includes(symbol), symbol);
});
