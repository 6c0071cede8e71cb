/**
 * From switching the machine on to the application's answer, under whatever accelerates here (the rows say which), split
 * by step: the median of three boots. The peer, started in the same run: a minimal Debian with systemd, made with
 * mmdebstrap, from the same moment to its login prompt, on the same QEMU with the same processors and memory.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { BootView } from "@caisson/cli/boot-view";
import type { Row } from "@caisson/cli/commands/bench";
import { predictEmulated, referenceValues } from "@caisson/cli/prediction";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/progress";
import { startSession } from "@caisson/cli/session";
import { accelerator } from "@caisson/host/accelerator";
import { readSpec } from "@caisson/image";

const repository = new URL("../", import.meta.url).pathname;
const shape = { vcpus: 2, memory: 1024 };
const runs = 3;
const limitMs = 300_000;

type Steps = Record<string, number>;

async function boot(): Promise<Steps> {
  const { directory, manifest } = await prepare(
    await readSpec(join(repository, "examples/hello")),
    "development",
    {},
    new Progress(),
  );
  const references = referenceValues(await predictEmulated(directory, shape));
  const session = await startSession({ image: directory, manifest, shape, references, limitMs });
  try {
    const started = performance.now();
    const view = new BootView(
      () => {},
      () => (performance.now() - started) / 1000,
      false,
    );
    let kernel = 0;
    session.vm.on("line", (line) => {
      const at = /^\[\s*(\d+\.\d+)\] Run \/usr\/bin\/node as init process/.exec(line)?.[1];
      if (at !== undefined) kernel = Number(at);
    });
    session.vm.on("console", (event) => view.show(event));
    const ready = await session.vm.event(({ kind }) => kind === "ready");
    if (ready === undefined) throw new Error("the machine did not come up");
    const first = session.vm.events[0]!.at;
    const stages = view.record.stages.map(({ stage, seconds }) => [`stage ${stage}`, seconds!] as const);
    return {
      firmware: view.record.firmwareSeconds!,
      kernel,
      "Node start": first - kernel,
      ...Object.fromEntries(stages),
      total: view.record.readySeconds!,
    };
  } finally {
    await session.stop();
  }
}

/** Kernel, initrd and a root disk of a minimal Debian with systemd; undefined where mmdebstrap cannot be had. */
function debian(): { kernel: string; initrd: string; disk: string } | undefined {
  const directory = join(repository, ".cache", "bench-debian");
  const disk = join(directory, "disk.img");
  try {
    if (!existsSync(disk)) {
      execFileSync("apt-get", ["install", "-y", "--no-install-recommends", "mmdebstrap", "e2fsprogs"], {
        stdio: "ignore",
      });
      rmSync(directory, { recursive: true, force: true });
      mkdirSync(directory, { recursive: true });
      const packages = "systemd-sysv,udev,linux-image-cloud-amd64,initramfs-tools";
      const root = join(directory, "root");
      const suite = execFileSync("sh", ["-c", ". /etc/os-release; echo $VERSION_CODENAME"]).toString().trim();
      execFileSync("mmdebstrap", ["--variant=essential", `--include=${packages}`, suite, root], {
        stdio: "ignore",
      });
      execFileSync("mke2fs", ["-q", "-t", "ext4", "-d", root, `${disk}.new`, "2G"], { stdio: "ignore" });
      for (const name of readdirSync(join(root, "boot"))) {
        const kind = /^(vmlinuz|initrd)/.exec(name)?.[1];
        if (kind !== undefined) execFileSync("cp", [join(root, "boot", name), join(directory, kind)]);
      }
      rmSync(root, { recursive: true, force: true });
      renameSync(`${disk}.new`, disk);
    }
    return { kernel: join(directory, "vmlinuz"), initrd: join(directory, "initrd"), disk };
  } catch {
    return undefined;
  }
}

/** Seconds from switching on to the login prompt. */
async function bootDebian(
  parts: { kernel: string; initrd: string; disk: string },
  firmware: string,
): Promise<number> {
  const accel = await accelerator();
  const options = [
    ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-snapshot"],
    ["-machine", "q35,hpet=off,smm=off", "-accel", accel === "kvm" ? "kvm" : "tcg,thread=multi"],
    ["-cpu", accel === "kvm" ? "host" : "max", "-smp", String(shape.vcpus), "-m", `${shape.memory}M`],
    ["-drive", `if=pflash,format=raw,unit=0,readonly=on,file=${firmware}`],
    ["-kernel", parts.kernel, "-initrd", parts.initrd, "-append", "console=ttyS0 root=/dev/vda rw"],
    ["-drive", `if=none,id=root,format=raw,file=${parts.disk}`, "-device", "virtio-blk-pci,drive=root"],
    ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=", "-serial", "stdio"],
  ];
  const started = performance.now();
  const qemu = spawn("qemu-system-x86_64", options.flat(), { stdio: ["ignore", "pipe", "ignore"] });
  const timer = setTimeout(() => qemu.kill("SIGKILL"), limitMs);
  try {
    let text = "";
    for await (const chunk of qemu.stdout) {
      text = (text + String(chunk)).slice(-200);
      if (text.endsWith("login: ")) return (performance.now() - started) / 1000;
    }
    throw new Error("Debian did not reach its login prompt");
  } finally {
    clearTimeout(timer);
    qemu.kill("SIGKILL");
  }
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

export async function* run(): AsyncIterable<Row> {
  const note = `${(await accelerator()).toUpperCase()}, ${shape.vcpus} vCPUs, ${shape.memory} MiB, median of ${runs}`;
  const boots: Steps[] = [];
  for (let i = 0; i < runs; i++) boots.push(await boot());
  for (const step of Object.keys(boots[0]!).filter((name) => name !== "total")) {
    yield {
      name: `boot: ${step}`,
      unit: "s",
      ours: Number(median(boots.map((steps) => steps[step]!)).toFixed(3)),
      note,
    };
  }
  const own = ["posture", "entropy", "identity", "time", "boundary", "keys"];
  const ownShare = median(
    boots.map((steps) => own.reduce((sum, stage) => sum + steps[`stage ${stage}`]!, 0)),
  );
  yield {
    name: "boot: our own stages, before the application",
    unit: "s",
    ours: Number(ownShare.toFixed(3)),
    note,
  };
  const peer = debian();
  const code = join(repository, "examples/hello/out/hello-development/firmware/emulated-code.fd");
  yield {
    name: "boot: switched on to the application's answer",
    unit: "s",
    ours: Number(median(boots.map(({ total }) => total!)).toFixed(2)),
    ...(peer !== undefined && { peer: Number((await bootDebian(peer, code)).toFixed(2)) }),
    note: `peer: minimal Debian with systemd to its login prompt; ${note}`,
  };
}
