// SPDX-License-Identifier: Apache-2.0
/** The front (decision 0019): where connections from outside end. Images without one have nothing to judge here. */
import { NotApplicable, type Test } from "../control.ts";
import { image, live, rootCovered } from "../expect.ts";
import type { ImageFacts, LiveFacts, RuntimeFacts } from "../facts.ts";
import { group } from "./group.ts";

type Front = NonNullable<ImageFacts["guest"]["app"]["front"]>;
type Process = LiveFacts["processes"][number];

const none = new NotApplicable("there is no front");
/** The name of its control group. */
const itsGroup = /^\/service-_front(\/|$)/;
/** A contained service's ids outside: so many for each range, from the first. */
const firstId = 100_000;
const idCount = 65_536;
/** What a program that takes connections and makes some never needs: changing files, other users, listening, sharing. */
const beyondServing =
  `bind creat mkdir mkdirat mknod mknodat rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat
  rmdir truncate ftruncate chmod fchmod fchmodat chown fchown lchown fchownat setxattr setuid setgid setresuid
  setresgid setgroups capset fork vfork execveat memfd_create shmget semget msgget mq_open pidfd_open kill clone3 openat2
  seccomp`.split(/\s+/);

/** Holds for an image that has a front. */
const fronted = (
  expects: string,
  judge: (front: Front, services: ImageFacts["guest"]["app"]["services"]) => string | undefined,
  breaks: (front: Front, services: ImageFacts["guest"]["app"]["services"]) => void,
): Test<ImageFacts> =>
  image(
    expects,
    ({ guest: { app } }) => (app.front === undefined ? none : judge(app.front, app.services)),
    ({ guest: { app } }) => breaks(app.front!, app.services),
  );

/** Holds for what crun is told of the front. */
const sandboxed = (
  expects: string,
  judge: (runtime: RuntimeFacts, facts: ImageFacts) => string | undefined,
  breaks: (runtime: RuntimeFacts) => void,
): Test<ImageFacts> =>
  image(
    expects,
    (facts) => (facts.front === undefined ? none : judge(facts.front, facts)),
    ({ front }) => breaks(front!),
  );

/** Holds for a guest in which a front runs: its processes, and all others. */
const running = (
  expects: string,
  judge: (own: Process[], others: Process[], facts: LiveFacts) => string | undefined,
  breaks: (own: Process[], others: Process[], copy: LiveFacts) => void,
): Test<LiveFacts> => {
  const parts = ({ processes }: LiveFacts): [Process[], Process[]] => [
    processes.filter(({ controlGroup }) => itsGroup.test(controlGroup)),
    processes.filter(({ controlGroup }) => !itsGroup.test(controlGroup)),
  ];
  return live(
    expects,
    (facts) => {
      const [own, others] = parts(facts);
      return own.length === 0 ? none : judge(own, others, facts);
    },
    (copy) => breaks(...parts(copy), copy),
  );
};

const calls = ({ linux }: RuntimeFacts): string[] =>
  linux.seccomp.syscalls.filter(({ action }) => action !== "SCMP_ACT_ERRNO").flatMap(({ names }) => names);

/** What is let through only with these bits of an argument: a thread's clone (CLONE_THREAD, no CLONE_NEW*), an open to read. */
const byBits: Record<string, { index: number; mask: number; value: number }> = {
  clone: { index: 0, mask: 0x7e030000, value: 0x10000 },
  open: { index: 1, mask: 0o20001103, value: 0 },
  openat: { index: 2, mask: 0o20001103, value: 0 },
};
/** FIONBIO, FIOCLEX, FIONCLEX, FIONREAD, TCGETS, TCGETS2. */
const ioctls = [0x5421, 0x5451, 0x5450, 0x541b, 0x5401, 0x802c542a];

type Rule = RuntimeFacts["linux"]["seccomp"]["syscalls"][number];

/** Whether a rule lets nothing through but what a front needs, of the calls that are judged by their arguments. */
function isNarrow(name: string, { args = [] }: Rule): boolean {
  const bits = byBits[name];
  if (bits !== undefined) {
    return args.some(
      ({ index, op, value, valueTwo }) =>
        index === bits.index &&
        op === "SCMP_CMP_MASKED_EQ" &&
        (value & bits.mask) === bits.mask &&
        valueTwo === bits.value,
    );
  }
  if (name !== "ioctl") return true;
  return args.some(
    ({ index, op, value, valueTwo = -1 }) =>
      index === 1 && op === "SCMP_CMP_MASKED_EQ" && value === 0xffff_ffff && ioctls.includes(valueTwo),
  );
}

