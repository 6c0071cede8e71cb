// SPDX-License-Identifier: Apache-2.0
/**
 * The measured configuration of a guest: `/etc/caisson/guest.json` in the verity root. The image builder writes it,
 * PID 1 reads it. The root hash on the kernel command line covers it, so RTMR2 does.
 *
 * Bounds are those of the format; what an image may ask for is narrower, and the builder says why.
 */

import { canonicalJson } from "@caisson/vocabulary/canonical-json";
import { type BootEvent, bootSequence } from "@caisson/vocabulary/events";
import { flavours } from "@caisson/vocabulary/flavours";
import * as z from "zod/mini";
import { hex } from "./hex.ts";
import { appId } from "./identity.ts";
import { volumeLimit } from "./volumes.ts";

const count = (least: number, most: number) => z.int().check(z.gte(least), z.lte(most));
const id = count(0, 65_535);
const port = count(1, 65_535);
const bytes = count(4096, 2 ** 40);
const milliseconds = count(0, 2 ** 40);
const absolutePath = z.string().check(z.regex(/^\/[^\0]*$/), z.maxLength(4095));
const mode = count(0, 0o7777);
const list = <T extends z.core.SomeType>(item: T, most: number) => z.array(item).check(z.maxLength(most));
/** Names of services, networks and volumes. */
const named = z.string().check(z.regex(/^[a-z0-9][a-z0-9_.-]{0,62}$/));
const hostName = z.string().check(z.regex(/^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/));

const dnsName = z
  .string()
  .check(
    z.regex(/^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/),
    z.maxLength(253),
  );

/** The most keys that logs are encrypted to. */
export const logKeyLimit = 4;
/** Names of secrets, as files and environments have them. */
const secretName = z.string().check(z.regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/));
const secretLimit = 64;

/** The most services that one image can have. */
export const serviceLimit = 32;
/** Bytes of the PEM of a certificate authority's roots: what a front is told fits into a pipe. */
export const authorityRootsLimit = 32 << 10;

/**
 * What a program that starts as root may do inside its user namespace, and all that any service may have. Entry points
 * of official images need these to prepare their directories and to become another user.
 */
export const rootCapabilities = [
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "SETUID",
  "SETGID",
  "KILL",
  "NET_BIND_SERVICE",
] as const;

/** Those, and what a service may ask for besides. */
export const serviceCapabilities = [...rootCapabilities, "NET_RAW", "SYS_CHROOT"] as const;

/** Where the first process of services with `init` lies in the verity image. */
export const serviceInit = "/app/_init";

/** Signals that can stop a service. */
export const stopSignals = [
  "SIGTERM",
  "SIGINT",
  "SIGQUIT",
  "SIGHUP",
  "SIGUSR1",
  "SIGUSR2",
  "SIGWINCH",
  "SIGKILL",
] as const;

const healthcheck = z.strictObject({
  /** Argument vector. */
  test: list(z.string(), 256).check(z.minLength(1)),
  intervalMs: milliseconds,
  timeoutMs: milliseconds,
  retries: count(1, 1000),
  startPeriodMs: milliseconds,
  startIntervalMs: milliseconds,
});

/** Bytes of the smallest persistent volume. */
export const leastVolume = 256 * 2 ** 20;

/** A volume on a disk of its own instead of in memory (docs/state.md). */
const persistent = z.strictObject({
  /** While its KMS does not answer: it goes on for a bounded time, or writers wait. */
  kmsAway: z.enum(["continue", "freeze"]),
});

