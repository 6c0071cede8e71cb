// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok } from "node:assert/strict";
import { PassThrough } from "node:stream";
import { finished } from "node:stream/promises";
import { test } from "node:test";
import type { Service } from "@caisson/protocol/guest-config";
import { plainService } from "@caisson/protocol/testing/service";
import { runtimeConfig } from "./sandbox.ts";
import { type SeccompProfile, seccompProfile } from "./seccomp.ts";
import { readLines } from "./services/output.ts";

const app = plainService({ user: 10001, group: 10001 });

interface Config {
  root: { path: string; readonly: boolean };
  process: {
    user: object;
    args: string[];
    noNewPrivileges: boolean;
    capabilities: Record<string, string[]>;
    env: string[];
  };
  mounts: { destination: string; type: string; options: string[] }[];
  linux: { namespaces: { type: string; path?: string }[]; devices?: unknown[]; maskedPaths: string[] };
}
const config = runtimeConfig(app, [{ source: "/run/k", destination: "/run/key" }]) as Config;

test("no capability in any set, no new privileges, no root, a read-only root", () => {
  deepEqual(Object.values(config.process.capabilities).flat(), []);
  equal(config.process.noNewPrivileges, true);
  deepEqual(config.process.user, { uid: 10001, gid: 10001 });
  equal(config.root.readonly, true);
});

test("no device beyond the runtime's defaults, nothing of /sys, every mount nosuid", () => {
  equal(config.linux.devices, undefined);
  ok(config.mounts.every(({ destination }) => !destination.startsWith("/sys")));
  ok(config.mounts.every(({ options }) => options.includes("nosuid")));
});

test("what is shared with the guest is read-only unless it says otherwise", () => {
  const share = config.mounts.find(({ destination }) => destination === "/run/key");
  ok(share?.options.includes("ro") && share.options.includes("bind"));
});

const forbidden =
  `acct add_key bpf chroot clock_adjtime clock_settime clone3 delete_module finit_module fanotify_init
  init_module io_uring_setup io_uring_enter io_uring_register ioperm iopl kcmp kexec_load kexec_file_load keyctl mount
  mount_setattr move_mount move_pages name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open
  personality pidfd_getfd pivot_root process_vm_readv process_vm_writev ptrace quotactl reboot request_key setns
  settimeofday sethostname swapoff swapon syslog umount2 unshare userfaultfd vhangup`.split(/\s+/);

test("the seccomp profile allows no call that mounts, traces, loads code or makes namespaces", () => {
  const allowed = seccompProfile.syscalls
    .filter(({ action }) => action !== "SCMP_ACT_ERRNO")
    .flatMap(({ names }) => names);
  deepEqual(
    allowed.filter((name) => forbidden.includes(name)),
    [],
  );
  equal(seccompProfile.defaultAction, "SCMP_ACT_ERRNO");
});

test("no call is listed twice, but socket, by address family, and mknod, by the kind of node", () => {
  const names = seccompProfile.syscalls
    .flatMap((rule) => rule.names)
    .filter((name) => !["socket", "mknod", "mknodat"].includes(name));
  equal(new Set(names).size, names.length);
});

test("lines of the application, however they are cut into pieces; of a line without end, its beginning", async () => {
  const stream = new PassThrough();
  const lines: string[] = [];
  readLines(stream, (line) => lines.push(line));
  for (const piece of ["o", "ne\r\ntwo\n\nthr", "ee\n"]) stream.write(piece);
  stream.write(Buffer.from("ü").subarray(0, 1));
  stream.write(Buffer.from("ü").subarray(1));
  stream.write("\n");
  for (let i = 0; i < 100; i++) stream.write("x".repeat(10_000));
  stream.end("\nlast");
  await finished(stream);
  deepEqual(lines, ["one", "two", "", "three", "ü", "x".repeat(2000), "last"]);
});

const allowedBy = (name: string, index: number): unknown[] =>
  seccompProfile.syscalls
    .filter((rule) => rule.names.includes(name) && rule.action === "SCMP_ACT_ALLOW")
    .map((rule) => rule.args!)
    .map((args) => args.find((one) => one.index === index)!.valueTwo);

