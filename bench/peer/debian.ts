// SPDX-License-Identifier: Apache-2.0
/**
 * The peer of two benchmarks: a minimal Debian with systemd and its cloud kernel, made with mmdebstrap from the suite
 * that this machine runs, and booted on the same QEMU as ours. Made once, then kept under `.cache/`.
 */
import { execFileSync, spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { accelerator } from "@caisson/host/accelerator";
import type { Shape } from "@caisson/host/machine";

const directory = new URL("../../.cache/bench-debian/", import.meta.url).pathname;
const commandLine = "console=ttyS0 root=/dev/vda rw";
const limitMs = 300_000;

export interface Debian {
  /** The root file system as a directory, with the command line that it boots with in /etc/kernel/cmdline. */
  root: string;
  kernel: string;
  initrd: string;
  disk: string;
}

/** Makes it where it is not there yet; undefined where mmdebstrap cannot be had. */
export function debian(): Debian | undefined {
  const made = {
    root: join(directory, "root"),
    kernel: join(directory, "vmlinuz"),
    initrd: join(directory, "initrd"),
    disk: join(directory, "disk.img"),
  };
  if (Object.values(made).every((path) => existsSync(path))) return made;
  try {
    execFileSync("apt-get", ["install", "-y", "--no-install-recommends", "mmdebstrap", "e2fsprogs"], {
      stdio: "ignore",
    });
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { recursive: true });
    const packages = "systemd-sysv,udev,linux-image-cloud-amd64,initramfs-tools";
    const suite = execFileSync("sh", ["-c", ". /etc/os-release; echo $VERSION_CODENAME"]).toString().trim();
    execFileSync("mmdebstrap", ["--variant=essential", `--include=${packages}`, suite, made.root], {
      stdio: "ignore",
    });
    mkdirSync(join(made.root, "etc/kernel"), { recursive: true });
    writeFileSync(join(made.root, "etc/kernel/cmdline"), `${commandLine}\n`);
    for (const name of readdirSync(join(made.root, "boot"))) {
      const kind = /^(vmlinuz|initrd)/.exec(name)?.[1];
      if (kind !== undefined) cpSync(join(made.root, "boot", name), join(directory, kind));
    }
    const counter = addCounter(made.root);
    execFileSync("mke2fs", ["-q", "-t", "ext4", "-d", made.root, `${made.disk}.new`, "2G"], {
      stdio: "ignore",
    });
    // The tree stays as Debian made it: it is what the audit counts.
    for (const path of counter) rmSync(path);
    renameSync(`${made.disk}.new`, made.disk);
    return made;
  } catch {
    return undefined;
  }
}

/** A token that has the disk's own unit count the sockets that wait; without it the unit does nothing. */
const countToken = "caisson.count-sockets";

/** Adds that unit to a root and returns what it added. Counts what `sockets` in packages/guest/src/live.ts lists. */
function addCounter(root: string): string[] {
  const script = `#!/bin/sh
tcp=$(cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == "0A"' | wc -l)
udp=$(cat /proc/net/udp /proc/net/udp6 | awk '$3 ~ /:0000$/' | wc -l)
unix=$(awk '$4 == "00010000"' /proc/net/unix | wc -l)
echo "waiting sockets: $((tcp + udp + unix))." > /dev/ttyS0
`;
  const unit = `[Unit]
ConditionKernelCommandLine=${countToken}
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /etc/caisson-count-sockets
`;
  const system = join(root, "etc/systemd/system");
  const files: [path: string, text: string][] = [
    [join(root, "etc/caisson-count-sockets"), script],
    [join(system, "caisson-count.service"), unit],
  ];
  for (const [path, text] of files) writeFileSync(path, text);
  const link = join(system, "multi-user.target.wants/caisson-count.service");
  symlinkSync("../caisson-count.service", link);
  return [...files.map(([path]) => path), link];
}

/** Boots it until the console shows `awaited`. Gives the match and the seconds from switching on. */
async function bootUntil(
  awaited: RegExp,
  { kernel, initrd, disk }: Debian,
  { vcpus, memory }: Shape,
  firmware: string,
  token = "",
): Promise<{ match: RegExpExecArray; seconds: number }> {
  const accel = await accelerator();
  const options = [
    ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-snapshot"],
    ["-machine", "q35,hpet=off,smm=off", "-accel", accel === "kvm" ? "kvm" : "tcg,thread=multi"],
    ["-cpu", accel === "kvm" ? "host" : "max", "-smp", String(vcpus), "-m", `${memory}M`],
    ["-drive", `if=pflash,format=raw,unit=0,readonly=on,file=${firmware}`],
    ["-kernel", kernel, "-initrd", initrd, "-append", `${commandLine} ${token}`.trim()],
    ["-drive", `if=none,id=root,format=raw,file=${disk}`, "-device", "virtio-blk-pci,drive=root"],
    ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=", "-serial", "stdio"],
  ];
  const started = performance.now();
  const qemu = spawn("qemu-system-x86_64", options.flat(), { stdio: ["ignore", "pipe", "ignore"] });
  const timer = setTimeout(() => qemu.kill("SIGKILL"), limitMs);
  try {
    let text = "";
    for await (const chunk of qemu.stdout) {
      text = (text + String(chunk)).slice(-200);
      const match = awaited.exec(text);
      if (match !== null) return { match, seconds: (performance.now() - started) / 1000 };
    }
    throw new Error(`Debian ended before its console showed ${awaited.source}`);
  } finally {
    clearTimeout(timer);
    qemu.kill("SIGKILL");
  }
}

/** Seconds from switching on to the login prompt. */
export async function secondsToLogin(peer: Debian, shape: Shape, firmware: string): Promise<number> {
  return (await bootUntil(/login: $/, peer, shape, firmware)).seconds;
}

/** Sockets of any family that wait for peers once it has booted. */
export async function waitingSockets(peer: Debian, shape: Shape, firmware: string): Promise<number> {
  const { match } = await bootUntil(/waiting sockets: (\d+)\./, peer, shape, firmware, countToken);
  return Number(match[1]);
}
