// SPDX-License-Identifier: Apache-2.0
/**
 * What a compose file says, checked, before its images are known: the image's own configuration fills in what is
 * undefined here (`build/service.ts`).
 */
import type { Capability, Service } from "@caisson/protocol/guest-config";

/** A file of the project that is put into the image, read-only. */
export interface ComposedFile {
  target: string;
  /** Its bytes, or an absolute path of a file or directory beside the compose file. */
  content: Uint8Array | { path: string };
  mode: number;
  user: number;
  group: number;
}

export interface ComposedHealthcheck {
  /** False: whatever the image has is off. */
  enabled: boolean;
  /** Argument vector; a command for a shell is `/bin/sh -c`. */
  test?: string[];
  intervalMs?: number;
  timeoutMs?: number;
  retries?: number;
  startPeriodMs?: number;
  startIntervalMs?: number;
}

export interface ComposedService {
  name: string;
  /** Line of its name, and of its image. */
  line: number;
  image: string;
  imageLine: number;
  /** Instead of an image: a JavaScript file, of which Caisson makes one (absolute path). */
  node?: string;
  entrypoint?: string[];
  command?: string[];
  environment: Record<string, string>;
  workingDirectory?: string;
  /** As in an image: a name or number, with or without a group. */
  user?: string;
  groupAdd: string[];
  init: boolean;
  readOnly: boolean;
  /** A size of undefined is the service's memory limit. */
  tmpfs: (Omit<Service["tmpfs"][number], "size"> & { size?: number })[];
  mounts: Service["mounts"];
  files: ComposedFile[];
  capabilities: { add: Capability[]; drop: "all" | Capability[] };
  memory?: number;
  pids?: number;
  cpuWeight?: number;
  /** Thousandths of a processor. */
  cpus?: number;
  shmSize?: number;
  nofile?: Service["nofile"];
  layerSize?: number;
  hostname: string;
  networks: Service["networks"];
  extraHosts: Record<string, string>;
  ports: Service["ports"];
  egress: Service["egress"];
  dependsOn: Service["dependsOn"];
  healthcheck?: ComposedHealthcheck;
  restart: Service["restart"];
  stopSignal?: Service["stopSignal"];
  stopGraceMs: number;
  socket: boolean;
  key: boolean;
  secrets: NonNullable<Service["secrets"]>;
  dstack: NonNullable<Service["dstack"]>;
}

/** Something that the file says and that means less here than elsewhere. */
export interface Note {
  line: number;
  where: string;
  text: string;
}

export interface Composition {
  /** Absolute path of the file. */
  path: string;
  /** By name, in the order of the file. */
  services: ReadonlyMap<string, ComposedService>;
  networks: Record<string, { internal: boolean }>;
  volumes: Record<string, { size?: number }>;
  notes: Note[];
}

/** A service of which nothing is said: the specification's defaults; its image is still to be named. */
export function plainService(name: string, line: number): ComposedService {
  return {
    name,
    line,
    image: "",
    imageLine: line,
    environment: {},
    groupAdd: [],
    init: false,
    readOnly: false,
    tmpfs: [],
    mounts: [],
    files: [],
    capabilities: { add: [], drop: [] },
    hostname: name,
    networks: { default: { aliases: [] } },
    extraHosts: {},
    ports: [],
    egress: "all",
    dependsOn: {},
    restart: { policy: "no" },
    stopGraceMs: 10_000,
    socket: false,
    key: false,
    secrets: [],
    dstack: [],
  };
}
