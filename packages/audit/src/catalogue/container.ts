// SPDX-License-Identifier: Apache-2.0
/** The application's sandbox: judged by the OCI configuration that PID 1 gives to crun. */

import { NotApplicable, type Test } from "../control.ts";
import { image, inSource, live, reasonsForNoCheck, rootCovered, verified } from "../expect.ts";
import type { ImageFacts, LiveFacts } from "../facts.ts";
import { group } from "./group.ts";

/** Calls that an application never needs and exploits do. */
const dangerous =
  `keyctl add_key request_key userfaultfd io_uring_setup io_uring_enter bpf mount umount2 move_mount fsopen
  pivot_root chroot setns unshare ptrace process_vm_readv process_vm_writev init_module finit_module kexec_load
  kexec_file_load reboot swapon perf_event_open clock_settime settimeofday adjtimex open_by_handle_at iopl ioperm
  personality modify_ldt acct quotactl sethostname setdomainname syslog vhangup`.split(/\s+/);
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of include/uapi/linux/sched.h. */
const namespaceFlags =
  0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000;
const namespaces = ["pid", "mount", "ipc", "uts"];
const masked = [
  "/proc/kcore",
  "/proc/keys",
  "/proc/kallsyms",
  "/proc/cmdline",
  "/proc/config.gz",
  "/proc/sysrq-trigger",
  "/proc/timer_list",
];
const allowed = ({ runtime }: ImageFacts) =>
  runtime.linux.seccomp.syscalls
    .filter(({ action }) => action !== "SCMP_ACT_ERRNO")
    .flatMap(({ names }) => names);

/** The first mount of a user's process that is `bad`; a process that shares PID 1's mounts is, as a whole. */
function ownMount(
  processes: LiveFacts["processes"],
  bad: (mount: LiveFacts["mounts"][number]) => boolean,
): string | NotApplicable | undefined {
  const users = processes.filter(({ uid, kernelThread }) => uid !== 0 && !kernelThread);
  if (users.length === 0) return new NotApplicable("no application runs");
  const shared = users.find(({ mounts }) => mounts === null);
  if (shared !== undefined) return `${shared.name} (${shared.pid}) sees what PID 1 sees`;
  const found = users.flatMap(({ mounts }) => mounts ?? []).find(bad);
  return found === undefined ? undefined : `${found.target} (${found.type} ${found.options.join(",")})`;
}

/** What root of a user namespace may have, and what a service may have besides when its owner asks for it. */
const ofRoot = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE"];
const asked = ["NET_RAW", "SYS_CHROOT"];

const services = ({ app }: ImageFacts["guest"]) => Object.values(app.services);
type ControlGroup = LiveFacts["controlGroups"][string];

/** Holds for the control group of every process of a user, and each is in one. */
function grouped(
  expects: string,
  holds: (group: ControlGroup) => boolean,
  breaks: (group: ControlGroup) => void,
): Test<LiveFacts> {
  return live(
    expects,
    ({ processes, controlGroups }) => {
      const users = processes.filter(({ uid, kernelThread }) => uid !== 0 && !kernelThread);
      const bad = users.find(({ controlGroup }) => {
        const found = Object.hasOwn(controlGroups, controlGroup) ? controlGroups[controlGroup] : undefined;
        return found === undefined || !holds(found);
      });
      return bad === undefined ? undefined : `${bad.name} (${bad.pid}) in ${bad.controlGroup}`;
    },
    ({ controlGroups }) => {
      for (const one of Object.values(controlGroups)) breaks(one);
    },
  );
}

