// SPDX-License-Identifier: Apache-2.0
/**
 * Four ways to store files on one disk, in one machine and one run: ext4; ext4 on dm-crypt; ext4 on dm-crypt over
 * dm-integrity, as LUKS2 sets both up; btrfs on dm-crypt with the options of packages/guest/src/volumes/open.ts. All of
 * Debian's packages: its kernel has all four, ours has the last alone. fio and SQLite do the work; the kernel counts bytes.
 */
import { spawn } from "node:child_process";
import {
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { accelerator } from "@caisson/host/accelerator";
import { unpackDebian } from "../../test/support/debian.ts";

export const stackNames = [
  "ext4",
  "dm-crypt + ext4",
  "dm-crypt + dm-integrity + ext4",
  "dm-crypt + btrfs",
] as const;

const flushes = 300;
const commits = 200;
/** What is done, with how many operations. */
const jobs = {
  sequentialWrites: 12_288,
  sequentialReads: 12_288,
  randomWrites: 3072,
  randomReads: 1536,
  fsync: flushes,
  commits,
} as const;
export type StackJob = keyof typeof jobs;

/** What the disk was asked for one operation, as the kernel counts it: requests in both directions, flushes, bytes. */
export interface DiskCalls {
  requests: number;
  flushes: number;
  bytes: number;
}

/** What one stack did. Rates a second, latencies in milliseconds. */
export interface StackFigures {
  rates: Record<Exclude<StackJob, "fsync">, number>;
  fsyncMedian: number;
  fsync99: number;
  calls: Record<StackJob, DiskCalls>;
}

const limitMs = 2_400_000;
const diskBytes = 512 << 20;
const programs = [
  "busybox-static",
  "kmod",
  "fio",
  "sqlite3",
  "e2fsprogs",
  "btrfs-progs",
  "cryptsetup-bin",
  "dmsetup",
];

const key = "0123456789abcdef".repeat(8);
/** Keys on the command line: what is measured here protects nothing. */
const script = `#!/usr/bin/busybox sh
/usr/bin/busybox --install -s /usr/bin 2> /dev/null
export PATH=/usr/sbin:/usr/bin HOME=/tmp DM_DISABLE_UDEV=1
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp; exec 2> /tmp/said
mkdir -p /run /mnt; mount -t tmpfs run /run
/usr/sbin/depmod -a
for one in virtio_blk btrfs dm-crypt dm-integrity aesni-intel authenc; do /usr/sbin/modprobe $one; done
say() { echo "stacks $1 $2 $3"; }
asked() { awk '{ print $1 + $5, $16, ($3 + $7) * 512 }' /sys/block/$disk/stat; }
fresh() { sync; echo 3 > /proc/sys/vm/drop_caches; }
job() { name=$1; shift; fio --name=$name --directory=/mnt --filename=file --size=48M --bs=4k --output-format=json --output=/tmp/out "$@" > /dev/null; say $disk $name "$(tr -d '\\n ' < /tmp/out)"; }
run() { fresh; before=$(asked); job "$@"; say $disk asked-$1 "$before $(asked)"; }
measure() {
  grep -q "^/dev/[^ ]* /mnt " /proc/mounts || { echo "nothing is mounted for $disk"; cat /tmp/said; poweroff -f; }
  run sequentialWrites --rw=write --end_fsync=1
  run sequentialReads --rw=read
  run randomWrites --rw=randwrite --io_size=12M --end_fsync=1 --randseed=1
  run randomReads --rw=randread --io_size=6M --randseed=2
  run fsync --rw=randwrite --fsync=1 --number_ios=${flushes} --randseed=3
  sqlite3 /mnt/db 'pragma journal_mode = wal; create table t (n integer primary key, x text)' > /dev/null; fresh
  { echo 'pragma synchronous = full;'; i=0; while [ $i -lt ${commits} ]; do echo "insert into t values ($i, hex(randomblob(100)));"; i=$((i + 1)); done; } > /tmp/sql
  before=$(asked); a=$(cut -d' ' -f1 /proc/uptime); sqlite3 /mnt/db < /tmp/sql > /dev/null; b=$(cut -d' ' -f1 /proc/uptime)
  say $disk commitSeconds $(echo "$a $b" | awk '{ print $2 - $1 }'); say $disk asked-commits "$before $(asked)"
  umount /mnt
}
crypt() { dmsetup create $1 --table "0 $(( $(cat /sys/block/$1/size) / 8 * 8 )) crypt aes-xts-plain64 ${key} 0 /dev/$1 0 2 sector_size:4096 iv_large_sectors"; }
disk=vda; mkfs.ext4 -q /dev/vda; mount -o noatime /dev/vda /mnt; measure
disk=vdb; crypt vdb; mkfs.ext4 -q /dev/mapper/vdb; mount -o noatime /dev/mapper/vdb /mnt; measure
disk=vdc; echo -n key > /tmp/key
cryptsetup luksFormat -q --type luks2 --cipher aes-xts-plain64 --integrity hmac-sha256 --sector-size 4096 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /tmp/key /dev/vdc > /dev/null
cryptsetup open --key-file /tmp/key /dev/vdc vdc; mkfs.ext4 -q /dev/mapper/vdc; mount -o noatime /dev/mapper/vdc /mnt; measure
disk=vdd; crypt vdd; mkfs.btrfs -q -m single -d single --csum sha256 -n 4096 /dev/mapper/vdd
mount -o notreelog,nodiscard,datacow,datasum,space_cache=v2,noatime /dev/mapper/vdd /mnt; measure
echo "stacks end kernel $(uname -r)"
poweroff -f
`;

/** An archive as Linux unpacks it into its first root (Documentation/driver-api/early-userspace/buffer-format.rst, "newc"). */
class Cpio {
  readonly #parts: Buffer[] = [];
  #inode = 1;

  add(path: string, mode: number, content: Uint8Array = new Uint8Array()): void {
    const name = Buffer.from(`${path}\0`);
    const fields = [this.#inode++, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
    const head = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
    this.#parts.push(padded(Buffer.concat([head, name])), padded(Buffer.from(content)));
  }

  /** Everything below a directory, but what `skip` names. */
  tree(directory: string, skip: (path: string) => boolean, inside = ""): void {
    for (const name of readdirSync(join(directory, inside)).sort()) {
      const path = inside === "" ? name : `${inside}/${name}`;
      if (skip(path)) continue;
      const place = join(directory, path);
      const entry = lstatSync(place);
      if (entry.isSymbolicLink()) this.add(path, 0o120777, Buffer.from(readlinkSync(place)));
      else if (entry.isFile()) this.add(path, 0o100755, readFileSync(place));
      else {
        this.add(path, 0o40755);
        this.tree(directory, skip, path);
      }
    }
  }

  end(): Buffer {
    this.add("TRAILER!!!", 0);
    return Buffer.concat(this.#parts);
  }
}

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

/** Of Debian's modules, what no stack needs: most of them. */
const needless =
  /\/kernel\/(?:net|sound|virt|mm|drivers\/(?!md$|md\/|block|dax)[^/]+|fs\/(?!btrfs)[^/]+)(?:$|\/)|^usr\/share|vmlinuz$/;

/** Runs all four. Throws when the machine does not come to its end in 40 minutes. */
export async function measureStacks(): Promise<{ kernel: string; figures: Record<string, StackFigures> }> {
  const tools = await unpackDebian("forky", programs, { dependencies: true });
  const meta = await unpackDebian("forky", ["linux-image-cloud-amd64"]);
  const release = `${meta.versions["linux-image-cloud-amd64"]!.split("-")[0]}+deb14-cloud-amd64`;
  const linux = await unpackDebian("forky", [`linux-binary-${release}`, `linux-modules-${release}`]);
  const place = mkdtempSync(join(tmpdir(), "caisson-stacks-"));
  try {
    const archive = new Cpio();
    for (const link of ["bin", "sbin", "lib", "lib64"])
      archive.add(link, 0o120777, Buffer.from(`usr/${link}`));
    for (const directory of ["proc", "sys", "dev", "tmp", "run", "mnt"]) archive.add(directory, 0o40755);
    archive.tree(tools.root, (path) => /^usr\/(?:share|libexec|lib\/(?:python|systemd|udev))/.test(path));
    archive.tree(linux.root, (path) => needless.test(path));
    archive.add("init", 0o100755, Buffer.from(script));
    writeFileSync(join(place, "initrd"), archive.end());
    const disks = ["a", "b", "c", "d"].map((name) => join(place, name));
    for (const disk of disks) {
      writeFileSync(disk, "");
      truncateSync(disk, diskBytes);
    }
    const kernel = join(linux.root, "usr/lib/modules", release, "vmlinuz");
    return read(await boot(kernel, join(place, "initrd"), disks));
  } finally {
    rmSync(place, { recursive: true });
  }
}

/** Lines "stacks DISK NAME VALUE" of the machine's console. */
async function boot(kernel: string, initrd: string, disks: readonly string[]): Promise<string[][]> {
  const args = [
    "-nodefaults",
    "-no-reboot",
    "-display",
    "none",
    "-machine",
    `q35,accel=${await accelerator()}`,
    "-cpu",
    "max",
    "-m",
    "2048",
  ];
  args.push(
    "-kernel",
    kernel,
    "-initrd",
    initrd,
    "-append",
    "console=ttyS0 quiet panic=-1 random.trust_cpu=on",
    "-serial",
    "stdio",
  );
  for (const [index, disk] of disks.entries()) {
    args.push(
      "-drive",
      `if=none,id=d${index},format=raw,file=${disk}`,
      "-device",
      `virtio-blk-pci,drive=d${index}`,
    );
  }
  const qemu = spawn("qemu-system-x86_64", args, { stdio: ["ignore", "pipe", "inherit"] });
  const timer = setTimeout(() => qemu.kill("SIGKILL"), limitMs);
  const found: string[][] = [];
  const last: string[] = [];
  for await (const line of createInterface({ input: qemu.stdout })) {
    const match = /^stacks (\S+) (\S+) (.*)$/.exec(line.trim());
    if (match !== null) found.push(match.slice(1));
    last.splice(0, Math.max(0, last.length - 20));
    last.push(line.slice(0, 300));
  }
  clearTimeout(timer);
  if (found.at(-1)?.[0] !== "end") throw new Error(`the machine ended early:\n${last.join("\n")}`);
  return found;
}

interface FioSide {
  iops: number;
}

/** What fio says of one job (fio(1), "JSON output"). */
interface FioJob {
  read: FioSide;
  write: FioSide;
  sync: { lat_ns: { percentile: Record<string, number> } };
}

function figuresOf(lines: readonly string[][], disk: string): StackFigures {
  const value = (name: string): string => {
    const found = lines.find((line) => line[0] === disk && line[1] === name)?.[2];
    if (found === undefined) throw new Error(`the machine said nothing about ${name} of ${disk}`);
    return found;
  };
  const job = (name: string): FioJob => (JSON.parse(value(name)) as { jobs: FioJob[] }).jobs[0]!;
  const { percentile } = job("fsync").sync.lat_ns;
  const latency = (part: string): number => percentile[part]! / 1e6;
  const calls = (name: string, operations: number): DiskCalls => {
    const counters = value(`asked-${name}`).split(" ").map(Number);
    const each = (at: number): number => (counters[at + 3]! - counters[at]!) / operations;
    return { requests: each(0), flushes: each(1), bytes: each(2) };
  };
  return {
    rates: {
      sequentialWrites: job("sequentialWrites").write.iops,
      sequentialReads: job("sequentialReads").read.iops,
      randomWrites: job("randomWrites").write.iops,
      randomReads: job("randomReads").read.iops,
      commits: commits / Number(value("commitSeconds")),
    },
    fsyncMedian: latency("50.000000"),
    fsync99: latency("99.000000"),
    calls: Object.fromEntries(
      Object.entries(jobs).map(([name, operations]) => [name, calls(name, operations)]),
    ) as Record<StackJob, DiskCalls>,
  };
}

function read(lines: readonly string[][]): { kernel: string; figures: Record<string, StackFigures> } {
  const figures = stackNames.map((name, index) => [name, figuresOf(lines, `vd${"abcd"[index]}`)] as const);
  return { kernel: lines.at(-1)![2]!, figures: Object.fromEntries(figures) };
}
