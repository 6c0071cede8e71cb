// SPDX-License-Identifier: Apache-2.0
/**
 * The system calls that an application may make: an allow-list, almost everything else fails with ENOSYS, so that programs
 * that probe for newer calls fall back instead of dying. Left out on purpose: everything that mounts, traces, loads
 * code or programs into the kernel, makes namespaces, changes the clock, touches keys of the kernel or opens other
 * processes' memory; io_uring and userfaultfd, which exploits favour.
 */
const allowed = {
  files: `access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
    fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr
    fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat
    mkdir mkdirat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs statx
    symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes vmsplice
    write writev`,
  memory: `brk madvise membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock
    munlockall munmap pkey_alloc pkey_free pkey_mprotect`,
  processes: `arch_prctl capget capset clone clone3 execve execveat exit exit_group fork get_robust_list getegid geteuid
    getgid getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid
    getuid kill pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield set_robust_list set_tid_address
    setfsgid setfsuid setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid
    setuid sysinfo tgkill times tkill uname vfork wait4 waitid getcpu`,
  signals: `alarm pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4`,
  time: `clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create
    timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime`,
  waiting: `epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex futex_requeue
    futex_wait futex_waitv futex_wake poll ppoll pselect6 select`,
  sockets: `accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg
    sendmsg sendto setsockopt shutdown socketpair`,
  ipc: `mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd pipe pipe2
    semctl semget semop semtimedop shmat shmctl shmdt shmget`,
  other: "getrandom ioctl landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
};

const ENOSYS = 38;
/** include/uapi/linux/sched.h: every CLONE_NEW* flag. */
const cloneNew = 0x7e020000;
/** include/linux/socket.h: the address families that an application may use. */
const families = { unix: 1, inet: 2, inet6: 10 };
/** Netlink, but of protocol 0 alone (route): programs list their interfaces by it. */
const netlink = { family: 16, route: 0 };
/** Every other family is one that the kernel could lack: libraries expect that, and not ENOSYS. */
const EAFNOSUPPORT = 97;
/** include/uapi/linux/stat.h: the kind in a mode, and the kinds that are not devices. */
const kindMask = 0o170000;
const kinds = { untold: 0, fifo: 0o010000, regular: 0o100000, socket: 0o140000 };

/** Up to AF_MAX; what is above is not a family to any library. */
const otherFamilies = Array.from({ length: 48 }, (_, family) => family).filter(
  (family) => family !== netlink.family && !Object.values(families).includes(family),
);

/** What a program that only serves and connects has no use for: files, other users and processes, listening, IPC. */
const beyondServing = new Set(
  `bind socketpair chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown link linkat
  symlink symlinkat mkdir mkdirat rmdir rename renameat renameat2 unlink unlinkat mknod mknodat truncate ftruncate
  fallocate creat utime utimensat utimes futimesat setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
  inotify_init inotify_init1 inotify_add_watch inotify_rm_watch setuid setgid setreuid setregid setresuid setresgid
  setgroups setfsuid setfsgid setpgid setsid capset fork vfork execveat memfd_create shmat shmctl shmdt shmget semctl
  semget semop semtimedop msgctl msgget msgrcv msgsnd mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend
  mq_unlink sync syncfs sync_file_range swapon rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal
  landlock_add_rule landlock_create_ruleset landlock_restrict_self chdir umask splice tee vmsplice sendfile
  copy_file_range openat2 kill tkill seccomp flock setpriority sched_setaffinity sched_setattr sched_setparam
  sched_setscheduler`.split(/\s+/),
);

/** include/uapi/linux/sched.h: a thread of the caller's own, which sees what the caller sees. */
const cloneThread = 0x10000;
/** include/uapi/asm-generic/fcntl.h: access mode, O_CREAT, O_TRUNC, and O_TMPFILE without its O_DIRECTORY. */
const changingOpen = 0o3 | 0o100 | 0o1000 | 0o20000000;
/** include/uapi/asm-generic/ioctls.h: FIONBIO, FIOCLEX, FIONCLEX, FIONREAD, TCGETS; and TCGETS2, whether it is a terminal. */
const servingIoctls = [0x5421, 0x5451, 0x5450, 0x541b, 0x5401, 0x802c542a];

const names = Object.values(allowed).flatMap((group) => group.split(/\s+/));

interface Rule {
  names: readonly string[];
  action: string;
  errnoRet?: number;
  args?: readonly { index: number; value: number; valueTwo?: number; op: string }[];
}

/** The `linux.seccomp` section of an OCI runtime configuration (runtime-spec, config-linux.md). */
export interface SeccompProfile {
  defaultAction: string;
  defaultErrnoRet: number;
  architectures: readonly string[];
  syscalls: readonly Rule[];
}

/** Some bits of a number. */
interface Bits {
  mask: number;
  value: number;
}

/** include/uapi/linux/fs.h and btrfs.h: what turns off a file's checksums, and all calls of btrfs's own. */
const refusedIoctls: readonly Bits[] = [
  { mask: 0xffff_ffff, value: 0x4008_6602 },
  { mask: 0xff00, value: 0x9400 },
];
const EPERM = 1;

/**
 * Every number of 32 bits that is none of `refused`, as a list of bits that are known: seccomp can compare under a mask,
 * but only for equality.
 */
export function otherNumbers(refused: readonly Bits[], known: Bits = { mask: 0, value: 0 }): Bits[] {
  const possible = refused.filter(({ mask, value }) => ((value ^ known.value) & mask & known.mask) === 0);
  if (possible.length === 0) return [known];
  const open = possible.map(({ mask }) => (mask & ~known.mask) >>> 0).sort((x, y) => x - y);
  if (open[0] === 0) return [];
  const bit = 2 ** (31 - Math.clz32(open[0]!));
  return [0, bit].flatMap((value) =>
    otherNumbers(refused, { mask: (known.mask | bit) >>> 0, value: (known.value | value) >>> 0 }),
  );
}