export const container = group("container", { decision: "least", source: "oci" }, [
  {
    id: "O01",
    title: "The application is named by digest",
    why: "A tag is whatever its registry says today.",
    source: "zksecurity",
    static: [
      image(
        "the SHA-256 of its manifest",
        ({ guest }) =>
          services(guest).find(({ image }) => !/^[0-9a-f]{64}$/.test(image) || /^0+$/.test(image))?.image,
        ({ guest }) => {
          services(guest)[0]!.image = "latest";
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [verified("app/id", "the measured application is the policy's")],
  },
  {
    id: "O02",
    title: "No capability, and no way to gain one",
    why: "A flaw in the application stays in it.",
    tests: ["packages/guest/src/sandbox.test.ts"],
    services: {
      reason: "one that starts as root has some of seven capabilities, in its own user namespace",
      kinds: ["static", "live"],
    },
    static: [
      image(
        "empty capability sets",
        ({ runtime }) =>
          Object.entries(runtime.process.capabilities).find(([, list]) => list.length > 0)?.[0],
        ({ runtime }) => {
          runtime.process.capabilities.bounding = ["CAP_SYS_ADMIN"];
        },
      ),
      image(
        "no_new_privs",
        ({ runtime }) => (runtime.process.noNewPrivileges ? undefined : "it is off"),
        ({ runtime }) => {
          runtime.process.noNewPrivileges = false;
        },
      ),
    ],
    live: [
      live(
        "processes of users have none",
        ({ processes }) =>
          processes.find(
            ({ uid, capabilities }) =>
              uid !== 0 && /[^0]/.test(capabilities.bounding + capabilities.effective + capabilities.ambient),
          )?.name,
        ({ processes }) => {
          for (const process of processes) process.capabilities.bounding = "000001ffffffffff";
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O03",
    title: "System calls by allow-list",
    why: "What is not named does not exist for the application.",
    tests: ["packages/guest/src/sandbox.test.ts"],
    static: [
      image(
        "everything else is refused",
        ({ runtime }) =>
          runtime.linux.seccomp.defaultAction === "SCMP_ACT_ERRNO"
            ? undefined
            : runtime.linux.seccomp.defaultAction,
        ({ runtime }) => {
          runtime.linux.seccomp.defaultAction = "SCMP_ACT_ALLOW";
        },
      ),
      image(
        "no call that mounts, traces, loads code, makes namespaces or sets the clock",
        (facts) => {
          const found = allowed(facts).filter((name) => dangerous.includes(name));
          return found.length === 0 ? undefined : found.join(", ");
        },
        ({ runtime }) => {
          runtime.linux.seccomp.syscalls.push({ names: ["bpf"], action: "SCMP_ACT_ALLOW" });
        },
      ),
      image(
        "clone only without new namespaces, clone3 not at all",
        ({ runtime }) => {
          const clones = runtime.linux.seccomp.syscalls.filter(
            ({ names }) => names.includes("clone") || names.includes("clone3"),
          );
          return clones.every(({ names, args }) => !names.includes("clone3") && (args?.length ?? 0) > 0)
            ? undefined
            : "unrestricted";
        },
        ({ runtime }) => {
          runtime.linux.seccomp.syscalls.push({ names: ["clone3"], action: "SCMP_ACT_ALLOW" });
        },
      ),
      image(
        "clone with none of the flags that make a namespace",
        ({ runtime }) => {
          const rule = runtime.linux.seccomp.syscalls.find(({ names }) => names.includes("clone"));
          const args = rule?.args ?? [];
          const [first] = args;
          return args.length === 1 &&
            first!.index === 0 &&
            first!.op === "SCMP_CMP_MASKED_EQ" &&
            first!.value === namespaceFlags &&
            (first!.valueTwo ?? 0) === 0
            ? undefined
            : JSON.stringify(args);
        },
        ({ runtime }) => {
          for (const { names, args } of runtime.linux.seccomp.syscalls)
            if (names.includes("clone")) args![0]!.value &= ~0x40000000;
        },
      ),
      image(
        "sockets of the families unix, inet and inet6, and of netlink the protocol that lists interfaces, alone",
        ({ runtime }) => {
          const rules = runtime.linux.seccomp.syscalls.filter(
            ({ names, action }) => names.includes("socket") && action !== "SCMP_ACT_ERRNO",
          );
          const bad = rules.find(({ args = [] }) => {
            const is = (at: number, values: readonly number[]) =>
              args.some(
                ({ index, op, value }) => index === at && op === "SCMP_CMP_EQ" && values.includes(value),
              );
            return !is(0, [1, 2, 10]) && !(is(0, [16]) && is(2, [0]));
          });
          return bad === undefined ? undefined : JSON.stringify(bad.args ?? "any");
        },
        ({ runtime }) => {
          const netlink = { index: 0, value: 16, op: "SCMP_CMP_EQ" };
          runtime.linux.seccomp.syscalls.push({
            names: ["socket"],
            action: "SCMP_ACT_ALLOW",
            args: [netlink],
          });
        },
      ),
    ],
    live: [
      live(
        "processes of users are filtered",
        ({ processes }) => processes.find(({ uid, seccomp }) => uid !== 0 && seccomp !== 2)?.name,
        ({ processes }) => {
          for (const process of processes) process.seccomp = 0;
        },
      ),
      live(
        "by one filter, which the sandbox gave them, at least",
        ({ processes }) =>
          processes.find(
            ({ uid, kernelThread, seccompFilters }) => uid !== 0 && !kernelThread && seccompFilters < 1,
          )?.name,
        ({ processes }) => {
          for (const process of processes) process.seccompFilters = 0;
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O04",
    title: "Its root is read-only, kernel files are hidden",
    why: "It changes nothing of itself and learns nothing of the guest.",
    services: {
      reason: "their layer in memory is writable unless they are read-only",
      kinds: ["static", "live"],
    },
    static: [
      image(
        "a read-only root",
        ({ runtime }) => (runtime.root.readonly ? undefined : "writable"),
        ({ runtime }) => {
          runtime.root.readonly = false;
        },
      ),
      image(
        `hidden: ${masked.join(", ")}`,
        ({ runtime }) => masked.find((path) => !runtime.linux.maskedPaths.includes(path)),
        ({ runtime }) => {
          runtime.linux.maskedPaths = [];
        },
      ),
      image(
        "settings of the kernel are read-only",
        ({ runtime }) =>
          runtime.linux.readonlyPaths.includes("/proc/sys") ? undefined : "/proc/sys is writable",
        ({ runtime }) => {
          runtime.linux.readonlyPaths = [];
        },
      ),
    ],
    live: [
      live(
        "the root that processes of users see is read-only",
        ({ processes }) =>
          ownMount(processes, ({ target, options }) => target === "/" && !options.includes("ro")),
        ({ processes }) => {
          for (const { mounts } of processes)
            for (const mount of mounts ?? []) if (mount.target === "/") mount.options = ["rw"];
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O05",
    title: "Processes, mounts, IPC and host name of its own",
    why: "It sees and signals only itself. The network is the guest's: it is the only user of it.",
    static: [
      ...namespaces.map((type) =>
        image(
          `a new ${type} namespace`,
          ({ runtime }) => {
            const found = runtime.linux.namespaces.find((one) => one.type === type);
            return found === undefined ? "the guest's" : found.path;
          },
          ({ runtime }) => {
            runtime.linux.namespaces = runtime.linux.namespaces.filter((one) => one.type !== type);
          },
        ),
      ),
      image(
        "no devices beside the default ones",
        ({ runtime }) =>
          runtime.linux.devices === undefined || runtime.linux.devices.length === 0 ? undefined : "some",
        ({ runtime }) => {
          runtime.linux.devices = [{ path: "/dev/vda", type: "b" }];
        },
      ),
    ],
    live: [
      live(
        "processes of users share none of these namespaces with PID 1",
        ({ processes }) => {
          const first = processes.find(({ pid }) => pid === 1);
          return processes.find(
            ({ uid, namespaces: own }) =>
              uid !== 0 && ["pid", "mnt", "ipc", "uts"].some((type) => own[type] === first?.namespaces[type]),
          )?.name;
        },
        ({ processes }) => {
          const first = processes.find(({ pid }) => pid === 1)!;
          for (const process of processes) process.namespaces = { ...first.namespaces };
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O06",
    title: "No way to quotes, registers or their logs",
    why: "An application that extends registers or quotes by itself could forge the boot's story.",
    source: "dstack",
    decision: "remote",
    services: {
      reason: "they see a read-only sysfs of their own network namespace, and their own volumes and files",
      kinds: ["static", "live"],
    },
    static: [
      image(
        "no sysfs, configfs, securityfs or device in its mounts",
        ({ runtime }) =>
          runtime.mounts.find(
            ({ type, source }) =>
              ["sysfs", "configfs", "securityfs", "devtmpfs", "cgroup2"].includes(type) ||
              /^\/(sys|dev)(\/|$)/.test(source),
          )?.destination,
        ({ runtime }) => {
          runtime.mounts.push({ destination: "/sys", type: "sysfs", source: "sysfs", options: [] });
        },
      ),
      image(
        "of the guest's files only its own socket, key and resolver",
        ({ runtime }) =>
          runtime.mounts.find(
            ({ type, source }) =>
              type === "bind" &&
              !["/run/caisson/app.sock", "/run/caisson/app-key", "/run/resolv.conf"].includes(source),
          )?.source,
        ({ runtime }) => {
          runtime.mounts.push({
            destination: "/run/log",
            type: "bind",
            source: "/run/caisson/runtime-events.jsonl",
            options: ["bind"],
          });
        },
      ),
    ],
    live: [
      live(
        "the event log is root's alone",
        ({ files }) => {
          const log = files.find(({ path }) => path === "/run/caisson/runtime-events.jsonl");
          return log !== undefined && log.uid === 0 && (log.mode & 0o077) === 0
            ? undefined
            : `mode ${log?.mode.toString(8)}`;
        },
        ({ files }) => {
          for (const file of files) if (file.path.endsWith("runtime-events.jsonl")) file.mode = 0o666;
        },
      ),
    ],
    remote: [verified("events/boundary", "nothing was added after the boot's events")],
  },
  {
    id: "O07",
    title: "No environment that loads code",
    why: "LD_PRELOAD and its like turn a value into a program.",
    source: "zksecurity",
    static: [
      image(
        "no LD_*, BASH_ENV, DOCKER_*, NODE_OPTIONS and the like",
        ({ runtime }) =>
          runtime.process.env.find((entry) =>
            /^(LD_|BASH_ENV=|ENV=|DOCKER_|PYTHONSTARTUP=|PERL5OPT=|RUBYOPT=|GCONV_PATH=)/.test(entry),
          ),
        ({ runtime }) => {
          runtime.process.env.push("LD_PRELOAD=/run/x.so");
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [verified("app/id", "the environment is part of the measured description")],
  },
  {
    id: "O08",
    title: "The application starts last",
    why: "Time, measurements and keys are settled before its first instruction.",
    source: "dstack",
    static: inSource("packages/guest/src/init.ts"),
    live: [
      live(
        "system-ready is the last event",
        ({ events }) => (events.at(-1) === "system-ready" ? undefined : events.at(-1)),
        ({ events }) => {
          events.push("app-id");
        },
      ),
    ],
    remote: [
      verified("events/sequence", "the events came in the boot's order"),
      verified("events/boundary", "system-ready ends them"),
    ],
  },
  {
    id: "O09",
    title: "Bounded memory and processes",
    why: "It cannot starve what watches it.",
    static: [
      image(
        "a memory limit",
        ({ guest }) =>
          services(guest)
            .find(({ memory }) => !(memory > 0 && Number.isFinite(memory)))
            ?.memory.toString(),
        ({ guest }) => {
          services(guest)[0]!.memory = 0;
        },
      ),
      image(
        "a limit on processes",
        ({ guest }) =>
          services(guest)
            .find(({ pids }) => !(pids > 0 && pids <= 32_768))
            ?.pids.toString(),
        ({ guest }) => {
          services(guest)[0]!.pids = 0;
        },
      ),
      image(
        "every file system in memory has a size",
        ({ runtime }) =>
          runtime.mounts.find(
            ({ type, options }) => type === "tmpfs" && !options.some((option) => option.startsWith("size=")),
          )?.destination,
        ({ runtime }) => {
          runtime.mounts.push({
            destination: "/var",
            type: "tmpfs",
            source: "tmpfs",
            options: ["nosuid", "nodev", "noexec"],
          });
        },
      ),
    ],
    live: [
      grouped(
        "the kernel limits the memory of each group that a user's process is in",
        ({ memory }) => /^[1-9]\d*$/.test(memory ?? ""),
        (group) => void (group.memory = "max"),
      ),
      grouped(
        "and the number of its processes",
        ({ pids }) => /^[1-9]\d*$/.test(pids ?? ""),
        (group) => void (group.pids = "max"),
      ),
      grouped(
        "and ends all of it when its memory is used up",
        ({ killedTogether }) => killedTogether === "1",
        (group) => void (group.killedTogether = "0"),
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O10",
    title: "An unprivileged user",
    why: "Not root, even inside.",
    services: {
      reason: "root of a user namespace is nobody outside of it",
      kinds: ["static", "live"],
    },
    static: [
      image(
        "user and group are not 0",
        ({ runtime }) => (runtime.process.user.uid > 0 && runtime.process.user.gid > 0 ? undefined : "root"),
        ({ runtime }) => {
          runtime.process.user.uid = 0;
        },
      ),
    ],
    live: [
      live(
        "a process of another user than root runs",
        ({ processes }) => (processes.some(({ uid }) => uid !== 0) ? undefined : "none"),
        (copy) => {
          copy.processes = copy.processes.filter(({ uid }) => uid === 0);
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O11",
    title: "What it may write to, it may not execute",
    why: "A dropped file stays data.",
    source: "design",
    services: {
      reason: "their layer and volumes are as writable and executable as other runtimes make them",
      kinds: ["static", "live"],
    },
    static: [
      image(
        "tmpfs and binds are nosuid and noexec",
        ({ runtime }) =>
          runtime.mounts.find(
            ({ type, options }) =>
              (type === "tmpfs" || type === "bind") &&
              !(options.includes("nosuid") && options.includes("noexec")),
          )?.destination,
        ({ runtime }) => {
          for (const mount of runtime.mounts)
            mount.options = mount.options.filter((option) => option !== "noexec");
        },
      ),
    ],
    live: [
      live(
        "what is mounted writable for processes of users is nosuid and noexec",
        ({ processes }) =>
          ownMount(
            processes,
            ({ options }) =>
              options.includes("rw") && !(options.includes("nosuid") && options.includes("noexec")),
          ),
        ({ processes }) => {
          for (const { mounts } of processes)
            mounts?.push({ source: "tmpfs", target: "/var", type: "tmpfs", options: ["rw", "nosuid"] });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O12",
    title: "Contained services are apart from each other",
    why: "What breaks out of one, or was sold with one, is not another's.",
    source: "oci",
    tests: ["packages/guest/src/sandbox.test.ts", "packages/guest/src/network/plan.test.ts"],
    static: [
      image(
        "each has ids of its own, and several are all contained",
        ({ guest }) => {
          const all = services(guest);
          const ranges = new Set(all.map(({ range }) => range));
          if (ranges.size !== all.length) return "two share a range";
          return all.length > 1
            ? all.find(({ isolation }) => isolation !== "contained")?.isolation
            : undefined;
        },
        ({ guest }) => {
          guest.app.services["other"] = structuredClone(services(guest)[0]!);
        },
      ),
      image(
        "capabilities only inside a user namespace, and of those that hold for nothing outside of it",
        ({ guest }) => {
          const bad = services(guest).find(
            ({ isolation, capabilities }) =>
              capabilities.some((name) => !ofRoot.includes(name) && !asked.includes(name)) ||
              (capabilities.length > 0 && isolation !== "contained"),
          );
          return bad?.capabilities.join(", ");
        },
        ({ guest }) => {
          services(guest)[0]!.capabilities = ["CHOWN"];
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "O17",
    title: "No service has a capability that was asked for",
    why: "What entry points need is known; the rest is somebody's wish.",
    source: "oci",
    services: { reason: "cap_add of the compose file asks for it", kinds: ["static"] },
    tests: ["packages/image/src/build/service.test.ts", "test/e2e/containers.test.ts"],
    static: [
      image(
        "root has what entry points need, and nobody else has any",
        ({ guest }) => {
          const found = Object.entries(guest.app.services).flatMap(([name, { user, capabilities }]) => {
            const more = capabilities.filter((one) => user !== 0 || !ofRoot.includes(one));
            return more.length === 0 ? [] : [`${name}: ${more.join(", ")}`];
          });
          return found.join("; ") || undefined;
        },
        ({ guest }) => {
          services(guest)[0]!.capabilities = ["NET_RAW"];
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
]);
