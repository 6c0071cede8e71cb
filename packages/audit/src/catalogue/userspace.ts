// SPDX-License-Identifier: Apache-2.0
/** What runs in user space besides the application: one program. */
import {
  covered,
  everyFile,
  image,
  live,
  noFiles,
  reasonsForNoCheck,
  rootCovered,
  sysctls,
  tokens,
  writable,
} from "../expect.ts";
import { group } from "./group.ts";

const application = "/app/";
const executables = ["/usr/bin/node", "/usr/bin/crun", "/usr/lib64/ld-linux-x86-64.so.2"];
const noCompiler = ["--jitless", "--disallow-code-generation-from-strings"];
const setting = "a setting that PID 1 makes (packages/guest/src/sysctls.ts), tied to the image by U13";
const settingRemote =
  "no register covers a setting; RTMR2 covers the PID 1 that makes it and refuses to go on without";

export const userspace = group("user space", { decision: "least", source: "kspp" }, [
  {
    id: "U01",
    title: "No shell, no package manager, no compiler, no second interpreter",
    why: "An intruder finds no tools.",
    source: "zksecurity",
    static: [
      noFiles(
        "none outside of the application",
        /\/(sh|bash|dash|ash|zsh|busybox|toybox|python[\d.]*|perl[\d.]*|ruby|lua[\d.]*|awk|mawk|gawk|tclsh|apt(-get)?|dpkg|rpm|apk|npm|npx|corepack|gcc|cc|make|ld|gdb|strace|curl|wget|nc|socat|mount|insmod|modprobe|kexec|nsenter|unshare|chroot|su|sudo)$/,
        "/bin/sh",
      ),
    ],
    live: [
      live(
        "no such process outside of the application's",
        ({ processes }) =>
          processes.find(({ uid, executable }) => uid === 0 && /\/(sh|bash|dash|busybox)$/.test(executable))
            ?.executable,
        ({ processes }) => {
          processes.push({ ...processes[0]!, executable: "/bin/sh", uid: 0 });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "U02",
    title: "PID 1 is one memory-safe program",
    why: "No service manager with inputs of its own.",
    source: "badaml",
    ...tokens("init=/usr/bin/node"),
  },
  {
    id: "U03",
    title: "One native addon",
    why: "The few system calls that Node lacks, in one small file that can be read.",
    decision: "dependencies",
    source: "design",
    static: [
      image(
        "/usr/lib/caisson/syscalls.node and no other addon",
        ({ files }) => {
          const found = [...files.keys()].filter(
            (path) => path.endsWith(".node") && !path.startsWith(application),
          );
          return found.join() === "/usr/lib/caisson/syscalls.node" ? undefined : found.join(", ") || "none";
        },
        ({ files }) =>
          writable(files).set("/usr/lib/other.node", { kind: "file", mode: 0o644, uid: 0, gid: 0, size: 1 }),
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "U04",
    title: "The kernel tells nothing",
    why: "No addresses, no log, no counters.",
    static: setting,
    live: sysctls({
      "kernel.kptr_restrict": "2",
      "kernel.dmesg_restrict": "1",
      "kernel.perf_event_paranoid": "3",
    }),
    remote: settingRemote,
  },
  {
    id: "U05",
    title: "No process reads another",
    why: "Keys live in memory.",
    static: setting,
    live: [
      ...sysctls({ "kernel.yama.ptrace_scope": "3" }),
      live(
        "/proc shows nobody the processes of others",
        ({ mounts }) => {
          const options = mounts.find(({ target }) => target === "/proc")?.options ?? [];
          return options.some((option) => /^hidepid=(2|invisible)$/.test(option))
            ? undefined
            : "hidepid is off";
        },
        ({ mounts }) => {
          for (const mount of mounts) if (mount.target === "/proc") mount.options = ["rw"];
        },
      ),
    ],
    remote: settingRemote,
  },
  {
    id: "U06",
    title: "Modules, other kernels and SysRq are closed once more",
    why: "A second layer, should the kernel be built with them one day.",
    static: setting,
    live: sysctls({
      "kernel.kexec_load_disabled": "1",
      "kernel.modules_disabled": "1",
      "kernel.sysrq": "0",
      "kernel.unprivileged_bpf_disabled": "1",
    }),
    remote: settingRemote,
  },
  {
    id: "U07",
    title: "Races and mappings that exploits use are closed",
    why: "Links in shared directories, page zero, userfaultfd.",
    static: setting,
    live: sysctls({
      "fs.protected_symlinks": "1",
      "fs.protected_hardlinks": "1",
      "fs.protected_fifos": "2",
      "fs.protected_regular": "2",
      "vm.mmap_min_addr": "65536",
      "vm.unprivileged_userfaultfd": "0",
    }),
    remote: settingRemote,
  },
  {
    id: "U08",
    title: "Memory is written nowhere",
    why: "A core dump is a copy of the keys.",
    static: setting,
    live: [
      ...sysctls({ "fs.suid_dumpable": "0", "kernel.core_pattern": "|/bin/false" }),
      live(
        "RLIMIT_CORE is 0 for PID 1 and what it starts, and cannot be raised",
        ({ processes }) =>
          processes.find(({ kernelThread, limits }) => {
            const core = limits["Max core file size"];
            return !kernelThread && (core?.soft !== "0" || core.hard !== "0");
          })?.name,
        ({ processes }) => {
          for (const { limits } of processes) limits["Max core file size"] = { soft: "0", hard: "unlimited" };
        },
      ),
    ],
    remote: settingRemote,
  },
  {
    id: "U09",
    title: "Programs and libraries are hardened",
    why: "Read-only relocations, no executable stack, no library path of their own, random load addresses. Node's own build has a fixed address.",
    source: "oci",
    static: [
      everyFile(
        "an ELF file has RELRO",
        ({ elf }, path) => elf === undefined || path.startsWith(application) || elf.relro !== "none",
        {
          elf: { kind: "library", needed: [], pie: true, relro: "none", stackProtected: true },
        },
      ),
      everyFile(
        "an ELF file has no executable stack",
        ({ elf }, path) => elf === undefined || path.startsWith(application) || elf.stackProtected,
        {
          elf: { kind: "library", needed: [], pie: true, relro: "full", stackProtected: false },
        },
      ),
      everyFile(
        "an ELF file has no library path",
        ({ elf }, path) => elf === undefined || path.startsWith(application) || elf.runPath === undefined,
        {
          elf: {
            kind: "library",
            needed: [],
            pie: true,
            relro: "full",
            stackProtected: true,
            runPath: "/opt/lib",
          },
        },
      ),
      everyFile(
        "an ELF file but Node is position-independent",
        ({ elf }, path) =>
          elf === undefined || path.startsWith(application) || path === "/usr/bin/node" || elf.pie,
        {
          elf: { kind: "executable", needed: [], pie: false, relro: "full", stackProtected: true },
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "U10",
    title: "Every input is pinned, every artefact is named",
    why: "Who rebuilds must get the same bytes, or know what differs.",
    decision: "dependencies",
    source: "dstack",
    static: [
      image(
        "the manifest names the lock",
        ({ build }) => (/^[0-9a-f]{64}$/.test(build.lock ?? "") ? undefined : String(build.lock)),
        ({ build }) => {
          build.lock = "none";
        },
      ),
      image(
        "every artefact has the manifest's hash",
        ({ build }) => (build.changed.length === 0 ? undefined : build.changed.join(", ")),
        ({ build }) => {
          build.changed = ["kernel"];
        },
      ),
      image(
        "every file of the root is in the bill of materials",
        ({ build }) =>
          build.unaccounted.length === 0 ? undefined : build.unaccounted.slice(0, 5).join(", "),
        ({ build }) => {
          build.unaccounted = ["/usr/bin/backdoor"];
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "U11",
    title: "What is not PID 1 has no privilege",
    why: "The application has no capability, cannot gain one, and is filtered.",
    source: "oci",
    static: "the sandbox is judged by O02, O03 and O10",
    live: [
      live(
        "no process of a user has a capability, lacks no_new_privs or a seccomp filter",
        ({ processes }) => {
          const bad = processes.find(
            ({ uid, capabilities, noNewPrivileges, seccomp }) =>
              uid !== 0 &&
              (/[^0]/.test(capabilities.effective + capabilities.permitted + capabilities.bounding) ||
                !noNewPrivileges ||
                seccomp !== 2),
          );
          return bad === undefined ? undefined : `${bad.name} (${bad.pid})`;
        },
        ({ processes }) => {
          for (const process of processes) process.noNewPrivileges = false;
        },
      ),
      live(
        "PID 1 is the only process of root that stays",
        ({ processes }) =>
          processes.find(({ pid, uid, kernelThread }) => pid !== 1 && uid === 0 && !kernelThread)?.name,
        ({ processes }) => {
          processes.push({ ...processes.find(({ pid }) => pid === 1)!, pid: 4711, name: "helper" });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "U12",
    title: "The console carries no secret",
    why: "The host reads it.",
    source: "zksecurity",
    tests: ["packages/protocol/src/console.test.ts"],
    static: [
      image(
        "a production image does not print what the application says",
        ({ flavour, guest }) => (flavour === guest.flavour ? undefined : `guest.json says ${guest.flavour}`),
        ({ guest, flavour }) => {
          guest.flavour = flavour === "production" ? "development" : "production";
        },
      ),
    ],
    live: "the report does not carry the console",
    remote: [rootCovered],
  },
  {
    id: "U13",
    title: "PID 1 is these sources",
    why: "What the tests show of the sources then holds for the image.",
    decision: "remote",
    source: "design",
    static: [
      image(
        "init.mjs is byte for byte what the sources bundle to",
        ({ build: { init } }) => {
          if (init.image === undefined) return "no /usr/lib/caisson/init.mjs in the image";
          if (init.image === init.sources) return undefined;
          const [image, sources] = [init.image, init.sources].map((hash) => `${hash.slice(0, 16)}…`);
          return `${image} in the image, ${sources} from these sources: they are not those that it was built from. Build it again (caisson build SPEC), or audit it with the sources that it was built from`;
        },
        ({ build }) => {
          build.init.image = "0".repeat(64);
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "U14",
    title: "Three files may be executed",
    why: "Node, crun, and the loader that starts them.",
    source: "design",
    static: [
      image(
        executables.join(", "),
        ({ files }) => {
          const found = [...files]
            .filter(
              ([path, { kind, mode }]) =>
                kind === "file" && (mode & 0o111) !== 0 && !path.startsWith(application),
            )
            .map(([path]) => path);
          const others = found.filter((path) => !executables.includes(path));
          return others.length === 0 ? undefined : others.slice(0, 5).join(", ");
        },
        ({ files }) =>
          writable(files).set("/usr/bin/ls", { kind: "file", mode: 0o755, uid: 0, gid: 0, size: 1 }),
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "U15",
    title: "No accounts",
    why: "Without users there is nothing to log in to, and no password to set.",
    source: "design",
    static: [
      noFiles(
        "no passwd, shadow, group, sudoers",
        /^\/etc\/(passwd|shadow|group|gshadow|sudoers|pam\.d)/,
        "/etc/shadow",
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "U16",
    title: "No scripts",
    why: "The kernel starts no interpreter for a file of the system.",
    source: "design",
    static: [
      everyFile(
        "no file begins with #!",
        ({ script, mode }, path) =>
          script === undefined || path.startsWith(application) || (mode & 0o111) === 0,
        {
          script: "/bin/sh",
          mode: 0o755,
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "U17",
    title: "PID 1 makes no code at run time",
    why: "What parses the host's bytes has no compiler, and no memory that could become code.",
    source: "design",
    static: [
      image(
        "PID 1 starts without a compiler and without eval",
        ({ commandLine, build: { init } }) => {
          if (init.image === undefined) return "no PID 1 of ours";
          const found = noCompiler.filter((flag) => !commandLine.includes(flag));
          return found.length === 0 ? undefined : `without ${found.join(", ")}`;
        },
        (copy) => {
          copy.commandLine = copy.commandLine.filter((token) => token !== noCompiler[0]);
        },
      ),
    ],
    live: [
      live(
        "every executable page of PID 1 is a file's",
        ({ codeWithoutFile }) =>
          codeWithoutFile ? "it has executable memory that is not a file's" : undefined,
        (copy) => {
          copy.codeWithoutFile = true;
        },
      ),
      live(
        "the kernel refuses PID 1 new executable memory",
        ({ newCodeForbidden }) => (newCodeForbidden ? undefined : "it does not"),
        (copy) => {
          copy.newCodeForbidden = false;
        },
      ),
    ],
    remote: [covered("rtmr2", "the LOADED_IMAGE::LoadOptions event")],
  },
  {
    id: "U18",
    title: "Nobody runs programs beside the application",
    why: "A way in for its developer is one for the host.",
    source: "design",
    development: { reason: "caisson exec, for whoever started the machine", kinds: ["static", "live"] },
    static: [
      image(
        "PID 1 has no code for it",
        ({ build: { init } }) => (init.exec ? "PID 1 runs programs for whoever has its token" : undefined),
        ({ build }) => {
          build.init.exec = true;
        },
      ),
    ],
    live: [
      live(
        "nothing listens on its port, 65533",
        ({ sockets }) => sockets.find(({ listening, local }) => listening && local.endsWith(":65533"))?.local,
        ({ sockets }) => {
          sockets.push({ protocol: "tcp", local: "0.0.0.0:65533", listening: true, uid: 0 });
        },
      ),
    ],
    remote: [rootCovered],
  },
]);
