// SPDX-License-Identifier: Apache-2.0
/**
 * The peer of services: the same programs under crun as it comes, on the same kernel, processor and QEMU. No user namespace,
 * no filter of system calls, no network of their own: what Docker has with `--network host` and without its seccomp profile.
 * Single parts of what Caisson adds can be added to it, one at a time, to see what each costs.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"; // biome-ignore format: one line
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { seccompProfile } from "@caisson/guest/seccomp";
import type { VmOptions } from "@caisson/host/vm";
import { diskPath } from "@caisson/vocabulary/disks";
import { basePackages, debianRoot, entryPoints } from "../../test/support/debian-image.ts";
import { launchServices } from "../../test/support/services.ts";
import { Asking, type Counts, repeated } from "./emulator.ts";

const cache = new URL("../../.cache/bench-crun/", import.meta.url).pathname;
const limitMs = 1_800_000;

/** Docker's default set (its documentation, "Runtime privilege and Linux capabilities"). */
const capabilities =
  "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    .split(" ")
    .map((name) => `CAP_${name}`);

/** A program in a container of its own, which runs alone while it is asked. */
export interface Trial {
  /** One of `entryPoints`, without its folder. */
  entry: "redis.sh" | "nginx.sh";
  /** Where what it prints goes: nowhere, to a reader that throws it away, or through that reader to the console. */
  lines: "nowhere" | "reader" | "console";
  /** Without its lines about requests. */
  quiet?: boolean;
  /** What of Caisson's is added. */
  seccomp?: boolean;
  network?: boolean;
  cgroup?: boolean;
  /** Needs a network, too: low ports belong to the user namespace of whose network they are. */
  user?: boolean;
  /** Succeeds when it serves; what is asked then, so many times. Both run in the container. */
  ready: readonly string[];
  ask: (count: number) => readonly string[];
  counts: Counts;
}

const quieten = "sed -i 's/access_log .*/access_log off;/' /etc/nginx/nginx.conf";

const everyId = [{ containerID: 0, hostID: 0, size: 65_536 }];

