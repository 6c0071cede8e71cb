// SPDX-License-Identifier: Apache-2.0
/** Kernel settings that PID 1 sets and then checks; a second layer under what the kernel was built without. */
const sysctls: readonly { key: string; value: string; why: string }[] = [
  { key: "kernel.kptr_restrict", value: "2", why: "no kernel addresses, not even for root" },
  { key: "kernel.dmesg_restrict", value: "1", why: "the kernel log is for PID 1" },
  {
    key: "kernel.printk",
    value: "4\t4\t1\t7",
    why: "the kernel's news does not cut what PID 1 says; its errors and its panic are heard",
  },
  { key: "kernel.perf_event_paranoid", value: "3", why: "no performance counters" },
  { key: "kernel.yama.ptrace_scope", value: "3", why: "no process reads another's keys" },
  { key: "kernel.kexec_load_disabled", value: "1", why: "no unmeasured kernel" },
  { key: "kernel.modules_disabled", value: "1", why: "no unmeasured code" },
  { key: "kernel.sysrq", value: "0", why: "a serial break reaches nothing" },
  { key: "kernel.unprivileged_bpf_disabled", value: "1", why: "no programs in the kernel" },
  { key: "kernel.oops_limit", value: "1", why: "the first oops is the last" },
  { key: "kernel.warn_limit", value: "1", why: "a kernel that warns is not trusted further" },
  { key: "kernel.core_pattern", value: "|/bin/false", why: "no memory image anywhere" },
  { key: "fs.suid_dumpable", value: "0", why: "no memory image anywhere" },
  { key: "fs.protected_symlinks", value: "1", why: "no link races" },
  { key: "fs.protected_hardlinks", value: "1", why: "no link races" },
  { key: "fs.protected_fifos", value: "2", why: "no link races" },
  { key: "fs.protected_regular", value: "2", why: "no link races" },
  { key: "vm.unprivileged_userfaultfd", value: "0", why: "no race aid" },
  { key: "vm.mmap_min_addr", value: "65536", why: "no mapping at NULL" },
  { key: "user.max_user_namespaces", value: "0", why: "no unprivileged namespaces" },
  { key: "kernel.unprivileged_userns_clone", value: "0", why: "PID 1 alone makes user namespaces" },
  {
    key: "fs.file-max",
    value: "9223372036854775807",
    why: "open files count against each service's own memory",
  },
  { key: "fs.inotify.max_user_instances", value: "1048576", why: "as above, of all services together" },
  { key: "kernel.pid_max", value: "4194304", why: "processes count against each service's own limit" },
  { key: "kernel.threads-max", value: "4194304", why: "as above, of all services together" },
  { key: "net.ipv4.conf.all.accept_redirects", value: "0", why: "the host is the router" },
  { key: "net.ipv4.conf.default.accept_redirects", value: "0", why: "the host is the router" },
  { key: "net.ipv4.conf.all.send_redirects", value: "0", why: "a guest is not a router" },
  { key: "net.ipv4.conf.all.accept_source_route", value: "0", why: "the host is the router" },
  { key: "net.ipv4.conf.all.rp_filter", value: "1", why: "no spoofed sources" },
  { key: "net.ipv4.icmp_echo_ignore_broadcasts", value: "1", why: "baseline" },
  { key: "net.ipv4.tcp_syncookies", value: "1", why: "baseline" },
  { key: "net.ipv4.ip_forward", value: "0", why: "a guest is not a router" },
];

/**
 * What is to be set on a machine with these directories of net/ipv4/conf. An interface keeps the value that it had when
 * the kernel configured it, and for redirects its own counts as much as `all` (IN_DEV_ORCONF in
 * include/linux/inetdevice.h), so what holds for all is set for each.
 */
export function sysctlsFor(interfaces: readonly string[]): { key: string; value: string }[] {
  const all = "net.ipv4.conf.all.";
  return sysctls.flatMap(({ key, value }) =>
    key.startsWith(all)
      ? interfaces.map((name) => ({ key: `net.ipv4.conf.${name}.${key.slice(all.length)}`, value }))
      : [{ key, value }],
  );
}
