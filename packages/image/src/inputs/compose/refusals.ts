// SPDX-License-Identifier: Apache-2.0
/**
 * Keys of a service that this reader does not take, each with its reason and what to do instead; and those that it
 * takes and that change nothing here. Together with `serviceKeys` of `keys.ts` these are all of the Compose
 * Specification's.
 */

export type RefusedKey = readonly [reason: string, fix?: string];

const hostKernel = "it reaches into the machine that runs the containers, and a guest's services do not";
const remove = "remove it";

/** Refused whatever their value is. */
export const refusedKeys: Readonly<Record<string, RefusedKey>> = {
  blkio_config: ["there are no disks to share", remove],
  cgroup_parent: ["each service has a control group of its own", remove],
  cpu_count: ["a service's part of the processors is a weight", "cpu_shares"],
  cpu_percent: ["a service's part of the processors is a weight", "cpu_shares"],
  cpu_period: ["a quota is said in one way", "cpus: what quota / period is"],
  cpu_quota: ["a quota is said in one way", "cpus: what quota / period is"],
  cpu_rt_period: ["the guest's kernel has no real-time scheduling groups", remove],
  cpu_rt_runtime: ["the guest's kernel has no real-time scheduling groups", remove],
  cpuset: ["processors are not assigned to services", remove],
  credential_spec: ["it is for Windows", remove],
  device_cgroup_rules: [hostKernel, remove],
  devices: ["a guest has no devices to give away", "remove it; files and sockets can be shared in volumes"],
  dns: [
    "names of services are fixed in the image, others are the machine's resolver's",
    "remove it, or extra_hosts",
  ],
  dns_opt: ["names are resolved as the machine's resolver does", remove],
  dns_search: ["names are resolved as the machine's resolver does", remove],
  domainname: ["a host name has no domain here", "hostname, or an alias of a network"],
  extends: ["an image is made of one file", "write the service out, or use a YAML anchor and <<"],
  external_links: ["nothing runs beside the services of this file", "add the other container as a service"],
  gpus: ["a guest has no graphics processors", remove],
  isolation: ["it is for Windows", remove],
  mac_address: ["addresses are the guest's own affair", remove],
  models: ["no model runner is part of an image", "a service that serves the model"],
  oom_kill_disable: ["a service that passes its memory limit ends", "mem_limit"],
  oom_score_adj: ["a service that passes its memory limit ends, and no other", "mem_limit"],
  post_start: ["only a service's own command is run", "put it into the entry point, or a service of its own"],
  pre_stop: ["only a service's own command is run", "handle stop_signal in the service"],
  provider: ["no plug-in runs while an image is built", "write the services out"],
  runtime: ["there is one runtime, and it is measured", remove],
  storage_opt: ["the writable layer has its own limit", "x-caisson: { layer: 256m }"],
  sysctls: [
    "settings of the kernel are the same for every service",
    "remove it; ports below 1024 need no setting",
  ],
  use_api_socket: ["there is no Docker in a guest", remove],
  userns_mode: ["each service has a user namespace of its own", remove],
  volumes_from: ["what services share is named", "a named volume in both services"],
};

/** Taken; what they say is of no consequence in a guest. */
export const inertKeys: Readonly<Record<string, string>> = {
  annotations: "nobody reads it here",
  attach: "it is about a terminal",
  develop: "it is about development",
  label_file: "nobody reads it here",
  labels: "nobody reads it here",
  logging: "lines go to the console of a development image, and nowhere in production",
  mem_reservation: "memory is not reserved",
  mem_swappiness: "there is no swap",
  memswap_limit: "there is no swap",
  pull_policy: "images are pinned in caisson.lock",
  pull_refresh_after: "images are pinned in caisson.lock",
};

/** Why a capability is not given (capabilities(7)); those that are not here are as strong as root of the machine. */
export const capabilityReasons: Readonly<Record<string, string>> = {
  AUDIT_WRITE: "there is no audit in a guest's kernel",
  FSETID: "set-id bits mean nothing in a sandbox without new privileges",
  IPC_LOCK: "memory is never swapped, so it need not be locked",
  MKNOD: "device nodes other than the usual ones do not open",
  NET_ADMIN: "networks are made from the description, before a service starts",
  SETFCAP: "file capabilities mean nothing in a sandbox without new privileges",
  SETPCAP: "a service's capabilities are those of the description",
  SYS_ADMIN: "it is the greater part of root's power",
  SYS_NICE: "use cpu_shares",
  SYS_PTRACE: "processes cannot be traced in a guest",
  SYS_RESOURCE: "limits are those of the description",
  SYS_TIME: "the clock is set by secure time alone",
};