const service = z.strictObject({
  /** SHA-256 of the OCI image manifest. */
  image: hex(32),
  /** Where its root lies in the verity image: `/app/rootfs`, or `/app/<service>/rootfs` among several. */
  root: absolutePath,
  /**
   * `plain`: no user namespace, a read-only root, a user that is not root. `contained`: a user namespace of its own,
   * in which it may be root, and a writable layer in memory.
   */
  isolation: z.enum(["plain", "contained"]),
  /** Contained: its ids are `100000 + range * 65536` and up. Each service has another. */
  range: count(0, serviceLimit - 1),
  /** Argument vector; the first is an absolute path inside its root. */
  arguments: list(z.string(), 1024).check(z.minLength(1)),
  /** Whether its first process is one of the platform's, which starts the arguments, hands on signals and reaps. */
  init: z.optional(z.literal(true)),
  environment: z.record(z.string(), z.string()),
  workingDirectory: absolutePath,
  user: id,
  group: id,
  additionalGroups: list(id, 64),
  readOnly: z.boolean(),
  /** Contained: what its root's writable layer may hold. */
  layerSize: bytes,
  tmpfs: list(
    z.strictObject({
      target: absolutePath,
      size: bytes,
      mode,
      user: id,
      group: id,
      /** Whether programs in it may be executed. */
      executable: z.boolean(),
    }),
    32,
  ),
  /** Volumes; one without a name is the service's own. */
  mounts: list(
    z.strictObject({
      volume: z.optional(named),
      target: absolutePath,
      readOnly: z.boolean(),
      /** Whether an empty volume gets what the image has at `target`: content, owner and mode. */
      copyUp: z.boolean(),
    }),
    64,
  ),
  /** Files of the image's project, read-only; `source` is a path of the verity root. */
  files: list(z.strictObject({ target: absolutePath, source: absolutePath, mode, user: id, group: id }), 256),
  /** Of a user that is not root: those that the owner asks for and files of its image have; each process has them. */
  capabilities: list(z.enum(serviceCapabilities), serviceCapabilities.length),
  /** Limits of its control group: bytes, and the number of processes and threads. */
  memory: count(4 * 1024 * 1024, 2 ** 40),
  pids: count(1, 32_768),
  /** Its share of the processors under contention; missing: 100, as everybody's. */
  cpuWeight: z.optional(count(1, 10_000)),
  /** At most so many thousandths of a processor; missing: all that there are. */
  cpus: z.optional(count(10, 64_000)),
  /** Size of /dev/shm. */
  shmSize: bytes,
  nofile: z.strictObject({ soft: count(1, 1_048_576), hard: count(1, 1_048_576) }),
  hostname: hostName,
  /** Networks it is on, and its further names there. */
  networks: z.record(named, z.strictObject({ aliases: list(hostName, 32) })),
  extraHosts: z.record(hostName, z.string()),
  /** What is reachable from outside: `published` on the machine goes to `target` of the service. */
  ports: list(z.strictObject({ protocol: z.enum(["tcp", "udp"]), published: port, target: port }), 64),
  /** Where it may connect to outside the machine: anywhere, nowhere, or "name:port" of a list. */
  egress: z.union([z.enum(["all", "none"]), z.strictObject({ to: list(z.string(), 64) })]),
  /** What has to be so of other services before it is started. */
  dependsOn: z.record(
    named,
    z.strictObject({ condition: z.enum(["started", "healthy", "completed"]), required: z.boolean() }),
  ),
  healthcheck: z.optional(healthcheck),
  restart: z.strictObject({
    policy: z.enum(["no", "always", "on-failure", "unless-stopped"]),
    /** `on-failure`: how often at most; missing: without end. */
    maximum: z.optional(count(1, 1_000_000)),
  }),
  stopSignal: z.enum(stopSignals),
  stopGraceMs: milliseconds,
  /** Whether it sees `/run/caisson.sock`, and `/run/secrets/caisson-key`. */
  socket: z.boolean(),
  key: z.boolean(),
  /** Owners' secrets that it gets as `/run/secrets/<name>`, and in an environment variable where it asks for that. */
  secrets: z.optional(
    list(z.strictObject({ name: secretName, environment: z.optional(secretName) }), secretLimit).check(
      z.minLength(1),
    ),
  ),
  /** Where it sees the sockets of dstack's guest agent. */
  dstack: z.optional(list(z.strictObject({ socket: z.enum(["dstack", "tappd"]), target: absolutePath }), 8)),
});

/** Where connections from outside end: a process of the platform's, before one service. */
const front = z.strictObject({
  /** On the machine. */
  port,
  /** The service that gets the requests, and its port: plain HTTP/1.1. */
  service: named,
  target: port,
  /** DNS names of the certificate; none: the application's own name below `.internal`. */
  names: list(dnsName, 16),
  /** "encrypted": the application gets sealed requests only. */
  require: z.enum(["tls", "encrypted"]),
  /** A public certificate; missing: self-signed. */
  acme: z.optional(
    z.strictObject({
      directory: z.string().check(z.regex(/^https:\/\/[^\s]+$/), z.maxLength(512)),
      /** PEM of the only roots that may vouch for the directory; missing: the public ones, which Node carries. */
      roots: z.optional(z.string().check(z.maxLength(authorityRootsLimit))),
    }),
  ),
});

