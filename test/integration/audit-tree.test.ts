// SPDX-License-Identifier: Apache-2.0
/** Another system's root file system, audited by the same command: what is judged, what is not, what is counted. */
import { deepEqual, equal, match } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeEach, test } from "node:test";
import type { Audit, Result } from "@caisson/audit";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

const repository = new URL("../../", import.meta.url).pathname;
const scratch = temporaryDirectory("tree");

const tree = join(scratch, "root");
const put = (path: string, text: string, mode = 0o644): void => {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), text);
  chmodSync(join(tree, path), mode);
};

/** A system of nine files: a shell, a setuid program, a hardened kernel that is not quite, and no package but two. */
beforeEach(() => {
  rmSync(tree, { recursive: true, force: true });
  put("etc/os-release", "ID=example\n");
  put("etc/passwd", "root:x:0:0::/:/bin/sh\n");
  put("etc/kernel/cmdline", 'console=ttyS0 root=/dev/vda ro init_on_alloc=1 "a b"\n');
  put("boot/config-6.1.0-9-cloud", "CONFIG_MODULES=y\nCONFIG_VIRTIO_NET=m\n");
  put("boot/config-6.12.3", "CONFIG_STRICT_KERNEL_RWX=y\nCONFIG_DEBUG_WX=y\nCONFIG_VIRTIO_NET=m\n");
  put("usr/bin/su", "#!/bin/sh\n", 0o4755);
  put(
    "var/lib/dpkg/status",
    ["libc6: ok installed", "dash: ok installed", "gone: ok config-files"]
      .map((entry) => entry.split(": "))
      .map(([name, state]) => `Package: ${name}\nStatus: install ${state}\n`)
      .join("\n"),
  );
  copyFileSync("/bin/sh", join(tree, "usr/bin/sh"));
  chmodSync(join(tree, "usr/bin/sh"), 0o755);
  symlinkSync("usr/bin", join(tree, "bin"));
  // Leads out of the tree: nothing of it may be read or counted.
  symlinkSync("/", join(tree, "usr/outside"));
  put("usr/lib/broken.so", "\u007fELF and nothing else");
});

type Document = Pick<Audit, "inventory"> & { controls: { id: string; results: Result[] }[] };

function audited(): { status: number | null; document: Document; stderr: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [`${repository}packages/cli/src/main.ts`, "audit", tree, "--json"],
    { encoding: "utf8", timeout: 120_000, maxBuffer: 16 * 1024 * 1024 },
  );
  return { status, stderr, document: (stdout === "" ? {} : JSON.parse(stdout)) as Document };
}

test("controls hold, fail, or have nothing to judge, and say why", () => {
  const { status, document } = audited();
  equal(status, 10);
  const of = (id: string) => document.controls.find((control) => control.id === id)!.results[0]!;
  const statuses = (ids: string) => ids.split(" ").map((id) => `${id} ${of(id).status}`);
  const all = (ids: string, wanted: string) => ids.split(" ").map((id) => `${id} ${wanted}`);
  deepEqual(statuses("C11 C14 C19 K01 P01 V03 D06"), [
    ...all("C11 C14 C19 K01 P01", "pass"),
    "V03 fail",
    "D06 pass",
  ]);
  const failing = "C01 C10 C17 K42 P03 V11 U01 U14 U15 U16 D01";
  deepEqual(statuses(failing), all(failing, "fail"));
  const silent = "T05 T10 F01 F02 F12 V12 U10 U13 O01 O02 O03 O10 X01 Q01";
  deepEqual(statuses(silent), all(silent, "not-applicable"));
  match(of("U01").details.join(), /\/usr\/bin\/sh/);
  match(of("V11").details.join(), /\/usr\/bin\/su/);
  match(of("O03").details.join(), /confines no application/);
  match(of("U13").details.join(), /no manifest/);
});

test("what is there is counted, the newest kernel decides, links are not followed", () => {
  const { document } = audited();
  const { bytes, ...counts } = document.inventory.static!;
  deepEqual(counts, { builtIn: 2, modules: 1, packages: 2, files: 9, executables: 2, setuid: 1 });
  const small = 700;
  const shell = statSync("/bin/sh").size;
  equal(bytes > shell && bytes < shell + small, true, `${bytes} bytes, of which ${shell} are the shell`);
});

test("without a command line its controls have nothing to judge; GRUB's defaults are one", () => {
  rmSync(join(tree, "etc/kernel"), { recursive: true });
  const line = () => audited().document.controls.find(({ id }) => id === "C11")!.results[0]!;
  equal(line().status, "not-applicable");
  put("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="init_on_alloc=1"\n');
  equal(line().status, "pass");
});

test("a tree without a kernel is refused, and it says what to do", () => {
  rmSync(join(tree, "boot"), { recursive: true });
  const { status, stderr } = audited();
  equal(status, 30);
  match(stderr, /config-RELEASE.*\[image\/kernel\]/s);
  match(stderr, /mmdebstrap --include/);
});
