import { deepEqual, doesNotMatch, match } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { renderTdxLaunch } from "./tdx-launch.ts";

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
  prerequisites: [
    { name: "kvm", ok: true, found: "/dev/kvm can be opened", fix: "load kvm_intel" },
    { name: "qemu", ok: false, found: "version 7.2", fix: "install QEMU 10.1" },
  ],
};

test("a shell reads the printed command as the arguments that are meant", () => {
  const text = renderTdxLaunch("/image", launch);
  const command = text.slice(text.indexOf("qemu-system-x86_64"));
  const script = `qemu() { printf '%s\\0' "$@"; }\n${command.replace("qemu-system-x86_64", "qemu")}`;
  const read = execFileSync("sh", ["-c", script], { encoding: "utf8" });
  deepEqual(read.split("\0").slice(0, -1), launch.arguments);
});

test("what is missing has its reason and its remedy, what is there only the finding", () => {
  const text = renderTdxLaunch("/image", launch);
  match(text, /✘ qemu +version 7\.2\n +→ install QEMU 10\.1\n/);
  match(text, /cannot start a trust domain \(qemu\)/);
  doesNotMatch(text, /load kvm_intel/);
});