/** A container of the machine's own root under a layer in memory. */
const config = ({ entry, quiet, seccomp, network, user }: Trial, root: string): object => ({
  ociVersion: "1.0.2",
  root: { path: root },
  process: {
    terminal: false,
    user: { uid: 0, gid: 0 },
    args: ["sh", "-c", `${quiet ? `${quieten}; ` : ""}exec /entry/${entry}`],
    cwd: "/data",
    env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
  },
  mounts: [
    { destination: "/proc", type: "proc", source: "proc" },
    { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
    { destination: "/run", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
  ],
  linux: {
    namespaces: [
      ...["pid", "mount", "ipc", "uts"].map((type) => ({ type })),
      ...(network ? [{ type: "network" }] : []),
      ...(user ? [{ type: "user" }] : []),
    ],
    ...(user && { uidMappings: everyId, gidMappings: everyId }),
    ...(seccomp && { seccomp: seccompProfile }),
  },
});

const readers: Record<Trial["lines"], string> = {
  nowhere: "> /dev/null 2>&1",
  reader: "2>&1 | cat > /dev/null",
  console: "2>&1 | cat > /dev/console",
};

/** The lines of a trial, whose group `/sys/fs/cgroup/trial` is entered by whatever runs for it, if it has one. */
const script = (name: string, { lines, cgroup, ready, ask, counts }: Trial): string => {
  const inside = (command: string): string => (cgroup ? `/bench/within ${command}` : command);
  const words = (all: readonly string[]): string => all.map(quoted).join(" ");
  const exec = inside(`crun --cgroup-manager=disabled exec ${name}`);
  return `mkdir -p /run/${name}/upper /run/${name}/work /run/${name}/root
mount -t overlay overlay -o lowerdir=/,upperdir=/run/${name}/upper,workdir=/run/${name}/work /run/${name}/root
cp /bench/${name}.json /run/${name}/config.json
${inside(`crun --cgroup-manager=disabled run --bundle /run/${name} ${name}`)} < /dev/null ${readers[lines]} &
until ${exec} ${words(ready)} > /dev/null 2>&1; do sleep 1; done
sleep 2
${said(name)}${repeated(counts)
  .map((count) => `${exec} ${words(ask(count))} > /dev/null 2>&1\n${said(name)}`)
  .join("")}crun --cgroup-manager=disabled kill ${name} KILL
until [ "$(crun list -q)" = "" ]; do sleep 1; crun --cgroup-manager=disabled delete -f ${name} 2> /dev/null; done
`;
};

/** A look is taken where this is read, while nothing happens. */
const said = (name: string): string => `echo "PEER ${name}"\nsleep 2\n`;

const within = '#!/bin/sh\necho $$ > /sys/fs/cgroup/trial/cgroup.procs\nexec "$@"\n';

/** One trial after the other; the console says where each is. */
const init = (trials: Trials): string => `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
ip link set lo up
echo "+cpu +memory +pids" > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/trial
echo 512M > /sys/fs/cgroup/trial/memory.max
${Object.entries(trials)
  .map(([name, trial]) => script(name, trial))
  .join("")}echo PEER done
sleep 600
`;
type Trials = Readonly<Record<string, Trial>>;
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

async function disk(trials: Trials): Promise<string> {
  const path = join(cache, "root.erofs");
  const recipe = JSON.stringify({
    entryPoints,
    init: init(trials),
    configs: Object.entries(trials).map(([name, trial]) => config(trial, `/run/${name}/root`)),
  });
  const record = `${path}.json`;
  if (existsSync(path) && existsSync(record) && readFileSync(record, "utf8") === recipe) return path;
  const archive = await debianRoot("plain-crun", [...basePackages, "crun", "iproute2"]);
  mkdirSync(cache, { recursive: true });
  const root = mkdtempSync(join(cache, "root-"));
  try {
    execFileSync("tar", ["-xf", archive, "-C", root]);
    for (const name of ["bench", "data", "entry"]) mkdirSync(join(root, name));
    for (const [name, text] of Object.entries(entryPoints))
      writeFileSync(join(root, name), text, { mode: 0o755 });
    writeFileSync(join(root, "bench/init"), init(trials), { mode: 0o755 });
    writeFileSync(join(root, "bench/within"), within, { mode: 0o755 });
    for (const [name, trial] of Object.entries(trials)) {
      writeFileSync(join(root, `bench/${name}.json`), JSON.stringify(config(trial, `/run/${name}/root`)));
    }
    execFileSync("mkfs.erofs", ["-x-1", `${path}.new`, root], { stdio: "ignore" });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  renameSync(`${path}.new`, path);
  writeFileSync(record, recipe);
  return path;
}

/** Microseconds of the host's processor for each time that it is asked, by the trial's name. */
export async function plainCrun(
  place: string,
  memory: number,
  trials: Trials,
): Promise<Record<string, number>> {
  const rootfs = await disk(trials);
  const machine = await launchServices(place, memory, {
    machine: (options: VmOptions) => ({
      ...options,
      rootfs,
      commandLine: options.commandLine
        .replace(/dm-mod\.create="[^"]*"/, "")
        .replace("root=/dev/dm-0", `root=${diskPath("root")}`)
        .replace(/init=.*$/, "init=/bench/init"),
    }),
  });
  const askings: Record<string, Asking> = Object.fromEntries(
    Object.keys(trials).map((name) => [name, new Asking()]),
  );
  let looks = 0;
  try {
    const log = join(machine.state, "console.log");
    for (const until = performance.now() + limitMs; performance.now() < until; await sleep(200)) {
      const names = [...readFileSync(log, "utf8").matchAll(/^PEER (\S+)\r?$/gm)].map(([, name]) => name!);
      for (const name of names.slice(looks)) askings[name]?.look();
      looks = names.length;
      if (names.at(-1) !== "done") continue;
      return Object.fromEntries(
        Object.entries(trials).map(([name, { counts }]) => [name, askings[name]!.each(counts)]),
      );
    }
    throw new Error(`plain crun said nothing: ${readFileSync(log, "utf8").slice(-2_000)}`);
  } finally {
    await machine.stop();
  }
}
