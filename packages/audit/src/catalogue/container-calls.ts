// SPDX-License-Identifier: Apache-2.0
/** What the application is, and what it may ask of the kernel: judged by the OCI configuration that PID 1 gives to crun. */
import { image, live, reasonsForNoCheck, rootCovered, verified } from "../expect.ts";
import type { ImageFacts } from "../facts.ts";
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
const allowed = ({ runtime }: ImageFacts) =>
  runtime.linux.seccomp.syscalls
    .filter(({ action }) => action !== "SCMP_ACT_ERRNO")
    .flatMap(({ names }) => names);

export const containerCalls = group("container", { decision: "least", source: "oci" }, [
  {
    id: "O01",
    title: "The application is named by digest",
    why: "A tag is whatever its registry says today.",
    source: "zksecurity",
    static: [
      image(
        "the SHA-256 of its manifest",
        ({ guest }) =>
          Object.values(guest.app.services).find(
            ({ image }) => !/^[0-9a-f]{64}$/.test(image) || /^0+$/.test(image),
          )?.image,
        ({ guest }) => {
          Object.values(guest.app.services)[0]!.image = "latest";
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
]);
