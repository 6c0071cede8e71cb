/**
 * The application's sandbox: an OCI runtime configuration and the crun calls around it.
 *
 * What holds: no capability, no new privileges, an unprivileged user, a read-only root out of the verity image, its
 * own pid, mount, ipc and uts namespaces, the default device nodes only, our seccomp allow-list, limits on memory
 * and processes. The network namespace is the guest's: the application is the only thing that listens there.
 */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { Service } from "@caisson/protocol/guest-config";
import { seccompProfile } from "./seccomp.ts";
import type { Syscalls } from "./syscalls.ts";

/** A file or socket of the guest that the application sees; read-only unless `writable`. */
export interface Share {
  source: string;
  destination: string;
  writable?: boolean;
}

/** Kernel interfaces in /proc that say something about the guest or its devices. */
const hidden = `acpi asound bus cmdline config.gz interrupts iomem ioports kallsyms kcore keys kmsg kpagecount
  latency_stats modules sched_debug scsi sysrq-trigger timer_list timer_stats vmallocinfo`;

/** The runtime configuration (OCI runtime-spec 1.0) of a service. Pure. */
export function runtimeConfig(app: Service, shares: readonly Share[]): object {
  const tmpfs = (destination: string, mode: string, size: string) => ({
    destination,
    type: "tmpfs",
    source: "tmpfs",
    options: ["nosuid", "nodev", "noexec", `mode=${mode}`, `size=${size}`],
  });
  return {
    ociVersion: "1.0.2",
    hostname: app.hostname,
    root: { path: app.root, readonly: true },
    process: {
      terminal: false,
      user: { uid: app.user, gid: app.group },
      args: app.arguments,
      env: Object.entries(app.environment).map(([name, value]) => `${name}=${value}`),
      cwd: app.workingDirectory,
      noNewPrivileges: true,
      capabilities: { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] },
      rlimits: [
        { type: "RLIMIT_CORE", hard: 0, soft: 0 },
        { type: "RLIMIT_NOFILE", ...app.nofile },
      ],
    },
    mounts: [
      { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "nodev", "noexec"] },
      {
        destination: "/dev",
        type: "tmpfs",
        source: "tmpfs",
        options: ["nosuid", "noexec", "mode=755", "size=64k"],
      },
      tmpfs("/dev/shm", "1777", String(app.shmSize)),
      tmpfs("/run", "755", "1m"),
      tmpfs("/tmp", "1777", "256m"),
      ...shares.map(({ source, destination, writable }) => ({
        destination,
        type: "bind",
        source,
        options: ["bind", "nosuid", "nodev", "noexec", writable === true ? "rw" : "ro"],
      })),
    ],
    linux: {
      namespaces: ["pid", "mount", "ipc", "uts"].map((type) => ({ type })),
      seccomp: seccompProfile,
      maskedPaths: hidden.split(/\s+/).map((name) => `/proc/${name}`),
      readonlyPaths: ["/proc/fs", "/proc/irq", "/proc/sys"],
    },
  };
}

/** A running application. */
export interface Running {
  readonly pid: number;
  /** Resolves with its exit status once, when it ends. */
  readonly ended: Promise<number>;
  /** Its memory limit in bytes if that killed something of it. */
  exceededMemory(): number | undefined;
  /** SIGTERM, then SIGKILL after `graceMs`. */
  stop(graceMs: number): Promise<void>;
}

/** The part of a line that is passed on, in characters. */
const lineLimit = 2_000;

/**
 * Calls `onLine` for every line of `stream`, cut to `lineLimit` characters. The application writes what it likes, so no
 * more than that is ever kept of a line.
 */
export function readLines(stream: Readable, onLine: (line: string) => void): void {
  let line = "";
  stream.setEncoding("utf8");
  stream.on("data", (text: string) => {
    const [rest, ...further] = text.split("\n");
    line = (line + rest).slice(0, lineLimit);
    for (const next of further) {
      onLine(line.replace(/\r$/, ""));
      line = next.slice(0, lineLimit);
    }
  });
  stream.on("end", () => {
    if (line !== "") onLine(line);
  });
}

const cgroup = "/sys/fs/cgroup/app";
const crun = ["--root", "/run/crun", "--cgroup-manager", "disabled"];

/** Much more than crun needs on a slow machine. */
const crunLimitMs = 60_000;

function run(args: string[], onLine: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("/usr/bin/crun", [...crun, ...args], { stdio: ["ignore", "pipe", "pipe"], env: {} });
    const last: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      readLines(stream, (line) => {
        if (last.push(line) > 5) last.shift();
        onLine(line);
      });
    }
    const timer = setTimeout(() => child.kill("SIGKILL"), crunLimitMs);
    child.on("error", reject);
    // "exit", not "close": the application inherits the pipes and keeps them open.
    child.on("exit", (status, signal) => {
      clearTimeout(timer);
      if (status === 0) resolve();
      else reject(new Error(`crun ${args[0]} ended with ${status ?? signal}: ${last.join(" | ")}`));
    });
  });
}

/**
 * Starts the application. It is created stopped, put into its control group, and only then started, so that the
 * limits hold from its first instruction and crun needs no control of cgroups (nor the BPF programs it would load).
 * `onLine` gets what it writes to stdout and stderr.
 */
export async function startApplication(
  app: Service,
  shares: readonly Share[],
  syscalls: Pick<Syscalls, "reap">,
  onLine: (line: string) => void,
): Promise<Running> {
  const bundle = "/run/app-bundle";
  const pidFile = join(bundle, "pid");
  mkdirSync(bundle, { recursive: true, mode: 0o700 });
  writeFileSync(join(bundle, "config.json"), JSON.stringify(runtimeConfig(app, shares)));

  writeFileSync("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids");
  mkdirSync(cgroup, { recursive: true });
  writeFileSync(join(cgroup, "memory.max"), String(app.memory));
  writeFileSync(join(cgroup, "memory.oom.group"), "1");
  writeFileSync(join(cgroup, "pids.max"), String(app.pids));

  await run(["create", "--bundle", bundle, "--pid-file", pidFile, "app"], onLine);
  const pid = Number(readFileSync(pidFile, "utf8"));
  writeFileSync(join(cgroup, "cgroup.procs"), String(pid));
  // PID 1 is before all others; what it started inherited that.
  setPriority(pid, 0);
  await run(["start", "app"], onLine);

  // crun is gone, so the application is a child of PID 1 that Node does not know: it is reaped here.
  let running = true;
  const ended = new Promise<number>((resolve) => {
    const timer = setInterval(() => {
      const status = syscalls.reap(pid);
      if (status === undefined) return;
      running = false;
      clearInterval(timer);
      resolve(status);
    }, 200);
  });
  return {
    pid,
    ended,
    exceededMemory() {
      const events = readFileSync(join(cgroup, "memory.events"), "utf8");
      return /^oom_kill [1-9]/m.test(events) ? app.memory : undefined;
    },
    async stop(graceMs) {
      // Not reaped, so the number is still its own.
      if (running) process.kill(pid, "SIGTERM");
      let timer: NodeJS.Timeout | undefined;
      const grace = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, graceMs);
      });
      await Promise.race([ended, grace]);
      clearTimeout(timer);
      // Kills whatever is left of it, the first process and its descendants alike.
      writeFileSync(join(cgroup, "cgroup.kill"), "1");
    },
  };
}
