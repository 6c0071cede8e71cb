import { deepEqual, doesNotMatch, equal, match } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Manifest } from "@caisson/image";
import { decodeInstance } from "@caisson/protocol/instance";
import { plainService } from "@caisson/protocol/testing/service";
import { instanceSeed } from "./session.ts";
import { prepareTdx, renderPrerequisites, renderTdxLaunch } from "./tdx-launch.ts";

const launch = {
  arguments: [
    "-append",
    'console=ttyS0 a="b c" -- /init.mjs',
    "-bios",
    "/it's here/tdvf.fd",
    "-display",
    "none",
  ],
  mrConfigId: "01".repeat(48),
};
const prerequisites = [
  { name: "kvm", ok: true, found: "/dev/kvm can be opened", fix: "load kvm_intel" },
  { name: "qemu", ok: false, found: "version 7.2", fix: "install QEMU 10.1" },
];

test("a shell reads the printed command as the arguments that are meant", () => {
  const text = renderTdxLaunch("/image", launch);
  const command = text.slice(text.indexOf("qemu-system-x86_64"));
  const script = `qemu() { printf '%s\\0' "$@"; }\n${command.replace("qemu-system-x86_64", "qemu")}`;
  const read = execFileSync("sh", ["-c", script], { encoding: "utf8" });
  deepEqual(read.split("\0").slice(0, -1), launch.arguments);
});

test("what is missing has its reason and its remedy, what is there only the finding", () => {
  const text = renderPrerequisites(prerequisites);
  match(text, /✘ qemu +version 7\.2\n +→ install QEMU 10\.1\n/);
  match(text, /cannot start a trust domain \(qemu\)/);
  doesNotMatch(text, /load kvm_intel/);
});

test("an image's instance is the same at each start, and its seed is the owner's alone", () => {
  const directory = mkdtempSync(join(tmpdir(), "caisson-tdx-launch-"));
  try {
    const image = join(directory, "image");
    const file = { file: "file" };
    const manifest = {
      kernel: file,
      rootfs: file,
      firmware: { tdx: { code: file } },
      commandLine: "console=ttyS0",
      guest: { app: { name: "hello", services: { hello: plainService() }, networks: {}, volumes: {} } },
    } as unknown as Manifest;
    const start = () => {
      const { arguments: options } = prepareTdx(image, manifest, { vcpus: 1, memory: 512 }, 8080);
      const device = options.find((option) => option.includes("id=instance"))!.split("file=")[1]!;
      return decodeInstance(readFileSync(device)).seed;
    };
    const first = start();
    match(first, /^[0-9a-f]{40}$/);
    equal(start(), first);
    equal(instanceSeed(`${image}.state`), first);
    equal(statSync(join(`${image}.state`, "instance-seed")).mode & 0o777, 0o600);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