/** What runs in a guest, as it is measured. */
const descriptionSchema = z
  .strictObject({
    name: z.string().check(z.regex(/^[a-z0-9][a-z0-9-]{0,62}$/)),
    /** By name. */
    services: z
      .record(named, service)
      .check(z.refine((all) => Object.keys(all).length >= 1 && Object.keys(all).length <= serviceLimit)),
    /** By name; none: the only service is on the guest's own network. */
    networks: z.record(named, z.strictObject({ internal: z.boolean() })),
    /** Named volumes; `size` in bytes, missing: what the memory limits of its services leave. */
    volumes: z
      .record(named, z.strictObject({ size: z.optional(bytes), persistent: z.optional(persistent) }))
      .check(
        z.refine((all) => {
          const kept = Object.values(all).filter(({ persistent }) => persistent !== undefined);
          return (
            kept.length <= volumeLimit &&
            kept.every(({ size = 0 }) => size >= leastVolume && size % 2 ** 20 === 0)
          );
        }, "a persistent volume has a size, in whole MiB, and there are few of them"),
      ),
    /** Missing: published ports are the services' own. */
    front: z.optional(front),
    /** Whom what services write is encrypted to: X25519 public keys. Missing: production writes nothing. */
    logs: z.optional(z.strictObject({ to: list(hex(32), logKeyLimit).check(z.minLength(1)) })),
    /**
     * The identity that the application claims: hash of its first document, which then is its id. It proves nothing by
     * itself; the owners' release does. Missing: the description is the identity.
     */
    identity: z.optional(hex(32)),
  })
  .check(
    z.refine(
      ({ front: outer, services }) =>
        outer === undefined || Object.values(services).every(({ dstack }) => dstack === undefined),
      "a front and dstack's sockets exclude each other: GetQuote signs any report data, a channel's too",
    ),
  );

const schema = z.strictObject({
  version: z.literal("caisson/guest/v1"),
  flavour: z.enum(flavours),
  /** Seconds since 1970: no clock of the guest may be below this. */
  epoch: z.int(),
  /**
   * The kernel command line as tokens, in order. The one token that cannot be here with its value, because it holds
   * the hash of the root that holds this file, is named without it: `dm-mod.create=`.
   */
  commandLine: z.array(z.string()),
  app: descriptionSchema,
  time: z.strictObject({
    secure_time: z.boolean(),
    /** Sources and limits; their schema is `@caisson/nts`'s. Missing: the built-in list. */
    configuration: z.optional(z.unknown()),
  }),
  /** The KMS whose identity this image pins; missing: the host names one and it is measured. */
  kms: z.optional(z.strictObject({ identity: hex(32) })),
});

export type AppDescription = z.infer<typeof descriptionSchema>;
export type Service = z.infer<typeof service>;
export type FrontDescription = z.infer<typeof front>;
export type Healthcheck = z.infer<typeof healthcheck>;
export type Capability = (typeof serviceCapabilities)[number];
export type GuestConfig = z.infer<typeof schema>;

/** Checks parsed JSON. Throws a ZodError: the file is ours and measured, so this is a build fault. */
export function parseGuestConfig(value: unknown): GuestConfig {
  return schema.parse(value);
}

/** The bytes that `compose-hash` is the SHA-256 of, and that the application's id and keys follow from. */
export function description({ app }: Pick<GuestConfig, "app">): Uint8Array {
  return new TextEncoder().encode(canonicalJson(app));
}

/**
 * Payload of `app-id`: the identity that the description claims, all 32 bytes; or without one the first 20 bytes of the
 * description's own hash. Their lengths tell them apart.
 */
export function applicationId({ app }: Pick<GuestConfig, "app">): Uint8Array {
  return app.identity === undefined ? appId(description({ app })) : Uint8Array.fromHex(app.identity);
}

/** Names of all secrets that the services get, each once, sorted. */
export function secretNames({ services }: Pick<AppDescription, "services">): string[] {
  const names = Object.values(services).flatMap(({ secrets = [] }) => secrets.map(({ name }) => name));
  return [...new Set(names)].sort();
}

/** The boot events that a guest of this description measures, in order. */
export function bootSequenceOf(app: AppDescription): BootEvent[] {
  return bootSequence([
    ...(persistentVolumes(app).length > 0 ? (["volumes"] as const) : []),
    ...(secretNames(app).length > 0 ? (["secrets"] as const) : []),
  ]);
}

/** Names of the volumes that outlive the machine, sorted: the order of their disks. */
export function persistentVolumes({ volumes }: Pick<AppDescription, "volumes">): string[] {
  return Object.keys(volumes)
    .filter((name) => volumes[name]!.persistent !== undefined)
    .sort();
}

/** What the guest publishes: its front's port, then the services', in the order of their names. */
export function publishedPorts({
  services,
  front: outer,
}: {
  services: Readonly<Record<string, Pick<Service, "ports">>>;
  front?: AppDescription["front"];
}): (Service["ports"][number] & { service: string })[] {
  const own = Object.keys(services)
    .sort()
    .flatMap((name) => services[name]!.ports.map((one) => ({ service: name, ...one })));
  if (outer === undefined) return own;
  const { service: name, port: published, target } = outer;
  return [{ service: name, protocol: "tcp", published, target }, ...own];
}

/** The port that a client who knows nothing else asks: the first published over TCP; undefined when there is none. */
export function mainPort(app: AppDescription): number | undefined {
  return publishedPorts(app).find(({ protocol }) => protocol === "tcp")?.published;
}
