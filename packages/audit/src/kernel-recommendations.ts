// SPDX-License-Identifier: Apache-2.0
/**
 * What the Kernel Self Protection Project and kernel-hardening-checker recommend for x86-64, as facts: a symbol and the
 * values that satisfy the recommendation. Where Caisson decides otherwise, `deviations` says why; a recommendation
 * that fails without a reason there is a failure.
 */
import { type KernelConfig, valueOf } from "./kernel-config.ts";

/** Symbols that are recommended on. */
const on =
  `ARCH_MMAP_RND_BITS BUG BUG_ON_DATA_CORRUPTION CPU_MITIGATIONS DEBUG_LIST|LIST_HARDENED DEBUG_NOTIFIERS DEBUG_SG
  DEBUG_VIRTUAL DEBUG_WX EFI_DISABLE_PCI_DMA FORTIFY_SOURCE HARDENED_USERCOPY HW_RANDOM_TPM INIT_ON_ALLOC_DEFAULT_ON
  INIT_ON_FREE_DEFAULT_ON INIT_STACK_ALL_ZERO INTEL_IOMMU_DEFAULT_ON IOMMU_DEFAULT_DMA_STRICT IOMMU_SUPPORT
  KSTACK_ERASE|GCC_PLUGIN_STACKLEAK LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY MITIGATION_GDS|CPU_MITIGATIONS
  MITIGATION_PAGE_TABLE_ISOLATION|PAGE_TABLE_ISOLATION MITIGATION_RETPOLINE|RETPOLINE MITIGATION_RFDS|CPU_MITIGATIONS
  MITIGATION_SLS|SLS MITIGATION_SPECTRE_BHI|CPU_MITIGATIONS PAGE_TABLE_CHECK PAGE_TABLE_CHECK_ENFORCED
  PANIC_ON_OOPS PROC_MEM_NO_FORCE RANDOMIZE_BASE RANDOMIZE_KSTACK_OFFSET_DEFAULT RANDOMIZE_MEMORY
  RANDOM_KMALLOC_CACHES|KMALLOC_PARTITION_CACHES RANDSTRUCT_FULL|RANDSTRUCT_PERFORMANCE RESET_ATTACK_MITIGATION
  SCHED_CORE SCHED_STACK_END_CHECK SECCOMP SECCOMP_FILTER SECURITY SECURITY_DMESG_RESTRICT SECURITY_LANDLOCK
  SECURITY_LOCKDOWN_LSM SECURITY_LOCKDOWN_LSM_EARLY SECURITY_YAMA SHUFFLE_PAGE_ALLOCATOR SLAB_BUCKETS
  SLAB_FREELIST_HARDENED SLAB_FREELIST_RANDOM STACKPROTECTOR STACKPROTECTOR_STRONG STATIC_USERMODEHELPER
  STRICT_KERNEL_RWX SYN_COOKIES UBSAN_BOUNDS UBSAN_TRAP VMAP_STACK X86_64 X86_KERNEL_IBT X86_UMIP X86_USER_SHADOW_STACK
  ZERO_CALL_USED_REGS CFI|CFI_CLANG LEGACY_VSYSCALL_NONE AMD_IOMMU GCC_PLUGIN_LATENT_ENTROPY INTEL_IOMMU INTEL_IOMMU_SVM
  KFENCE SECURITY_SELINUX|SECURITY_APPARMOR|SECURITY_SMACK|SECURITY_TOMOYO SLUB_DEBUG WERROR X86_MCE_AMD X86_MCE_INTEL`.split(
    /\s+/,
  );

/** Symbols that are recommended off. */
const off =
  `ACPI_APEI_EINJ ACPI_CONFIGFS ACPI_CUSTOM_METHOD ACPI_TABLE_UPGRADE AIO AMD_IOMMU_V2 BINFMT_AOUT BINFMT_MISC
  BLK_DEV_FD BLK_DEV_WRITE_MOUNTED BPF_SYSCALL CHECKPOINT_RESTORE COMPAT COMPAT_BRK COMPAT_VDSO COREDUMP CRASH_DUMP
  CUSE DEBUG_FS DEBUG_KMEMLEAK DEVKMEM DEVMEM DEVPORT DRM_LEGACY DRM_I915_DEBUG EFI_CUSTOM_SSDT_OVERLAYS EFI_TEST
  EXT4_DEBUG FAIL_FUTEX FB FTRACE FUNCTION_TRACER GCOV_KERNEL GENERIC_TRACER HIBERNATION HWPOISON_INJECT IA32_EMULATION
  INET_DIAG INPUT_EVBUG IO_URING IP_DCCP IP_SCTP KALLSYMS KCMP KCOV KCSAN KEXEC KEXEC_FILE KGDB KPROBES KPROBE_EVENTS
  KSM LDISC_AUTOLOAD LEGACY_PTYS LEGACY_TIOCSTI LIVEPATCH LKDTM MAGIC_SYSRQ MAXSMP MEM_SOFT_DIRTY MMIOTRACE MODIFY_LDT_SYSCALL
  MODULES MODULE_FORCE_LOAD MSDOS_FS N_GSM NOTIFIER_ERROR_INJECTION OABI_COMPAT PAGE_OWNER PROC_KCORE PROC_PAGE_MONITOR
  PROC_VMCORE PROFILING PTDUMP_DEBUGFS PUNIT_ATOM_DEBUG RAPIDIO RSEQ SECURITY_SELINUX_DEVELOP SECURITY_WRITABLE_HOOKS
  SLAB_MERGE_DEFAULT SND_SEQUENCER STAGING STM SUNRPC_DEBUG SUSPEND TLS TRIM_UNUSED_KSYMS UBSAN_BOOL UBSAN_ENUM UBSAN_SHIFT
  UPROBES USER_NS USERFAULTFD USELIB VHOST VIDEO_VIVID VIRTIO_MMIO_CMDLINE_DEVICES VT X86_16BIT X86_CPA_STATISTICS X86_CPUID
  X86_INTEL_TSX_MODE_ON X86_IOPL_IOPERM X86_MCE_INJECT X86_MSR X86_PTDUMP X86_VSYSCALL_EMULATION X86_X32 X86_X32_ABI
  XFS_ONLINE_SCRUB XFS_SUPPORT_V4 ZSMALLOC_STAT`.split(/\s+/);

