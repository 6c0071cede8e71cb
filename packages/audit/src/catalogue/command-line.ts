// SPDX-License-Identifier: Apache-2.0
/** The kernel command line: measured into RTMR2 as one string, and compared token by token by PID 1. */
import { splitCommandLine } from "@caisson/protocol/command-line";
import { type Checks, covered, image, live, noFiles, rootCovered, tokens, without } from "../expect.ts";
import { group } from "./group.ts";

/** Words that weaken the kernel, give the host a say, or open another way in. */
const weakening =
  /^(nokaslr|nopti|pti=off|nosmep|nosmap|nospectre_v[12]|mitigations=.*|spectre_v2=off|clearcpuid=.*|setcpuid=.*|dis_ucode_ldr|no_hash_pointers|kasan\.fault=.*|noexec=.*|norandmaps)$/;
const early = /^(earlyprintk.*|earlycon.*|debug|initcall_debug|ignore_loglevel|loglevel=.*|keep_bootcon)$/;
const rootTable =
  /^dm-mod\.create="root,,,ro,0 \d+ verity 1 \/dev\/vda \/dev\/vda 4096 4096 \d+ \d+ sha256 [0-9a-f]{64} [0-9a-f]{2,64} 1 panic_on_corruption"$/;

const noAddresses = "ipv6.disable_ipv6=1";

/** None of the tokens matches; checked in the manifest and live. */
function noTokens(expects: string, pattern: RegExp, example: string): Checks {
  const find = (line: readonly string[]) => {
    const found = line.filter((token) => pattern.test(token));
    return found.length === 0 ? undefined : found.join(" ");
  };
  return {
    static: [
      image(
        expects,
        ({ commandLine }) => find(commandLine),
        (copy) => {
          copy.commandLine = [...copy.commandLine, example];
        },
      ),
    ],
    live: [
      live(
        expects,
        ({ commandLine }) => find(splitCommandLine(commandLine)),
        (copy) => {
          copy.commandLine += ` ${example}`;
        },
      ),
    ],
    remote: [covered("rtmr2", "the LOADED_IMAGE::LoadOptions event")],
  };
}

const repeated = (line: readonly string[]): string | undefined => {
  const end = line.indexOf("--");
  const names = line
    .slice(0, end < 0 ? undefined : end)
    .map((token) => token.split("=")[0]!.replaceAll("-", "_"));
  const twice = names.filter((name, i) => names.indexOf(name) !== i && name !== "pci");
  return twice.length === 0 ? undefined : `twice: ${twice.join(", ")}`;
};

