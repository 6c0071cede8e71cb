// SPDX-License-Identifier: Apache-2.0
/**
 * fstests (the kernel's tests of file systems, with fsstress and fsx) as a container image, built from a clone of its
 * repository in a root of Debian's. Nothing of it is ours, and nothing of it is kept but in the repository's cache.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { debianRoot, path } from "./debian-image.ts";
import { kept, type Layer, writeImages } from "./oci-layout.ts";

/** Without libaio: the guest's kernel has no AIO, and fsstress does nothing where it cannot begin with it. */
const compilers =
  "gcc make libc6-dev autoconf automake libtool-bin pkg-config gettext xfslibs-dev uuid-dev libacl1-dev libattr1-dev bc gawk";
const programs =
  "bash perl bc gawk attr acl xfsprogs btrfs-progs e2fsprogs procps psmisc util-linux libcap2-bin curl ca-certificates file";

/** What a service of these tests does instead of mounting: it has a volume, and no device. In the words of common/rc. */
const mounted = `
_test_mount() { :; }
_test_unmount() { sync; }
_test_cycle_mount() { sync; }
_check_mounted_on() { :; }
_check_test_fs() { :; }
_fs_type() { echo btrfs; }
_require_test() { touch $RESULT_DIR/require_test; }
`;

/**
 * Runs tests of the group "generic", as fstests' own \`check\` does: the output is compared with what the test has beside it.
 * A line for each, "fstests NAME passed|skipped|failed SECONDS WHY", and after a failure what differs.
 */
const runner = `#!/bin/bash
cd /xfstests
export RESULT_DIR=/tmp/results/generic FSTYP=btrfs TEST_DEV=/dev/volume TEST_DIR=/test/fstests CONFIG_INCLUDED=true
export RESULT_BASE=/tmp/results USER=root HOME=/root TMPDIR=/tmp LC_ALL=C
mkdir -p $RESULT_DIR
limit=$1; shift
for test; do
  rm -f $RESULT_DIR/*
  SECONDS=0
  timeout -k 5 $limit tests/generic/$test > /tmp/out 2>&1 < /dev/null
  code=$?
  if [ -f $RESULT_DIR/$test.notrun ]; then echo "fstests $test skipped $SECONDS $(head -1 $RESULT_DIR/$test.notrun)"
  elif [ $code = 0 ] && diff tests/generic/$test.out /tmp/out > /tmp/differs; then echo "fstests $test passed $SECONDS"
  else
    echo "fstests $test failed $SECONDS with $code"
    diff tests/generic/$test.out /tmp/out | head -12 | cut -c 1-200
  fi
done
`;

/** The users that tests become. */
const users = ["fsgqa", "fsgqa2", "123456-fsgqa"];

/**
 * A layout with one image: programs in /xfstests, the runner as /entry/fstests.sh, \`files\` besides. \`source\` is a clone,
 * bare or not. Needs root, Debian's archive and some minutes, the first time. Throws when it does not build.
 */
export async function fstestsImage(
  source: string,
  files: Exclude<Layer, string>,
): Promise<{ layout: string; commit: string }> {
  const git = (...args: string[]) => execFileSync("git", ["-C", source, ...args], { maxBuffer: 1 << 30 });
  const commit = git("rev-parse", "HEAD").toString().trim();
  const [build, run] = [
    await debianRoot("fstests-build", compilers.split(" ")),
    await debianRoot("fstests", programs.split(" ")),
  ];
  const tree = await kept("fstests-tree", { commit, build, mounted }, async (work) => {
    const root = mkdtempSync(join(work, "root-"));
    execFileSync("tar", ["-xf", build, "-C", root, "--exclude=./dev/*"]);
    const place = join(root, "xfstests");
    mkdirSync(place);
    execFileSync("tar", ["-x", "-C", place], { input: git("archive", "HEAD") });
    const make = ["/usr/bin/env", "-i", path, "HOME=/root", "make", "-C", "/xfstests", "-j2"];
    execFileSync("chroot", [root, ...make], { stdio: ["ignore", "ignore", "pipe"], maxBuffer: 64 << 20 });
    execFileSync("sh", ["-c", 'cat >> "$0"', join(place, "common/rc")], { input: mounted });
    // What was compiled, and who is in it, are not tests.
    const skip = ["*.[cho]", "*.la", ".libs", ".dep", "doc", "xfstests/tests/[!g]*"];
    const exclude = skip.map((pattern) => `--exclude=${pattern}`);
    const same = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
    execFileSync("tar", ["-cf", join(work, "tree.tar"), "-C", root, ...same, ...exclude, "xfstests"]);
    rmSync(root, { recursive: true });
  });
  const accounts = users
    .map((name, index) => `${name}:x:${2000 + index}:${2000 + index}::/tmp:/bin/bash\n`)
    .join("");
  const groups = users.map((name, index) => `${name}:x:${2000 + index}:\n`).join("");
  const own = {
    test: { directory: 0o755 },
    "entry/fstests.sh": runner,
    "etc/passwd": `root:x:0:0:root:/root:/bin/bash\n${accounts}`,
    "etc/group": `root:x:0:\n${groups}`,
    ...files,
  };
  const parts = { layers: [run, join(tree, "tree.tar"), own], config: { Env: [path], Cmd: ["/bin/bash"] } };
  return {
    layout: await kept("fstests-image", parts, (directory) => writeImages(directory, { latest: parts })),
    commit,
  };
}