/** Symbols with a value. */
const values: Record<string, string> = {
  DEFAULT_MMAP_MIN_ADDR: "65536",
  PANIC_TIMEOUT: "-1",
  STATIC_USERMODEHELPER_PATH: '""',
  ARCH_MMAP_RND_BITS: "32",
};

export interface Recommendation {
  /** Alternatives: names that the symbol had, or others that serve as well. */
  symbols: readonly string[];
  /** `set`: any value but n. */
  want: string;
}

export const recommendations: readonly Recommendation[] = [
  ...on
    .filter((name) => !Object.hasOwn(values, name))
    .map((names) => ({ symbols: names.split("|"), want: "set" })),
  ...off.map((name) => ({ symbols: [name], want: "n" })),
  ...Object.entries(values).map(([name, want]) => ({ symbols: [name], want })),
];

/** Recommendations that Caisson's kernels do not follow, and why. */
export const deviations: Readonly<Record<string, string>> = {
  INIT_ON_FREE_DEFAULT_ON:
    "zeroing on free as well resets some TDX hosts during the conversion of shared memory (C11)",
  HW_RANDOM_TPM: "a guest's TPM is the host's, and so is its generator (R03)",
  IOMMU_SUPPORT: "a guest has no IOMMU to defend itself with; in a TD devices reach shared memory only (D05)",
  IOMMU_DEFAULT_DMA_STRICT: "no IOMMU in a guest",
  INTEL_IOMMU_DEFAULT_ON: "no IOMMU in a guest",
  INTEL_IOMMU: "no IOMMU in a guest",
  INTEL_IOMMU_SVM: "no IOMMU in a guest",
  AMD_IOMMU: "no IOMMU in a guest",
  GCC_PLUGIN_LATENT_ENTROPY:
    "gcc plugins are code of the build that nobody pins; RDRAND seeds the kernel (R01)",
  KFENCE: "a sampling detector for developers; the checks that stop a machine are on (P05 to P10)",
  SECURITY_SELINUX:
    "one application under seccomp, namespaces and Landlock: a policy language would be its largest part",
  SLUB_DEBUG: "debugging of the allocator and its files in sysfs; free lists are hardened (P07)",
  WERROR: "decides whether a warning stops the build, nothing about the kernel",
  X86_MCE_AMD: "machine checks belong to the host (C06)",
  X86_MCE_INTEL: "machine checks belong to the host (C06)",
  EFI_DISABLE_PCI_DMA: "no device of a TD has access to private memory before the kernel starts",
  RESET_ATTACK_MITIGATION:
    "it asks firmware to clear memory after a reset; a TD's memory is gone with its keys",
  RANDSTRUCT_FULL:
    "a random layout with a published seed hides nothing, one without is not reproducible (P17)",
  CFI: "needs clang, and the pinned toolchain is gcc; X86_KERNEL_IBT covers indirect branches (P21)",
  KSTACK_ERASE:
    "gcc plugins are code of the build that nobody pins; stacks are initialised (P04) and move (P23)",
  SCHED_CORE: "hyperthreads belong to the host's scheduler, not to the guest's",
  DEBUG_VIRTUAL: "a check for developers, costly on every address conversion",
  RSEQ: "glibc uses it in every program; it reaches nothing that futex does not",
};

export interface Finding {
  symbol: string;
  want: string;
  found: string;
  outcome: "ok" | "fail" | "deviation";
  reason?: string;
}

/** Judges a configuration by every recommendation. Pure. */
export function checkRecommendations(config: KernelConfig): Finding[] {
  return recommendations.map(({ symbols, want }) => {
    const satisfied = symbols.find((name) =>
      want === "set" ? valueOf(config, name) !== "n" : valueOf(config, name) === want,
    );
    const symbol = satisfied ?? symbols[0]!;
    const found = valueOf(config, symbol);
    if (satisfied !== undefined) return { symbol, want, found, outcome: "ok" };
    const reason = deviations[symbol];
    return reason === undefined
      ? { symbol, want, found, outcome: "fail" }
      : { symbol, want, found, outcome: "deviation", reason };
  });
}
