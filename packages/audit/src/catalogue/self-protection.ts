// SPDX-License-Identifier: Apache-2.0
/** What the kernel is built with against its own bugs. */
import { covered, image, kernel, live, sysctls, writable } from "../expect.ts";
import { group } from "./group.ts";

export const selfProtection = group("kernel self-protection", { decision: "depth", source: "kspp" }, [
  {
    id: "P01",
    title: "Memory is writable or executable",
    why: "Never both; the kernel checks itself at boot.",
    ...kernel({ STRICT_KERNEL_RWX: "y", DEBUG_WX: "y" }),
  },
  {
    id: "P02",
    title: "Address space randomisation",
    why: "Kernel image and memory regions move with every boot.",
    ...kernel({ RANDOMIZE_BASE: "y", RANDOMIZE_MEMORY: "y", RELOCATABLE: "y" }),
  },
  {
    id: "P03",
    title: "Stacks are guarded",
    why: "Overflows meet a canary or an unmapped page.",
    ...kernel({ STACKPROTECTOR_STRONG: "y", VMAP_STACK: "y", SCHED_STACK_END_CHECK: "y" }),
  },
  {
    id: "P04",
    title: "No stale values",
    why: "Stack variables start at zero; registers are cleared on return.",
    ...kernel({ INIT_STACK_ALL_ZERO: "y", ZERO_CALL_USED_REGS: "y", INIT_ON_ALLOC_DEFAULT_ON: "y" }),
  },
  {
    id: "P05",
    title: "Copies are bounds-checked",
    why: "At compile time where sizes are known, at run time where not.",
    ...kernel({ FORTIFY_SOURCE: "y", HARDENED_USERCOPY: "y" }),
  },
  {
    id: "P06",
    title: "Array bounds trap",
    why: "A violation stops; a message would go on. The noisy sanitizers stay off.",
    ...kernel({ UBSAN_BOUNDS: "y", UBSAN_TRAP: "y", UBSAN_SHIFT: "n", UBSAN_BOOL: "n", UBSAN_ENUM: "n" }),
  },
  {
    id: "P07",
    title: "A hardened heap",
    why: "Free lists are encoded and shuffled; caches are split by call site and by use. (KMALLOC_PARTITION_RANDOM was RANDOM_KMALLOC_CACHES before.)",
    static: [
      ...kernel({ SLAB_FREELIST_HARDENED: "y", SLAB_FREELIST_RANDOM: "y", SLAB_BUCKETS: "y" }).static,
      image(
        "CONFIG_KMALLOC_PARTITION_RANDOM=y or CONFIG_RANDOM_KMALLOC_CACHES=y",
        ({ kernel: { config } }) =>
          config.has("KMALLOC_PARTITION_RANDOM") || config.has("RANDOM_KMALLOC_CACHES")
            ? undefined
            : "neither",
        (copy) => {
          writable(copy.kernel.config).delete("KMALLOC_PARTITION_RANDOM");
          writable(copy.kernel.config).delete("RANDOM_KMALLOC_CACHES");
        },
      ),
    ],
    live: kernel({ SLAB_FREELIST_HARDENED: "y", SLAB_FREELIST_RANDOM: "y", SLAB_BUCKETS: "y" }).live,
    remote: [covered("rtmr1", "the kernel's EFI_BOOT_SERVICES_APPLICATION event")],
  },
  {
    id: "P08",
    title: "Objects of one kind stay apart, pages come shuffled",
    why: "A freed object is not reused as another kind.",
    ...kernel({ SLAB_MERGE_DEFAULT: "n", SHUFFLE_PAGE_ALLOCATOR: "y", SLUB_TINY: "n" }),
  },
  {
    id: "P09",
    title: "Corrupted lists end the machine",
    why: "A found corruption is not survived.",
    ...kernel({ LIST_HARDENED: "y", BUG_ON_DATA_CORRUPTION: "y", BUG: "y" }),
  },
  {
    id: "P10",
    title: "Page tables are checked",
    why: "One page is not anonymous and file-backed, or twice writable.",
    ...kernel({ PAGE_TABLE_CHECK: "y", PAGE_TABLE_CHECK_ENFORCED: "y" }),
  },
  {
    id: "P11",
    title: "Lockdown, forced",
    why: "It holds from the first instruction and even if the command line lost the word.",
    ...kernel({
      SECURITY_LOCKDOWN_LSM: "y",
      SECURITY_LOCKDOWN_LSM_EARLY: "y",
      LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY: "y",
    }),
    live: [
      live(
        "lockdown is at confidentiality",
        ({ lockdown }) => (lockdown.includes("[confidentiality]") ? undefined : lockdown),
        (copy) => {
          copy.lockdown = "[none] integrity confidentiality";
        },
      ),
    ],
  },
  {
    id: "P12",
    title: "Security modules in a fixed order",
    why: "Lockdown, Yama and Landlock are there, and nothing that nobody configured.",
    ...kernel({ LSM: '"lockdown,yama,landlock"', SECURITY_YAMA: "y", SECURITY_LANDLOCK: "y" }),
  },
  {
    id: "P13",
    title: "System call filters",
    why: "The application's filter needs them.",
    decision: "least",
    ...kernel({ SECCOMP: "y", SECCOMP_FILTER: "y" }),
  },
  {
    id: "P14",
    title: "The kernel starts no helpers",
    why: "No path in a writable file becomes a root process.",
    ...kernel({ STATIC_USERMODEHELPER: "y", STATIC_USERMODEHELPER_PATH: '""' }),
  },
  {
    id: "P15",
    title: "/proc/PID/mem respects protection",
    why: "No debugger's door through read-only pages.",
    ...kernel({ PROC_MEM_NO_FORCE: "y" }),
  },
  {
    id: "P16",
    title: "Indirect branches land on marked targets",
    why: "Half of control-flow integrity, by hardware (Intel IBT).",
    ...kernel({ X86_KERNEL_IBT: "y" }),
  },
  {
    id: "P17",
    title: "No secret layout randomisation",
    why: "A random structure layout would need a published seed to be reproducible, and then it hides nothing.",
    decision: "remote",
    source: "design",
    ...kernel({ RANDSTRUCT_NONE: "y" }),
  },
  {
    id: "P18",
    title: "Every mitigation of processor flaws",
    why: "The host runs on the same cores.",
    source: "intel",
    ...kernel({
      CPU_MITIGATIONS: "y",
      MITIGATION_PAGE_TABLE_ISOLATION: "y",
      MITIGATION_RETPOLINE: "y",
      MITIGATION_RETHUNK: "y",
      MITIGATION_SLS: "y",
      MITIGATION_SPECTRE_V1: "y",
      MITIGATION_SPECTRE_V2: "y",
      MITIGATION_SPECTRE_BHI: "y",
      MITIGATION_MDS: "y",
      MITIGATION_TAA: "y",
      MITIGATION_MMIO_STALE_DATA: "y",
      MITIGATION_L1TF: "y",
      MITIGATION_RETBLEED: "y",
      MITIGATION_SSB: "y",
      MITIGATION_GDS: "y",
      MITIGATION_RFDS: "y",
      MITIGATION_ITS: "y",
      MITIGATION_SRSO: "y",
      MITIGATION_TSA: "y",
    }),
  },
  {
    id: "P19",
    title: "A panic ends the machine",
    why: "Built in, should the command line lose the words.",
    ...kernel({ PANIC_ON_OOPS: "y", PANIC_TIMEOUT: "-1" }),
  },
  {
    id: "P20",
    title: "The kernel log and page zero are closed",
    why: "No addresses for others, no mapping at NULL.",
    ...kernel({ SECURITY_DMESG_RESTRICT: "y", DEFAULT_MMAP_MIN_ADDR: "65536" }),
  },
  {
    id: "P21",
    title: "Kernel control-flow integrity by type",
    why: "The other half of P16. It needs clang, and this kernel is built by gcc.",
    severity: "recommended",
    ...kernel({ CFI: "y" }),
  },
  {
    id: "P22",
    title: "No fixed entry points",
    why: "No vsyscall page and user-mode instruction prevention.",
    ...kernel({ LEGACY_VSYSCALL_NONE: "y", X86_UMIP: "y" }),
  },
  {
    id: "P23",
    title: "System calls start at a random stack offset",
    why: "On by build, not by a word.",
    ...kernel({ RANDOMIZE_KSTACK_OFFSET: "y", RANDOMIZE_KSTACK_OFFSET_DEFAULT: "y" }),
  },
  {
    id: "P24",
    title: "The first oops or warning is the last",
    why: "Exploits that need several attempts get one.",
    static: "a setting that PID 1 makes: packages/guest/src/sysctls.ts, tied to the image by U13",
    live: sysctls({ "kernel.oops_limit": "1", "kernel.warn_limit": "1" }),
    remote: "no register covers a setting; RTMR2 covers the PID 1 that makes it",
  },
  {
    id: "P25",
    title: "Programs may use shadow stacks",
    why: "Return addresses of user space are kept twice, where the processor can.",
    severity: "recommended",
    ...kernel({ X86_USER_SHADOW_STACK: "y" }),
  },
]);
