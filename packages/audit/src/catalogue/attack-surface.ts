// SPDX-License-Identifier: Apache-2.0
/** What the kernel is built without. Configuration is in the kernel image, which RTMR1 measures as a whole. */
import { kernelOfServices, type Test } from "../control.ts";
import { type Checks, kernel, live, noFilesystem, noProtocol, refused, sysctls, without } from "../expect.ts";
import type { LiveFacts } from "../facts.ts";
import { group } from "./group.ts";

/** Configuration checks, with live tests of what follows from them. */
function also(checks: Checks, ...more: Test<LiveFacts>[]): Checks {
  return { ...checks, live: [...checks.live, ...more] };
}

const noNode = (name: string) =>
  live(
    `no /dev/${name}`,
    ({ deviceNodes }) => (deviceNodes.includes(name) ? "it is there" : undefined),
    (copy) => {
      copy.deviceNodes.push(name);
    },
  );

export const attackSurface = group("kernel attack surface", { decision: "depth", source: "kspp" }, [
  {
    id: "K01",
    title: "No loadable modules",
    why: "No driver is loaded because the host shows a device for it, and no code enters a running kernel.",
    ...also(without("MODULES"), refused("open /proc/modules", "ENOENT")),
  },
  {
    id: "K02",
    title: "No other kernel can be started",
    why: "It would be one that nobody measured.",
    ...also(without("KEXEC", "KEXEC_FILE", "CRASH_DUMP"), refused("open /sys/kernel/kexec_loaded", "ENOENT")),
  },
  {
    id: "K03",
    title: "No suspend, no hibernation",
    why: "Either writes memory, or its state, where the host keeps it.",
    ...without("HIBERNATION", "SUSPEND"),
  },
  {
    id: "K04",
    title: "No /dev/mem, no /dev/port",
    why: "Port access from user space goes around what the kernel filters of the host's answers.",
    ...also(
      without("DEVMEM", "DEVPORT"),
      refused("open /dev/mem", "ENOENT"),
      refused("open /dev/port", "ENOENT"),
    ),
  },
  {
    id: "K05",
    title: "No kernel memory in /proc",
    why: "Root reads no kernel memory, and a link to it leaks nothing.",
    source: "zksecurity",
    ...also(without("PROC_KCORE", "PROC_VMCORE", "PROC_PAGE_MONITOR"), refused("open /proc/kcore", "ENOENT")),
  },
  {
    id: "K06",
    title: "No debugfs",
    why: "It shows and changes kernel internals.",
    ...also(without("DEBUG_FS", "PTDUMP_DEBUGFS"), noFilesystem("debugfs")),
  },
  {
    id: "K07",
    title: "No instrumentation of the running kernel",
    why: "Probes and tracers read any kernel data.",
    ...also(without("KPROBES", "FTRACE", "UPROBE_EVENTS"), noFilesystem("tracefs")),
  },
  {
    id: "K08",
    title: "No bpf(2)",
    why: "Programs in the kernel are not needed: PID 1 sets the control group's limits itself.",
    ...also(without("BPF_SYSCALL", "CGROUP_BPF"), noFilesystem("bpf")),
  },
  {
    id: "K09",
    title: "No io_uring",
    why: "A large interface that servers do without and exploits do not.",
    ...without("IO_URING"),
  },
  {
    id: "K10",
    title: "No userfaultfd",
    why: "It holds the kernel still in the middle of a race.",
    ...also(without("USERFAULTFD"), noNode("userfaultfd")),
  },
  {
    id: "K11",
    title: "No 32-bit, x32, 16-bit entry points",
    why: "A host can inject int 0x80, and every second way in doubles what must be right.",
    ...without("COMPAT", "IA32_EMULATION", "X86_X32_ABI", "MODIFY_LDT_SYSCALL", "X86_16BIT"),
  },
  {
    id: "K12",
    title: "No ring-0 interfaces for user space",
    why: "Model-specific registers and I/O permission are the kernel's.",
    ...also(without("X86_MSR", "X86_CPUID", "X86_IOPL_IOPERM"), refused("open /dev/cpu/0/msr", "ENOENT")),
  },
  {
    id: "K13",
    title: "No registered binary formats",
    why: "A loader of its own for any file is a way to keep code.",
    ...also(without("BINFMT_MISC"), noFilesystem("binfmt_misc")),
  },
  {
    id: "K14",
    title: "No magic SysRq",
    why: "A break on the serial line would reach the kernel.",
    ...also(without("MAGIC_SYSRQ"), refused("open /proc/sysrq-trigger", "ENOENT")),
  },
  {
    id: "K15",
    title: "No terminal injection",
    why: "A process types into another's terminal, or loads a line discipline.",
    ...without("LEGACY_TIOCSTI", "LEGACY_PTYS", "LDISC_AUTOLOAD"),
  },
  {
    id: "K16",
    title: "No display, sound, USB or input device drivers",
    why: "Drivers for what a server has not. The input core stays for the power button alone.",
    source: "badaml",
    ...also(
      without(
        "VT",
        "FB",
        "DRM",
        "USB_SUPPORT",
        "SOUND",
        "SERIO",
        "INPUT_KEYBOARD",
        "INPUT_MOUSE",
        "INPUT_TOUCHSCREEN",
        "INPUT_JOYSTICK",
      ),
      noNode("fb0"),
    ),
  },
  {
    id: "K17",
    title: "No hotplug of devices or memory",
    why: "What the host adds after boot is not looked at, because nothing can be added.",
    source: "zksecurity",
    ...without("HOTPLUG_PCI", "ACPI_HOTPLUG_MEMORY", "MEMORY_HOTPLUG", "PCIEPORTBUS"),
  },
  {
    id: "K18",
    title: "No cryptography sockets",
    why: "User space has its own; AF_ALG exposes every algorithm of the kernel.",
    ...also(
      without(
        "CRYPTO_USER_API",
        "CRYPTO_USER_API_HASH",
        "CRYPTO_USER_API_SKCIPHER",
        "CRYPTO_USER_API_AEAD",
        "CRYPTO_USER_API_RNG",
      ),
      noProtocol("ALG"),
    ),
  },
  {
    id: "K19",
    title: "TCP and UDP only",
    why: "Rare protocols are where remote kernel bugs live.",
    source: "dstack",
    ...also(
      without("INET_ESP", "INET6_ESP", "AF_RXRPC", "TIPC", "IP_SCTP", "IP_DCCP", "MPTCP"),
      noProtocol("SCTP", "MPTCP", "TIPC", "DCCP"),
    ),
  },
  {
    id: "K20",
    title: "No firmware configuration in sysfs",
    why: "fw_cfg is a mailbox of the host's.",
    source: "design",
    ...also(
      without("FW_CFG_SYSFS", "FW_CFG_SYSFS_CMDLINE"),
      refused("open /sys/firmware/qemu_fw_cfg", "ENOENT"),
    ),
  },
  {
    id: "K21",
    title: "No SMBIOS",
    why: "Its strings are the host's, and user space takes them for configuration.",
    source: "badaml",
    ...also(without("DMI", "DMI_SYSFS", "DMIID"), refused("open /sys/class/dmi", "ENOENT")),
  },
  {
    id: "K22",
    title: "No EFI variables",
    why: "The host owns the store behind them.",
    source: "badaml",
    ...also(
      kernel({ EFIVAR_FS: "n", EFI_DISABLE_RUNTIME: "y", EFI_VARS_PSTORE: "n" }),
      noFilesystem("efivarfs"),
    ),
  },
  {
    id: "K23",
    title: "No way to add ACPI byte code",
    why: "Methods run in the kernel with access to all memory.",
    ...without("EFI_CUSTOM_SSDT_OVERLAYS", "ACPI_CONFIGFS", "ACPI_CUSTOM_METHOD", "ACPI_TABLE_UPGRADE"),
  },
  {
    id: "K24",
    title: "Virtio over modern PCI only",
    why: "It is the one transport that was hardened against its device.",
    source: "intel",
    ...without("VIRTIO_MMIO", "VIRTIO_MMIO_CMDLINE_DEVICES", "VIRTIO_PCI_LEGACY"),
  },
  {
    id: "K25",
    title: "No virtio devices but network and disk",
    why: "Each driver trusts its device a little.",
    source: "design",
    ...without(
      "VIRTIO_BALLOON",
      "VIRTIO_MEM",
      "VIRTIO_INPUT",
      "DRM_VIRTIO_GPU",
      "VIRTIO_IOMMU",
      "VIRTIO_PMEM",
      "VIRTIO_CONSOLE",
      "VIRTIO_FS",
      "VIRTIO_RTC",
    ),
  },
  {
    id: "K26",
    title: "No storage buses",
    why: "Drivers of physical buses were written for honest hardware.",
    ...without("ATA", "SCSI", "MMC", "PCMCIA", "PARPORT", "NVME_CORE"),
  },
  {
    id: "K27",
    title: "No file system but the verified one's",
    why: "No parser meets an image that nobody authenticated.",
    source: "badaml",
    services: {
      reason: "their writable layer is an overlay of tmpfs over the verified root",
      kinds: ["static", "live"],
    },
    volumes: {
      reason:
        "btrfs, which sees only what was written under this guest's key, or fails its SHA-256 (V15, V16)",
      kinds: ["static", "live"],
    },
    ...also(
      without(
        "EXT4_FS",
        "XFS_FS",
        "BTRFS_FS",
        "VFAT_FS",
        "ISO9660_FS",
        "SQUASHFS",
        "FUSE_FS",
        "NETWORK_FILESYSTEMS",
        "OVERLAY_FS",
      ),
      noFilesystem(
        "ext4",
        "xfs",
        "btrfs",
        "vfat",
        "iso9660",
        "squashfs",
        "fuse",
        "9p",
        "virtiofs",
        "overlay",
      ),
    ),
  },
  {
    id: "K28",
    title: "No second command line",
    why: "Neither an initrd nor the build adds to what was measured.",
    source: "design",
    ...without("BOOT_CONFIG", "CMDLINE_BOOL", "BLK_DEV_INITRD"),
  },
  {
    id: "K29",
    title: "No live patches, no core dumps",
    why: "Code does not change at run time; memory is written nowhere.",
    ...without("MODULE_FORCE_LOAD", "LIVEPATCH", "COREDUMP"),
  },
  {
    id: "K30",
    title: "No swap",
    why: "Memory on the host's disk could be read or rolled back.",
    source: "intel",
    ...also(without("SWAP"), refused("open /proc/swaps", "ENOENT")),
  },
  {
    id: "K31",
    title: "No other hypervisor's interfaces",
    why: "Hypercalls and shared pages of platforms that this is not.",
    source: "badaml",
    ...without("HYPERV", "XEN", "VMWARE_VMCI", "VMWARE_BALLOON", "ACRN_GUEST", "JAILHOUSE_GUEST"),
  },
  {
    id: "K32",
    title: "No vsock",
    why: "A socket to the host that no firewall sees; quotes go through the TDX driver instead.",
    source: "design",
    ...also(without("VSOCKETS", "VIRTIO_VSOCKETS"), noNode("vsock")),
  },
  {
    id: "K33",
    title: "No user namespaces",
    why: "They give unprivileged code the kernel's privileged interfaces.",
    services: {
      reason:
        "each has one, made by PID 1 alone: kernel.unprivileged_userns_clone and user.max_user_namespaces are 0 (decision 0014)",
      kinds: ["static", "live"],
    },
    volumes: { reason: kernelOfServices, kinds: ["static", "live"] },
    ...also(without("USER_NS"), ...sysctls({ "user.max_user_namespaces": "0" })),
  },
  {
    id: "K34",
    title: "No virtio administration of legacy devices",
    why: "Code for migrating old devices. The symbol cannot be switched off without a patch.",
    severity: "recommended",
    source: "intel",
    ...without("VIRTIO_PCI_ADMIN_LEGACY"),
  },
  {
    id: "K35",
    title: "The in-tree TDX driver, and no other, offers registers and quotes",
    why: "Since 6.16 the kernel itself extends RTMRs; code of our own in ring 0 would be a worse answer.",
    decision: "D3",
    source: "linux",
    development: {
      reason: "the emulation driver offers the same interfaces where there is no TDX (decision D3)",
      kinds: ["static", "live"],
    },
    ...kernel({ INTEL_TDX_GUEST: "y", TDX_GUEST_DRIVER: "y", CAISSON_TDX_EMULATION: "n" }),
  },
  {
    id: "K36",
    title: "Quotes through configfs, registers through sysfs",
    why: "The two stable interfaces; the same code runs on every platform that has them.",
    decision: "D3",
    source: "linux",
    ...also(
      kernel({ TSM_REPORTS: "y", TSM_MEASUREMENTS: "y", CONFIGFS_FS: "y" }),
      live(
        "configfs is mounted",
        ({ mounts }) => (mounts.some(({ type }) => type === "configfs") ? undefined : "it is not"),
        (copy) => {
          copy.mounts = copy.mounts.filter(({ type }) => type !== "configfs");
        },
      ),
    ),
  },
  {
    id: "K37",
    title: "No TPM driver",
    why: "In a TD a TPM is the host's; its generator and its registers prove nothing.",
    decision: "D3",
    source: "design",
    development: {
      reason: "the emulation replays the measured boot from an emulated TPM (decision D3)",
      kinds: ["static", "live"],
    },
    ...also(without("TCG_TPM"), noNode("tpm0")),
  },
  {
    id: "K38",
    title: "No profiling and no symbol table",
    why: "Addresses and timings of the kernel help an attacker only.",
    ...without("PROFILING", "KALLSYMS", "KCMP"),
  },
  {
    id: "K39",
    title: "No netlink diagnostics, no packet sockets",
    why: "Neither listing other sockets nor raw frames is an application's business.",
    ...also(without("INET_DIAG", "PACKET", "ETHTOOL_NETLINK"), noProtocol("PACKET")),
  },
  {
    id: "K40",
    title: "No partition tables",
    why: "A disk is used whole, by its verified content.",
    source: "design",
    ...without("MSDOS_PARTITION", "EFI_PARTITION", "KARMA_PARTITION"),
  },
  {
    id: "K41",
    title: "The kernel can show its configuration",
    why: "The running kernel is compared with the audited one, symbol by symbol.",
    decision: "remote",
    severity: "recommended",
    source: "design",
    ...kernel({ IKCONFIG: "y", IKCONFIG_PROC: "y" }),
    live: [
      live(
        "/proc/config.gz is readable",
        ({ kernelConfig }) => (kernelConfig === null ? "it is not" : undefined),
        (copy) => {
          copy.kernelConfig = null;
        },
      ),
    ],
  },
]);