test("nodes that can be made are files, FIFOs and sockets: no devices", () => {
  const kinds = [0, 0o010000, 0o100000, 0o140000];
  deepEqual(allowedBy("mknod", 1), kinds);
  deepEqual(allowedBy("mknodat", 2), kinds);
});

const around = {
  root: "/run/services/web/root",
  userNamespace: "/proc/1/fd/7",
  networkNamespace: "/proc/1/fd/8",
  volumes: [{ target: "/data", source: "/run/services/web/volume-0", readOnly: false }],
  files: [{ target: "/etc/hosts", source: "/run/services/web/hosts" }],
};
const web = plainService({
  isolation: "contained",
  range: 2,
  user: 0,
  group: 0,
  readOnly: false,
  capabilities: ["CHOWN", "SETUID"],
  environment: { PATH: "/opt/bin" },
});
const contained = runtimeConfig(web, [], { surroundings: around }) as Config & {
  linux: { uidMappings: object[] };
};

test("contained: root of its own ids, with the capabilities that it is given and no others", () => {
  deepEqual(contained.process.capabilities, {
    bounding: ["CAP_CHOWN", "CAP_SETUID"],
    effective: ["CAP_CHOWN", "CAP_SETUID"],
    inheritable: [],
    permitted: ["CAP_CHOWN", "CAP_SETUID"],
    ambient: [],
  });
  deepEqual(contained.linux.uidMappings, [{ containerID: 0, hostID: 231_072, size: 65_536 }]);
  equal(contained.process.noNewPrivileges, true);
});

test("contained: only who has CAP_SYS_CHROOT may call chroot", () => {
  const calls = (capabilities: Service["capabilities"]): string[] => {
    const { linux } = runtimeConfig({ ...web, capabilities }, [], {
      surroundings: around,
      onPersistent: true,
    }) as {
      linux: { seccomp: SeccompProfile };
    };
    return linux.seccomp.syscalls.flatMap(({ names, action }) => (action === "SCMP_ACT_ALLOW" ? names : []));
  };
  ok(!calls(["CHOWN", "SETUID"]).includes("chroot"));
  const more = calls(["CHOWN", "SYS_CHROOT"]);
  deepEqual(
    more.filter((name) => forbidden.includes(name)),
    ["chroot"],
  );
});

test("contained: another user keeps what it was given at every program that it executes", () => {
  const user = { ...web, user: 1000, capabilities: ["NET_RAW" as const] };
  const { process } = runtimeConfig(user, [], { surroundings: around }) as Config;
  const held = ["CAP_NET_RAW"];
  deepEqual(process.capabilities, {
    bounding: held,
    effective: held,
    inheritable: held,
    permitted: held,
    ambient: held,
  });
});

test("contained: the first process is the platform's where one is asked for, and only the service's own is one else", () => {
  const { process, mounts } = runtimeConfig({ ...web, init: true }, [], { surroundings: around }) as Config;
  deepEqual(process.args, ["/dev/init", ...contained.process.args]);
  const found = mounts.find(({ destination }) => destination === "/dev/init") as
    | { source?: string }
    | undefined;
  equal(found?.source, "/app/_init");
  ok(!contained.mounts.some(({ destination }) => destination === "/dev/init"));
});

test("contained: user and network namespace are those that were made for it; its control group is all it sees", () => {
  deepEqual(
    contained.linux.namespaces.map(({ type, path }) => `${type} ${path ?? "new"}`),
    ["pid new", "mount new", "ipc new", "uts new", "cgroup new", "user /proc/1/fd/7", "network /proc/1/fd/8"],
  );
  const sys = contained.mounts.filter(({ destination }) => destination.startsWith("/sys"));
  ok(sys.every(({ options }) => options.includes("ro")));
});

test("contained: a root of its own to write to, no device mounts, and what the image says of its environment stands", () => {
  deepEqual(contained.root, { path: around.root, readonly: false });
  ok(contained.process.env.includes("PATH=/opt/bin"));
  ok(contained.process.env.includes("HOSTNAME=hello"));
  const data = contained.mounts.find(({ destination }) => destination === "/data")!;
  deepEqual(data.options, ["bind", "nosuid", "nodev", "rw"]);
});
