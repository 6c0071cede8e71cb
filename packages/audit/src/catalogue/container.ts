// SPDX-License-Identifier: Apache-2.0
/** What the application sees, and when it starts: judged by the OCI configuration that PID 1 gives to crun. */
import { image, inSource, live, reasonsForNoCheck, rootCovered, verified } from "../expect.ts";
import { group } from "./group.ts";
import { ownMount } from "./user-processes.ts";

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

export const container = group("container", { decision: "least", source: "oci" }, [
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
]);
