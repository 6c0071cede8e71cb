// SPDX-License-Identifier: Apache-2.0
/**
 * A service as it is measured: what its lines and its image say, made explicit. Nothing is left for the guest to look
 * up: the program is an absolute path, users and groups are numbers, every limit has a value.
 */
import { posix } from "node:path";
import {
  type Healthcheck,
  rootCapabilities,
  type Service,
  serviceCapabilities,
} from "@caisson/protocol/guest-config";
import { ImageError } from "../errors.ts";
import type { ComposedHealthcheck, ComposedService } from "../inputs/compose/composition.ts";
import { stopSignal } from "../inputs/compose/signals.ts";
import type { OciConfig } from "../oci/documents.ts";
import type { OciImage } from "../oci/oci.ts";
import { resolveAccount } from "./accounts.ts";
import { defaultPath, findProgram } from "./program.ts";

const MiB = 2 ** 20;

/** What the lines of a service leave to the spec and the image. */
export interface ServiceContext {
  image: OciImage;
  /** Where its root lies in the verity image. */
  root: string;
  range: number;
  /** Limits of a service that names none. */
  memory: number;
  pids: number;
  /** Paths in the verity image of its `files`, in their order. */
  files: readonly string[];
  /** Where a person finds it: "compose.yaml, line 3: services.web". */
  place: string;
}

/** Throws ImageError `app/program`, `app/user`, `app/healthcheck`, `app/signal`. */
export function describeService(service: ComposedService, context: ServiceContext): Service {
  const { image, place } = context;
  const { config, tree } = image;
  const account = resolveAccount(tree, service.user ?? config.user, service.groupAdd);
  const workingDirectory = posix.resolve("/", service.workingDirectory ?? config.workingDirectory);
  const environment: Record<string, string> = {
    PATH: defaultPath,
    HOSTNAME: service.hostname,
    HOME: account.home ?? "/",
    ...config.environment,
    ...service.environment,
  };
  const memory = service.memory ?? context.memory;
  const healthcheck = describeHealthcheck(config.healthcheck, service.healthcheck, place);
  return {
    image: image.digest.replace(/^sha256:/, ""),
    root: context.root,
    isolation: "contained",
    range: context.range,
    arguments: programArguments(service, image, place, workingDirectory, environment.PATH),
    ...(service.init && { init: true }),
    environment,
    workingDirectory,
    user: account.user,
    group: account.group,
    additionalGroups: account.additionalGroups,
    readOnly: service.readOnly,
    // A full layer is an error of its service's; at the memory limit it would be the service's end.
    layerSize: service.layerSize ?? Math.floor(memory / 2),
    tmpfs: service.tmpfs.map((one) => ({ ...one, size: one.size ?? memory })),
    mounts: [...service.mounts, ...imageVolumes(config, service)],
    files: service.files.map(({ target, mode, user, group }, index) => ({
      target,
      source: context.files[index]!,
      mode,
      user,
      group,
    })),
    capabilities: capabilities(service, account.user, image.changes),
    memory,
    pids: service.pids ?? context.pids,
    ...(service.cpuWeight !== undefined && { cpuWeight: service.cpuWeight }),
    ...(service.cpus !== undefined && { cpus: service.cpus }),
    shmSize: service.shmSize ?? 64 * MiB,
    nofile: service.nofile ?? { soft: 65_536, hard: 65_536 },
    hostname: service.hostname,
    networks: service.networks,
    extraHosts: service.extraHosts,
    ports: service.ports,
    egress: service.egress,
    dependsOn: service.dependsOn,
    ...(healthcheck && { healthcheck }),
    restart: service.restart,
    stopSignal: service.stopSignal ?? imageSignal(config.stopSignal, place),
    stopGraceMs: service.stopGraceMs,
    socket: service.socket,
    key: service.key,
    ...(service.secrets.length > 0 && { secrets: service.secrets }),
    ...(service.dstack.length > 0 && { dstack: service.dstack }),
  };
}

