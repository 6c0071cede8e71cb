// SPDX-License-Identifier: Apache-2.0
/**
 * The peer of services: the same programs under crun as it comes, on the same kernel, processor and QEMU. No user namespace,
 * no filter of system calls, no network of their own: what Docker has with `--network host` and without its seccomp profile.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"; // biome-ignore format: one line
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { VmOptions } from "@caisson/host/vm";
import { diskPath } from "@caisson/vocabulary/disks";
import { basePackages, debianRoot, entryPoints } from "../../test/support/debian-image.ts";
import { launchServices } from "../../test/support/services.ts";

const cache = new URL("../../.cache/bench-crun/", import.meta.url).pathname;
const limitMs = 400_000;

/** Docker's default set (its documentation, "Runtime privilege and Linux capabilities"). */
const capabilities =
  "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    .split(" ")
    .map((name) => `CAP_${name}`);

/** A container of the machine's own root under a layer in memory. */
const config = (name: string, args: readonly string[]): object => ({
  ociVersion: "1.0.2",
  root: { path: `/run/${name}/root` },
  process: {
    terminal: false,
    user: { uid: 0, gid: 0 },
    args,
    cwd: "/data",
    env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
  },
  mounts: [
    { destination: "/proc", type: "proc", source: "proc" },
    { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
    { destination: "/run", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
  ],
  linux: { namespaces: ["pid", "mount", "ipc", "uts"].map((type) => ({ type })) },
});

/** Starts both servers, then asks each over the loopback, and says what was found on the console. */
const init = (asks: Readonly<Record<string, readonly string[]>>): string => `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
ip link set lo up
for name in redis nginx; do
  mkdir -p /run/$name/upper /run/$name/work /run/$name/root
  mount -t overlay overlay -o lowerdir=/,upperdir=/run/$name/upper,workdir=/run/$name/work /run/$name/root
  cp /bench/$name.json /run/$name/config.json
  crun --cgroup-manager=disabled run --bundle /run/$name $name < /dev/null > /dev/null 2>&1 &
done
until redis-cli ping > /dev/null 2>&1 && python3 -c 'import urllib.request as r; r.urlopen("http://127.0.0.1/")' 2> /dev/null; do sleep 1; done
${Object.entries(asks)
  .map(
    ([name, ask]) => `echo "PEER ${name} $(crun exec ${name} ${ask.map(quoted).join(" ")} | tr '\\n' ' ')"`,
  )
  .join("\n")}
echo PEER done
sleep 600
`;
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

async function disk(asks: Readonly<Record<string, readonly string[]>>): Promise<string> {
  const path = join(cache, "root.erofs");
  const recipe = JSON.stringify({ asks, entryPoints, init: init(asks), config: config("x", []) });
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
    writeFileSync(join(root, "bench/init"), init(asks), { mode: 0o755 });
    for (const name of ["redis", "nginx"]) {
      writeFileSync(join(root, `bench/${name}.json`), JSON.stringify(config(name, [`/entry/${name}.sh`])));
    }
    execFileSync("mkfs.erofs", ["-x-1", `${path}.new`, root], { stdio: "ignore" });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  renameSync(`${path}.new`, path);
  writeFileSync(record, recipe);
  return path;
}

/** What each of these commands prints beside its container; by the container's name, `redis` or `nginx`. */
export async function plainCrun(
  place: string,
  memory: number,
  asks: Readonly<Record<string, readonly string[]>>,
): Promise<Record<string, string>> {
  const rootfs = await disk(asks);
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
  try {
    const log = join(machine.state, "console.log");
    for (const until = performance.now() + limitMs; performance.now() < until; await sleep(500)) {
      const text = readFileSync(log, "utf8");
      if (!/^PEER done/m.test(text)) continue;
      return Object.fromEntries(
        [...text.matchAll(/^PEER (\w+) (.*)$/gm)].map(([, name, said]) => [name!, said!]),
      );
    }
    throw new Error(`plain crun said nothing: ${readFileSync(log, "utf8").slice(-2_000)}`);
  } finally {
    await machine.stop();
  }
}