export const commandLine = group("command line", { decision: "depth", source: "intel" }, [
  {
    id: "C01",
    title: "RDRAND is credited",
    why: "The processor's generator is the one source of randomness that the host cannot see.",
    decision: "D4",
    ...tokens("random.trust_cpu=on"),
  },
  {
    id: "C02",
    title: "The firmware's seed is not credited",
    why: "Firmware hands over what the host gave it; since 6.2 only the command line can refuse the credit.",
    source: "linux",
    decision: "D4",
    ...tokens("random.trust_bootloader=off"),
  },
  {
    id: "C03",
    title: "The TSC is declared reliable",
    why: "Otherwise a watchdog compares it with the host's timers and may fall back to one of them.",
    decision: "D5",
    ...tokens("tsc=reliable"),
  },
  {
    id: "C04",
    title: "No paravirtual clock",
    why: "The host writes the kvm-clock page. The kernel is built without it, so that no token is needed.",
    decision: "D5",
    ...without("KVM_GUEST", "PARAVIRT_CLOCK"),
  },
  {
    id: "C05",
    title: "The TSC is the chosen clock source",
    why: "No fallback to HPET or the ACPI timer, which the host emulates.",
    source: "design",
    decision: "D5",
    ...tokens("clocksource=tsc", "hpet=disable"),
  },
  {
    id: "C06",
    title: "Machine checks are off",
    why: "TDX selects the code, and it was not hardened against a host that invents machine checks.",
    ...tokens("mce=off"),
  },
  {
    id: "C07",
    title: "An oops ends the machine",
    why: "After a corruption nothing that holds keys goes on.",
    ...tokens("oops=panic", "panic=-1"),
  },
  {
    id: "C08",
    title: "No early and no memory-mapped PCI configuration access",
    why: "Both parse what the host places before anything is hardened.",
    static: [
      ...["pci=noearly", "pci=nommconf"].map((token) =>
        image(
          `'${token}' on the command line`,
          ({ commandLine: line }) => (line.includes(token) ? undefined : "missing"),
          (copy) => {
            copy.commandLine = copy.commandLine.filter((other) => other !== token);
          },
        ),
      ),
      image(
        "CONFIG_PCI_MMCONFIG is not set",
        ({ kernel }) => kernel.config.get("PCI_MMCONFIG"),
        ({ kernel }) => (kernel.config as Map<string, string>).set("PCI_MMCONFIG", "y"),
      ),
    ],
    live: ["pci=noearly", "pci=nommconf"].map((token) =>
      live(
        `'${token}' on the command line`,
        (facts) => (splitCommandLine(facts.commandLine).includes(token) ? undefined : "missing"),
        (copy) => {
          copy.commandLine = copy.commandLine.replace(token, "pci=earlydump");
        },
      ),
    ),
    remote: [covered("rtmr2", "the LOADED_IMAGE::LoadOptions event")],
  },
  {
    id: "C09",
    title: "Secondary ACPI tables are not loaded",
    why: "They are byte code of the host's that would run in the kernel.",
    source: "linux",
    ...tokens("acpi_no_static_ssdt"),
  },
  {
    id: "C10",
    title: "Lockdown on the command line",
    why: "Root is kept apart from the kernel, and tables from an initrd are refused; the kernel forces the same.",
    source: "kspp",
    ...tokens("lockdown=confidentiality"),
  },
  {
    id: "C11",
    title: "Memory is zeroed before use",
    why: "No stale secret reaches its next owner. Zeroing on free as well stays off: it breaks some TDX hosts.",
    source: "kspp",
    ...tokens("init_on_alloc=1"),
  },
  {
    id: "C12",
    title: "Heap, pages and stacks are unpredictable",
    why: "An exploit has to guess where things lie.",
    source: "kspp",
    ...tokens("slab_nomerge", "page_alloc.shuffle=1", "randomize_kstack_offset=on"),
  },
  {
    id: "C13",
    title: "No code at a fixed address",
    why: "The vsyscall page is a gadget that is the same everywhere.",
    source: "kspp",
    ...tokens("vsyscall=none"),
  },
  {
    id: "C14",
    title: "Nothing on the command line weakens the kernel",
    why: "One word such as clearcpuid=rdrand would take a defence away.",
    source: "kspp",
    ...noTokens("no word that switches a defence off", weakening, "clearcpuid=rdrand"),
  },
  {
    id: "C15",
    title: "No early console, no debug output",
    why: "The host reads the serial port, and an early console is set up before the kernel defends itself.",
    source: "zksecurity",
    ...noTokens("no early console and no debug level", early, "earlycon=uart8250,io,0x3f8"),
  },
  {
    id: "C16",
    title: "No systemd that would take credentials from the host",
    why: "systemd reads SMBIOS and fw_cfg credentials, starts sshd on vsock and mounts by partition type.",
    source: "systemd",
    static: [noFiles("no systemd", /\/systemd(\/|$|-)/, "/usr/lib/systemd/systemd")],
    live: [
      live(
        "PID 1 is Node",
        ({ processes }) => {
          const first = processes.find(({ pid }) => pid === 1);
          return first?.executable === "/usr/bin/node" ? undefined : (first?.executable ?? "no process 1");
        },
        (copy) => {
          for (const process of copy.processes)
            if (process.pid === 1) process.executable = "/usr/lib/systemd/systemd";
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "C17",
    title: "One verity root, written one way, that is this root",
    why: "The hash on the measured line is what ties the whole file system to RTMR2.",
    source: "dstack",
    static: [
      image(
        "exactly one dm-mod.create= with a read-only verity table",
        ({ commandLine: line }) => {
          const tables = line.filter((token) => token.startsWith("dm-mod.create="));
          return tables.length === 1 && rootTable.test(tables[0]!) ? undefined : tables.join(" ") || "none";
        },
        (copy) => {
          copy.commandLine = copy.commandLine.map((token) => token.replace("root,,,ro,", "root,,,rw,"));
        },
      ),
      image(
        "the root hash that the blocks of rootfs.img give",
        ({ commandLine: line, root }) =>
          line.some((token) => rootTable.test(token) && token.includes(` sha256 ${root.rootHash} `))
            ? undefined
            : `another hash than ${root.rootHash}`,
        (copy) => {
          copy.root.rootHash = "0".repeat(64);
        },
      ),
    ],
    live: [
      live(
        "exactly one dm-mod.create= with a read-only verity table",
        (facts) => {
          const tables = splitCommandLine(facts.commandLine).filter((token) =>
            token.startsWith("dm-mod.create="),
          );
          return tables.length === 1 && rootTable.test(tables[0]!) ? undefined : tables.join(" ") || "none";
        },
        (copy) => {
          copy.commandLine = copy.commandLine.replace("panic_on_corruption", "ignore_corruption");
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "C18",
    title: "Mounted devices and protected memory stay unwritten",
    why: "Root cannot write under a mounted file system or through /proc/PID/mem.",
    source: "kspp",
    ...tokens("bdev_allow_write_mounted=0", "proc_mem.force_override=never"),
  },
  {
    id: "C19",
    title: "No parameter is set twice",
    why: "Whether the first or the last wins differs by parameter, so a repeated one is ambiguous.",
    source: "design",
    tests: ["packages/guest/src/stages/posture.test.ts"],
    static: [
      image(
        "each parameter once",
        ({ commandLine: line }) => repeated(line),
        (copy) => {
          copy.commandLine = [copy.commandLine[0]!, ...copy.commandLine];
        },
      ),
      image(
        "the line that PID 1 expects",
        ({ commandLine: line, guest }) => {
          const masked = line.map((token) => (token.startsWith("dm-mod.create=") ? "dm-mod.create=" : token));
          return masked.join(" ") === guest.commandLine.join(" ")
            ? undefined
            : "guest.json names another line";
        },
        (copy) => {
          copy.guest.commandLine.pop();
        },
      ),
    ],
    live: [
      live(
        "each parameter once",
        (facts) => repeated(splitCommandLine(facts.commandLine)),
        (copy) => {
          copy.commandLine = `tsc=unstable ${copy.commandLine}`;
        },
      ),
    ],
    remote: [covered("rtmr2", "the LOADED_IMAGE::LoadOptions event")],
  },
  {
    id: "C20",
    title: "A hardware generator would get no credit",
    why: "Such a device belongs to the host.",
    source: "design",
    decision: "D4",
    ...tokens("rng_core.default_quality=0"),
  },
  {
    id: "C21",
    title: "No EFI runtime services",
    why: "The host's variable store is out of reach after boot.",
    source: "badaml",
    ...tokens("efi=noruntime"),
  },
  {
    id: "C22",
    title: "Where the kernel has IPv6, only loopback has an address of it",
    why: "Otherwise a router advertisement of the host's gives the machine addresses, past all rules for packets.",
    source: "design",
    tests: ["packages/image/src/build/cmdline.test.ts"],
    static: [
      image(
        `'${noAddresses}' on the command line of a kernel with IPv6`,
        ({ kernel, commandLine: line }) =>
          kernel.config.get("IPV6") === "y" && !line.includes(noAddresses) ? "missing" : undefined,
        ({ kernel }) => (kernel.config as Map<string, string>).set("IPV6", "y"),
      ),
    ],
    live: [
      live(
        `'${noAddresses}' on the command line of a kernel with IPv6`,
        ({ protocols, commandLine: line }) =>
          protocols.some((name) => name.endsWith("v6")) && !splitCommandLine(line).includes(noAddresses)
            ? "missing"
            : undefined,
        ({ protocols }) => {
          protocols.push("TCPv6");
        },
      ),
    ],
    remote: [covered("rtmr2", "the LOADED_IMAGE::LoadOptions event")],
  },
]);
