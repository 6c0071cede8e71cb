// SPDX-License-Identifier: Apache-2.0
/**
 * A service's sandbox, as an OCI runtime configuration. Pure.
 *
 * What holds for all: no new privileges, its own pid, mount, ipc and uts namespaces, the default device nodes only, our
 * seccomp allow-list, limits on memory and processes. Plain: no capability, an unprivileged user, a read-only root out of
 * the verity image, the guest's network. Contained: a user and a network namespace of its own, in which it may be root
 * with seven capabilities, or another user with those that files of its image have and its owner asks for; a root that it
 * can write to; its own control group is what it sees of them all.
 */
import { type Service, serviceInit } from "@caisson/protocol/guest-config";
import { keepChecksums, type SeccompProfile, seccompProfile, withChroot } from "./seccomp.ts";
import type { BoundFile } from "./services/files.ts";
import { firstId, idCount } from "./services/place.ts";
import type { VolumeMount } from "./services/root.ts";

/** A file or socket of the guest that the application sees; read-only unless `writable`. */
export interface Share {
  source: string;
  destination: string;
  writable?: boolean;
}

/** What was made for a contained service before it starts. */
export interface Surroundings {
  root: string;
  /** Paths of namespaces. */
  userNamespace: string;
  networkNamespace: string;
  volumes: readonly VolumeMount[];
  files: readonly BoundFile[];
}

/** Where a service with `init` sees its first process: in memory, so that its image need not have a place for it. */
const ownInit = "/dev/init";

/** Kernel interfaces in /proc that say something about the guest or its devices. */
const hidden = `acpi asound bus cmdline config.gz interrupts iomem ioports kallsyms kcore keys kmsg kpagecount
  latency_stats modules sched_debug scsi sysrq-trigger timer_list timer_stats vmallocinfo`;
const hiddenPaths = hidden.split(/\s+/).map((name) => `/proc/${name}`);
const readOnlyPaths = ["/proc/fs", "/proc/irq", "/proc/sys"];

const quiet = ["nosuid", "nodev", "noexec"];
const memory = (destination: string) => ({ destination, type: "tmpfs", source: "tmpfs" });
const tmpfs = (destination: string, ...options: string[]) => ({
  ...memory(destination),
  options: [...quiet, ...options],
});
const proc = { destination: "/proc", type: "proc", source: "proc", options: quiet };
const devices = {
  ...memory("/dev"),
  options: ["nosuid", "noexec", "mode=755", "size=64k"],
};
const bind = (destination: string, source: string, writable: boolean, flags = quiet) => ({
  destination,
  type: "bind",
  source,
  options: ["bind", ...flags, writable ? "rw" : "ro"],
});
const shared = ({ source, destination, writable }: Share) => bind(destination, source, writable === true);

/** The process of a service, or another one in its sandbox: a health check. */
export function processOf(service: Service, args: readonly string[]): object {
  const { user, group, additionalGroups, environment, workingDirectory, nofile } = service;
  const capabilities = service.capabilities.map((name) => `CAP_${name}`);
  // Who is not root would lose them at the first program that it executes (capabilities(7)).
  const kept = user === 0 ? [] : capabilities;
  return {
    terminal: false,
    user: { uid: user, gid: group, ...(additionalGroups.length > 0 && { additionalGids: additionalGroups }) },
    args,
    env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    cwd: workingDirectory,
    noNewPrivileges: true,
    capabilities: {
      bounding: capabilities,
      effective: capabilities,
      inheritable: kept,
      permitted: capabilities,
      ambient: kept,
    },
    rlimits: [
      { type: "RLIMIT_CORE", hard: 0, soft: 0 },
      { type: "RLIMIT_NOFILE", ...nofile },
    ],
  };
}

/**
 * The runtime configuration (OCI runtime-spec 1.0) of a service; `surroundings` for contained ones; `onPersistent`: in an
 * image with persistent volumes, whose files keep their checksums.
 */
export function runtimeConfig(
  service: Service,
  shares: readonly Share[],
  {
    surroundings,
    onPersistent = false,
    seccomp: own = seccompProfile,
  }: { surroundings?: Surroundings; onPersistent?: boolean; seccomp?: SeccompProfile } = {},
): object {
  const asked = service.capabilities.includes("SYS_CHROOT") ? withChroot(own) : own;
  const seccomp = onPersistent ? keepChecksums(asked) : asked;
  return surroundings === undefined
    ? plain(service, shares, seccomp)
    : contained(service, shares, surroundings, seccomp);
}

function plain(service: Service, shares: readonly Share[], seccomp: object): object {
  return {
    ociVersion: "1.0.2",
    hostname: service.hostname,
    root: { path: service.root, readonly: true },
    process: processOf(service, service.arguments),
    mounts: [
      proc,
      devices,
      tmpfs("/dev/shm", "mode=1777", `size=${service.shmSize}`),
      tmpfs("/run", "mode=755", "size=1m"),
      tmpfs("/tmp", "mode=1777", "size=256m"),
      ...shares.map(shared),
    ],
    linux: {
      namespaces: ["pid", "mount", "ipc", "uts"].map((type) => ({ type })),
      seccomp,
      maskedPaths: hiddenPaths,
      readonlyPaths: readOnlyPaths,
    },
  };
}

function contained(
  service: Service,
  shares: readonly Share[],
  around: Surroundings,
  seccomp: object,
): object {
  const ids = [{ containerID: 0, hostID: firstId + service.range * idCount, size: idCount }];
  const environment = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOSTNAME: service.hostname,
    ...service.environment,
  };
  return {
    ociVersion: "1.0.2",
    hostname: service.hostname,
    root: { path: around.root, readonly: service.readOnly },
    process: processOf(
      { ...service, environment },
      service.init ? [ownInit, ...service.arguments] : service.arguments,
    ),
    mounts: mountsOf(service, shares, around),
    linux: {
      namespaces: [
        ...["pid", "mount", "ipc", "uts", "cgroup"].map((type) => ({ type })),
        { type: "user", path: around.userNamespace },
        { type: "network", path: around.networkNamespace },
      ],
      uidMappings: ids,
      gidMappings: ids,
      seccomp,
      sysctl: {
        // As other runtimes do: any user may serve low ports and send echo requests in a network of its own.
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 65535",
        "net.ipv6.conf.lo.disable_ipv6": "0",
      },
      maskedPaths: [...hiddenPaths, "/sys/firmware"],
      readonlyPaths: readOnlyPaths,
    },
  };
}

/** What a contained service sees beside its root. */
function mountsOf(service: Service, shares: readonly Share[], around: Surroundings): object[] {
  return [
    proc,
    devices,
    ...(service.init ? [bind(ownInit, serviceInit, false, ["nosuid", "nodev"])] : []),
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    tmpfs("/dev/shm", "mode=1777", `size=${service.shmSize}`),
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: quiet },
    { destination: "/sys", type: "sysfs", source: "sysfs", options: [...quiet, "ro"] },
    { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: [...quiet, "ro"] },
    ...service.tmpfs.map(({ target, size, mode, user, group, executable }) => ({
      ...memory(target),
      options: [
        ...(executable ? ["nosuid", "nodev"] : quiet),
        `mode=${mode.toString(8)}`,
        `size=${size}`,
        `uid=${user}`,
        `gid=${group}`,
      ],
    })),
    ...around.volumes.map(({ target, source, readOnly }) =>
      bind(target, source, !readOnly, ["nosuid", "nodev"]),
    ),
    ...around.files.map(({ target, source }) => bind(target, source, false)),
    ...shares.map(shared),
  ];
}