/** The program by its whole path, and its arguments. Throws ImageError `app/program` where there is none. */
function programArguments(
  service: ComposedService,
  { config, tree, digest }: ServiceContext["image"],
  place: string,
  workingDirectory: string,
  path: string | undefined,
): string[] {
  // An entry point of one's own starts without the image's command, as everywhere.
  const command = service.command ?? (service.entrypoint === undefined ? config.command : []);
  const [program, ...rest] = [...(service.entrypoint ?? config.entrypoint), ...command];
  if (program === undefined) {
    throw new ImageError("app/program", `${place}: the image ${digest} says no program to run`, {
      fix: "command, or entrypoint",
    });
  }
  return [findProgram(tree, program, workingDirectory, path, "command, or entrypoint"), ...rest];
}

/**
 * Root has seven, less what is dropped, and what is added. Another user has none, but for those that are added and that a
 * file of the image has: without new privileges a file gives none to who executes it, so the process has them at once.
 */
function capabilities(
  { capabilities: { add, drop } }: ComposedService,
  user: number,
  changes: OciImage["changes"],
): Service["capabilities"] {
  const held = new Set(changes.flatMap(({ capabilities = [] }) => capabilities));
  if (user !== 0) return serviceCapabilities.filter((name) => add.includes(name) && held.has(name));
  const kept = new Set<string>(rootCapabilities).difference(
    new Set(drop === "all" ? rootCapabilities : drop),
  );
  return serviceCapabilities.filter((name) => add.includes(name) || kept.has(name));
}

/** The image's `VOLUME`s, where the service mounts nothing else. */
function imageVolumes(config: OciConfig, service: ComposedService): Service["mounts"] {
  const taken = new Set([...service.mounts, ...service.tmpfs, ...service.files].map(({ target }) => target));
  return config.volumes
    .map((path) => posix.resolve("/", path))
    .filter((target) => target !== "/" && !taken.has(target))
    .map((target) => ({ target, readOnly: false, copyUp: true }));
}

function imageSignal(text: string | undefined, place: string): Service["stopSignal"] {
  if (text === undefined) return "SIGTERM";
  const signal = stopSignal(text);
  if (signal !== undefined) return signal;
  throw new ImageError(
    "app/signal",
    `${place}: the image wants to be stopped by '${text}', which is not sent here`,
    {
      fix: "stop_signal: SIGTERM, or another that its program understands",
    },
  );
}

/** Defaults of the Compose Specification, and of Docker for `start_interval`. */
const defaults = {
  intervalMs: 30_000,
  timeoutMs: 30_000,
  retries: 3,
  startPeriodMs: 0,
  startIntervalMs: 5_000,
};

/** What the service says, field by field, over what the image says; undefined when there is no check. */
function describeHealthcheck(
  image: OciConfig["healthcheck"],
  own: ComposedHealthcheck | undefined,
  place: string,
): Healthcheck | undefined {
  if (own?.enabled === false || (own === undefined && image === undefined)) return undefined;
  const { test: imageTest, ...imageTimes } = image ?? { test: [] };
  const test = own?.test ?? argumentsOf(imageTest);
  if (test === undefined) {
    if (own === undefined) return undefined;
    throw new ImageError(
      "app/healthcheck",
      `${place}: neither the file nor the image says how to check health`,
      {
        fix: 'healthcheck: { test: ["CMD", …] }',
      },
    );
  }
  const { enabled: _, test: __, ...times } = own ?? { enabled: true };
  return { ...defaults, ...imageTimes, ...times, test };
}

/** An image's `Test` as an argument vector. */
function argumentsOf([kind, ...rest]: readonly string[]): string[] | undefined {
  if (kind === "CMD" && rest.length > 0) return rest;
  if (kind === "CMD-SHELL" && rest.length > 0) return ["/bin/sh", "-c", rest.join(" ")];
  return undefined;
}
