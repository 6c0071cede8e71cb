// SPDX-License-Identifier: Apache-2.0
import { deepEqual, doesNotMatch, match } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { renderCommand, renderPrerequisites, renderProduction } from "./production-view.ts";

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
  policy: "/image.state/relying-party/policy.yaml",
  references: "/image.state/relying-party/references.json",
  qmpSocket: "/image.state/qmp.sock",
  domain: { file: "/it's here.state/domain.xml", xml: "<domain>\n</domain>\n" },
  open: [] as string[],
  missing: [] as ("release" | "secrets")[],
};
const prerequisites = [
  { name: "kvm", ok: true, found: "/dev/kvm can be opened", fix: "load kvm_intel" },
  { name: "qemu", ok: false, found: "version 7.2", fix: "install QEMU 10.1" },
];

test("a shell reads the printed command as the arguments that are meant", () => {
  const command = renderCommand(launch);
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

test("libvirt's domain is shown whole, and the command that starts it", () => {
  match(
    renderProduction("/image", launch),
    /^Or with libvirt: virsh create '\/it'\\''s here\.state\/domain\.xml'\n\n<domain>\n<\/domain>\n$/m,
  );
});

test("what could not be predicted is said, with what follows and what to do", () => {
  doesNotMatch(renderProduction("/image", launch), /Not predicted/);
  const text = renderProduction("/image", { ...launch, open: ["rtmr0"] });
  match(text, /^Not predicted: rtmr0\. The policies refuse every machine until they are:$/m);
  match(text, /--qemu PROGRAM/);
  match(text, /^KMS +none: --kms URL/m);
});

test("what its owners have not given is said, for without it a KMS gives the machine nothing", () => {
  doesNotMatch(renderProduction("/image", launch), /owners/);
  const text = renderProduction("/image", { ...launch, missing: ["release", "secrets"] });
  match(text, /^Of its owners it has no release and no secrets yet,.*\n--release FILE --secrets FILE /m);
});