/** An ioctl whose number has these bits; the kernel looks at no others than the low 32. */
const ioctl = ({ mask, value }: Bits) => ({
  names: ["ioctl"],
  args: [{ index: 1, value: mask, valueTwo: value, op: "SCMP_CMP_MASKED_EQ" }],
});

const rulesWithout = ({ syscalls }: SeccompProfile, name: string): Rule[] =>
  syscalls.map((rule) => ({ ...rule, names: rule.names.filter((other) => other !== name) }));

/** `profile` for images with persistent volumes: no file loses its checksums, and nobody talks to btrfs but PID 1. */
export function keepChecksums(profile: SeccompProfile): SeccompProfile {
  // Whose calls are listed by number already has none of these.
  if (!profile.syscalls.some(({ names, args }) => names.includes("ioctl") && args === undefined))
    return profile;
  const allowed = otherNumbers(refusedIoctls).map((bits) => ({ ...ioctl(bits), action: "SCMP_ACT_ALLOW" }));
  const refused = refusedIoctls.map((bits) => ({
    ...ioctl(bits),
    action: "SCMP_ACT_ERRNO",
    errnoRet: EPERM,
  }));
  return { ...profile, syscalls: [...rulesWithout(profile, "ioctl"), ...allowed, ...refused] };
}

/**
 * `profile` for a service that has CAP_SYS_CHROOT, as sshd and other servers need it that keep what reads from strangers in an
 * empty root. Its own root was entered by pivot_root(2), so chroot leads nowhere else.
 */
export const withChroot = (profile: SeccompProfile): SeccompProfile => ({
  ...profile,
  syscalls: [...rulesWithout(profile, "chroot"), { names: ["chroot"], action: "SCMP_ACT_ALLOW" }],
});

/** Calls that every kernel has, and refuses to whoever may not: so that a program says that, and not that it is missing. */
const privileged: readonly string[] =
  "chroot mount pivot_root setdomainname sethostname setns umount2 unshare".split(" ");

/** For every service. */
export const seccompProfile: SeccompProfile = {
  defaultAction: "SCMP_ACT_ERRNO",
  defaultErrnoRet: ENOSYS,
  architectures: ["SCMP_ARCH_X86_64"],
  syscalls: [
    { names: names.filter((name) => name !== "clone" && name !== "clone3"), action: "SCMP_ACT_ALLOW" },
    { names: privileged, action: "SCMP_ACT_ERRNO", errnoRet: EPERM },
    // Threads and processes, but no new namespaces. clone3 hides its flags from seccomp: ENOSYS makes libc use clone.
    {
      names: ["clone"],
      action: "SCMP_ACT_ALLOW",
      args: [{ index: 0, value: cloneNew, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }],
    },
    ...Object.values(families).map((value) => ({
      names: ["socket"],
      action: "SCMP_ACT_ALLOW",
      args: [{ index: 0, value, op: "SCMP_CMP_EQ" }],
    })),
    {
      names: ["socket"],
      action: "SCMP_ACT_ALLOW",
      args: [
        { index: 0, value: netlink.family, op: "SCMP_CMP_EQ" },
        { index: 2, value: netlink.route, op: "SCMP_CMP_EQ" },
      ],
    },
    ...[
      ...otherFamilies.map((value) => [{ index: 0, value, op: "SCMP_CMP_EQ" }]),
      [
        { index: 0, value: netlink.family, op: "SCMP_CMP_EQ" },
        { index: 2, value: netlink.route, op: "SCMP_CMP_NE" },
      ],
    ].map((args) => ({ names: ["socket"], action: "SCMP_ACT_ERRNO", errnoRet: EAFNOSUPPORT, args })),
    ...Object.values(kinds).flatMap((value) =>
      [
        { name: "mknod", index: 1 },
        { name: "mknodat", index: 2 },
      ].map(({ name, index }) => ({
        names: [name],
        action: "SCMP_ACT_ALLOW",
        args: [{ index, value: kindMask, valueTwo: value, op: "SCMP_CMP_MASKED_EQ" }],
      })),
    ),
  ],
};

/** What a program that only serves may do of what `beyondServing` cannot leave out whole: by flags and numbers. */
const serving: readonly Rule[] = [
  // Threads, and no other process: clone3 is not there, fork and vfork neither.
  {
    names: ["clone"],
    action: "SCMP_ACT_ALLOW",
    args: [{ index: 0, value: cloneNew | cloneThread, valueTwo: cloneThread, op: "SCMP_CMP_MASKED_EQ" }],
  },
  // Files to read. openat2 hides its flags from seccomp, and creat needs none: neither is there.
  ...[
    { name: "open", index: 1 },
    { name: "openat", index: 2 },
  ].map(({ name, index }) => ({
    names: [name],
    action: "SCMP_ACT_ALLOW",
    args: [{ index, value: changingOpen, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }],
  })),
  ...servingIoctls.map((value) => ({ ...ioctl({ mask: 0xffff_ffff, value }), action: "SCMP_ACT_ALLOW" })),
];

const byNumber = ["clone", "open", "openat", "ioctl"];

/** The same without what a program that only serves and connects has no use for. */
export const servingProfile: SeccompProfile = {
  ...seccompProfile,
  syscalls: [
    ...seccompProfile.syscalls.flatMap((entry): Rule[] => {
      const left = entry.names.filter((name) => !beyondServing.has(name) && !byNumber.includes(name));
      return left.length === 0 ? [] : [{ ...entry, names: left }];
    }),
    ...serving,
  ],
};