export const front = group("container", { decision: "remote", source: "design" }, [
  {
    id: "O13",
    title: "A front and dstack's API exclude each other",
    why: "GetQuote signs any report data: whoever has it makes a channel's evidence for keys of his own.",
    tests: ["packages/protocol/src/guest-config.test.ts", "packages/image/src/build/service.test.ts"],
    static: [
      fronted(
        "no service has a socket of dstack's beside it",
        (_, services) => Object.keys(services).find((name) => services[name]!.dstack !== undefined),
        (_, services) => {
          const asking = Object.values(services)[0]!;
          asking.dstack = [{ socket: "dstack", target: "/var/run/dstack.sock" }];
        },
      ),
    ],
    live: [
      running(
        "nor does PID 1 listen on one",
        (_, __, { sockets }) =>
          sockets.find(({ protocol, local }) => protocol === "unix" && /\.(dstack|tappd)$/.test(local))
            ?.local,
        (_, __, { sockets }) => {
          const local = "/run/caisson/hello.sock.dstack";
          sockets.push({ protocol: "unix", local, listening: true, uid: 101_000 });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O14",
    title: "What stands behind the front is reached through it alone",
    why: "A second way in is one that no evidence speaks of.",
    tests: ["packages/guest/src/network/firewall.test.ts", "test/e2e/channel.test.ts"],
    static: [
      fronted(
        "it is a contained service: nothing but the front is led into its network",
        ({ service }, services) => {
          const found = Object.hasOwn(services, service) ? services[service]!.isolation : `no '${service}'`;
          return found === "contained" ? undefined : found;
        },
        ({ service }, services) => {
          services[service]!.isolation = "plain";
        },
      ),
      fronted(
        "the port of it that the front asks is not published",
        ({ service, target }, services) =>
          services[service]?.ports
            .find((one) => one.protocol === "tcp" && one.target === target)
            ?.published.toString(),
        ({ service, target }, services) => {
          services[service]!.ports.push({ protocol: "tcp", published: 9000, target });
        },
      ),
      fronted(
        "nobody else publishes the front's port",
        ({ port }, services) =>
          Object.keys(services).find((name) =>
            services[name]!.ports.some((one) => one.protocol === "tcp" && one.published === port),
          ),
        ({ port }, services) => {
          const other = structuredClone(Object.values(services)[0]!);
          other.ports = [{ protocol: "tcp", published: port, target: 1 }];
          services["other"] = other;
        },
      ),
    ],
    live: [
      running(
        "one socket listens for TCP on the guest's own network: what PID 1 gave the front",
        (_, __, { sockets }) => {
          const found = sockets.filter(({ protocol, listening }) => protocol === "tcp" && listening);
          return found.length === 1 ? undefined : found.map(({ local }) => local).join(", ") || "none";
        },
        (_, __, { sockets }) => {
          sockets.push({ protocol: "tcp", local: "0.0.0.0:8080", listening: true, uid: 101_000 });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O15",
    title: "With a front, no service publishes a port of its own",
    why: "What front.direct opens is outside of the channel: connections there end where the evidence does not say.",
    severity: "recommended",
    static: [
      fronted(
        "no published port beside the front's",
        (_, services) => {
          const open = Object.entries(services).flatMap(([name, { ports }]) =>
            ports.map(({ protocol, published }) => `${name}: ${published}/${protocol}`),
          );
          return open.length === 0 ? undefined : open.join(", ");
        },
        (_, services) => {
          Object.values(services)[0]!.ports = [{ protocol: "udp", published: 53, target: 53 }];
        },
      ),
    ],
    live: "published ports are rules of nf_tables, which a report does not show",
    remote: [rootCovered],
  },
  {
    id: "O16",
    title: "The front has a user, a network and a filter of its own",
    why: "It parses the internet's bytes: whoever breaks it has what it can reach, which is one port and one question.",
    decision: "least",
    static: [
      sandboxed(
        "neither root, nor a capability, nor new privileges, nor a root that it can write to",
        ({ process: { user, capabilities, noNewPrivileges }, root }) => {
          if (!(user.uid > 0 && user.gid > 0)) return "root";
          const held = Object.values(capabilities).flat();
          if (held.length > 0) return held.join(", ");
          if (!noNewPrivileges) return "new privileges";
          return root.readonly ? undefined : "a writable root";
        },
        ({ root }) => {
          root.readonly = false;
        },
      ),
      sandboxed(
        "ids outside that no service has",
        ({ linux: { uidMappings = [], gidMappings = [] } }, { guest }) => {
          const taken = Object.values(guest.app.services).map(({ range }) => firstId + range * idCount);
          for (const [one, ...more] of [uidMappings, gidMappings]) {
            if (one === undefined || more.length > 0) return "not one range";
            const shared = taken.some(
              (first) => one.hostID < first + idCount && first < one.hostID + one.size,
            );
            if (one.hostID < firstId || shared) return `${one.hostID} and up`;
          }
          return undefined;
        },
        ({ linux }) => {
          linux.gidMappings![0]!.hostID = firstId;
        },
      ),
      ...["pid", "mount", "ipc", "uts", "cgroup", "user", "network"].map((type) =>
        sandboxed(
          `a ${type} namespace of its own`,
          ({ linux }) =>
            linux.namespaces.some((one) => one.type === type) ? undefined : "the guest's, or a service's",
          ({ linux }) => {
            linux.namespaces = linux.namespaces.filter((one) => one.type !== type);
          },
        ),
      ),
      sandboxed(
        "of the guest's files only the channel's socket, and three that say who it is on its network",
        ({ mounts }) =>
          mounts.find(
            ({ type, source }) =>
              type === "bind" &&
              source !== "/run/caisson/_front.sock" &&
              !/^\/run\/services\/_front\/(hosts|resolv\.conf|hostname)$/.test(source),
          )?.source,
        ({ mounts }) => {
          mounts.push({
            destination: "/run/secrets/caisson-key",
            type: "bind",
            source: "/run/caisson/app-key",
            options: ["bind", "ro"],
          });
        },
      ),
      sandboxed(
        "fewer system calls than a service: it binds to nothing, changes no file's place, owner or mode, nor its own user",
        (own, { runtime }) => {
          if (own.linux.seccomp.defaultAction !== "SCMP_ACT_ERRNO") return own.linux.seccomp.defaultAction;
          const all = new Set(calls(runtime));
          const found = calls(own).filter((name) => !all.has(name) || beyondServing.includes(name));
          return found.length === 0 ? undefined : found.join(", ");
        },
        ({ linux }) => {
          linux.seccomp.syscalls.push({ names: ["bind"], action: "SCMP_ACT_ALLOW" });
        },
      ),
      sandboxed(
        "it starts threads alone, opens files to read alone, and asks devices for nothing but readiness",
        ({ linux }) => {
          const wide = linux.seccomp.syscalls.flatMap((rule) =>
            rule.action === "SCMP_ACT_ERRNO" ? [] : rule.names.filter((name) => !isNarrow(name, rule)),
          );
          return wide.length === 0 ? undefined : wide.join(", ");
        },
        ({ linux }) => {
          linux.seccomp.syscalls.push({ names: ["openat"], action: "SCMP_ACT_ALLOW" });
        },
      ),
    ],
    live: [
      running(
        "a user and a group that no other process has",
        (own, others) =>
          own.find(
            ({ uid, gid }) =>
              uid === 0 || gid === 0 || others.some((one) => one.uid === uid || one.gid === gid),
          )?.name,
        (own, others) => {
          others.find(({ uid }) => uid !== 0)!.gid = own[0]!.gid;
        },
      ),
      running(
        "a network that no other process is on",
        (own, others) => {
          const shared = own.find(
            ({ namespaces: { net } }) =>
              net === undefined || others.some(({ namespaces }) => namespaces["net"] === net),
          );
          return shared?.namespaces["net"] ?? shared?.name;
        },
        (own, others) => {
          own[0]!.namespaces["net"] = others[0]!.namespaces["net"]!;
        },
      ),
      running(
        "no capability, a filter of system calls, no new privileges",
        (own) =>
          own.find(
            ({ capabilities, seccomp, noNewPrivileges }) =>
              /[^0]/.test(Object.values(capabilities).join("")) || seccomp !== 2 || !noNewPrivileges,
          )?.name,
        (own) => {
          own[0]!.seccomp = 0;
        },
      ),
    ],
    remote: [rootCovered],
  },
]);
