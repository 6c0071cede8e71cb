// SPDX-License-Identifier: Apache-2.0
/** What runs in an image: the description that is measured, and the roots and files that it speaks of. */
import { dirname, relative } from "node:path";
import {
  type AppDescription,
  type FrontDescription,
  publishedPorts,
  type Service,
} from "@caisson/protocol/guest-config";
import { ImageError } from "../errors.ts";
import type { ComposedService, Composition } from "../inputs/compose/composition.ts";
import type { FrontSpec, Spec } from "../inputs/spec.ts";
import { mountsOf } from "../inputs/workload.ts";
import type { OciImage } from "../oci/oci.ts";
import { resolveAccount } from "./accounts.ts";
import { findProgram } from "./program.ts";
import { projectNode } from "./project-file.ts";
import { describeService } from "./service.ts";
import type { DirectoryNode, Node } from "./tree.ts";

/** The root of one or several services. */
export interface ServiceRoot {
  /** In the verity image. */
  path: string;
  image: OciImage;
  /** The services that have it, sorted. */
  services: string[];
}

export interface Application {
  description: AppDescription;
  roots: ServiceRoot[];
  /** Files and directories of the project, beside the roots. */
  files: { path: string; node: Node }[];
}

const MiB = 2 ** 20;

/** Where everything of the application lies; a single service's root is `/app/rootfs`. */
const place = "/app";

/** Limits of a service that names none. */
const single = { memory: 256 * MiB, pids: 64 };
const composed = { memory: 512 * MiB, pids: 512 };

/**
 * `images` has the image of every service: of `composition`'s, or the one of the spec's own name where there is none.
 * Throws ImageError `app/program`, `app/user`, `app/healthcheck`, `app/signal`, `app/file`.
 */
export function describeApplication(
  spec: Spec,
  composition: Composition | undefined,
  images: ReadonlyMap<string, OciImage>,
): Application {
  return composition === undefined
    ? plainApplication(spec, images.get(spec.name)!)
    : composedApplication(spec, composition, images);
}

function composedApplication(
  spec: Spec,
  { path, services, networks, volumes }: Composition,
  images: ReadonlyMap<string, OciImage>,
): Application {
  const roots = new Map<string, ServiceRoot>();
  const files: Application["files"] = [];
  const described: Record<string, Service> = {};
  const names = [...services.keys()].sort();
  for (const [range, name] of names.entries()) {
    const service = services.get(name)!;
    const image = images.get(name)!;
    // Services of one image share its root: each sees it through ids and a writable layer of its own.
    const root = roots.get(image.digest) ?? { path: `${place}/${name}/rootfs`, image, services: [] };
    root.services.push(name);
    roots.set(image.digest, root);
    const own = service.files.map((file, index) => ({
      path: `${place}/${name}/files/${index}`,
      node: projectNode(file, dirname(path)),
    }));
    files.push(...own);
    described[name] = describeService(service, {
      image,
      root: root.path,
      range,
      memory: spec.app.memory ?? composed.memory,
      pids: spec.app.pids ?? composed.pids,
      files: own.map((file) => file.path),
      place: placeOf(relative(spec.directory, path), service),
    });
  }
  checkHealth(services, described, path);
  const front = spec.front && frontOf(spec.front, described, spec.path);
  if (spec.front !== undefined) withhold(described, spec.front.direct);
  return {
    description: {
      name: spec.name,
      services: described,
      networks,
      volumes: withPersistent(spec, volumes, described),
      ...(front && { front }),
      ...logsOf(spec),
    },
    roots: [...roots.values()],
    files,
  };
}

/** The front before the service that publishes its target. Throws ImageError `app/front`. */
export function frontOf(
  { port, target, names, require, acme, direct }: FrontSpec,
  services: Readonly<Record<string, Pick<Service, "ports" | "dstack">>>,
  path: string,
): FrontDescription {
  const fail = (message: string, fix: string) =>
    new ImageError("app/front", `${path}: 'front': ${message}`, { fix });
  const published = publishedPorts({ services }).filter(({ protocol }) => protocol === "tcp");
  const behind = target === undefined ? published[0] : published.find((one) => one.published === target);
  if (behind === undefined) {
    const what = target === undefined ? "a TCP port" : `port ${target}`;
    throw fail(
      `no service publishes ${what}, so there is nothing behind it`,
      "app.port, or ports in the compose file",
    );
  }
  if (direct.includes(port)) throw fail(`port ${port} is the front's own`, "take it out of front.direct");
  const unknown = direct.find((one) => !published.some((other) => other.published === one));
  if (unknown !== undefined)
    throw fail(`no service publishes port ${unknown}`, "take it out of front.direct");
  const asking = Object.entries(services).find(([, { dstack }]) => dstack !== undefined)?.[0];
  if (asking !== undefined) {
    throw fail(
      `'${asking}' has dstack's socket, which signs any report data, the channel's too`,
      "leave out the front, or app.api and the socket's mount",
    );
  }
  return {
    port,
    service: behind.service,
    target: behind.target,
    names,
    require,
    ...(acme && { acme: { directory: acme.directory } }),
  };
}

/** Behind a front only named ports are reached without it. */
function withhold(services: Record<string, Service>, direct: readonly number[]): void {
  for (const [name, service] of Object.entries(services)) {
    const ports = service.ports.filter(({ published }) => direct.includes(published));
    services[name] = { ...service, ports };
  }
}

const logsOf = ({ app: { logs } }: Spec): Pick<AppDescription, "logs"> =>
  logs === undefined ? {} : { logs };

/**
 * Volumes of a compose file, and of the spec: those that the spec names are persistent. Throws ImageError `app/volume` for
 * one that nobody mounts, and for a mounted one that nobody declares.
 */
export function withPersistent(
  spec: Spec,
  volumes: Composition["volumes"],
  services: Readonly<Record<string, Pick<Service, "mounts">>>,
): AppDescription["volumes"] {
  const mounted = new Set(
    Object.values(services).flatMap(({ mounts }) => mounts.flatMap(({ volume }) => volume ?? [])),
  );
  const all: AppDescription["volumes"] = { ...volumes };
  const { volumes: persistent = {} } = spec;
  for (const [name, { size, kmsAway }] of Object.entries(persistent)) {
    const problem = !mounted.has(name)
      ? `${spec.path}: no service mounts the volume '${name}'`
      : all[name]?.size !== undefined
        ? `${spec.path}: the volume '${name}' has a size in the compose file, too`
        : undefined;
    if (problem !== undefined) {
      throw new ImageError("app/volume", problem, {
        fix: "app.volumes: { NAME: /path }, or a volume of this name in the compose file; its size in caisson.yaml alone",
      });
    }
    all[name] = { size, persistent: { kmsAway } };
  }
  for (const name of mounted) {
    if (
      all[name] !== undefined &&
      (Object.hasOwn(persistent, name) || !Object.hasOwn(spec.app.volumes ?? {}, name))
    )
      continue;
    throw new ImageError(
      "app/volume",
      `${spec.path}: 'app.volumes' names '${name}', which the spec does not have`,
      {
        fix: `volumes: { ${name}: { size: 1GiB } }`,
      },
    );
  }
  return all;
}

const placeOf = (file: string, { line, name }: ComposedService): string =>
  line === 0 ? file : `${file}, line ${line}: services.${name}`;

/** Whoever waits for a service to be healthy would wait for ever for one without a check. */
function checkHealth(
  services: ReadonlyMap<string, ComposedService>,
  described: Readonly<Record<string, Service>>,
  path: string,
): void {
  for (const [name, { dependsOn }] of Object.entries(described)) {
    for (const [other, { condition }] of Object.entries(dependsOn)) {
      if (condition !== "healthy" || described[other]!.healthcheck !== undefined) continue;
      throw new ImageError(
        "app/healthcheck",
        `${path}, line ${services.get(name)!.line}: services.${name} waits for '${other}' to be healthy, and neither the file nor the image of '${other}' says how to check that`,
        { fix: `a healthcheck for '${other}', or condition: service_started` },
      );
    }
  }
}

/** Who the application is when its image says nothing or root: a plain sandbox has no root. */
const nobody = { user: 65_532, group: 65_532 };

/** As `resolveAccount`, without root: a user without a group has one of his own number. */
function plainAccount(tree: DirectoryNode, text: string): { user: number; group: number } {
  const { user, group: found } = resolveAccount(tree, text);
  if (user === 0) return nobody;
  const group = found === 0 && !text.includes(":") ? user : found;
  const valid = (id: number) => id >= 1 && id <= 65_533;
  if (valid(user) && valid(group)) return { user, group };
  throw new ImageError(
    "app/user",
    `the image wants to run as '${text}', which is not a user between 1 and 65533`,
  );
}

/** One service as it is when it needs nothing more: a read-only root, no user namespace. */
function plainApplication(spec: Spec, image: OciImage): Application {
  const { app } = spec;
  const { config, tree } = image;
  const environment = { ...config.environment, ...app.environment };
  const [program, ...rest] = [...config.entrypoint, ...(app.arguments ?? config.command)];
  const fix = "set app.arguments in the spec";
  if (program === undefined) {
    throw new ImageError("app/program", `the image ${image.digest} says no program to run`, { fix });
  }
  const workingDirectory = config.workingDirectory === "" ? "/" : config.workingDirectory;
  const root = `${place}/rootfs`;
  const service: Service = {
    image: image.digest.replace(/^sha256:/, ""),
    root,
    isolation: "plain",
    range: 0,
    arguments: [findProgram(tree, program, workingDirectory, environment.PATH, fix), ...rest],
    environment,
    workingDirectory,
    ...plainAccount(tree, config.user),
    additionalGroups: [],
    readOnly: true,
    layerSize: MiB,
    tmpfs: [],
    mounts: mountsOf(app.volumes ?? {}),
    files: [],
    capabilities: [],
    memory: app.memory ?? single.memory,
    pids: app.pids ?? single.pids,
    shmSize: 64 * MiB,
    nofile: { soft: 65_536, hard: 65_536 },
    hostname: spec.name,
    networks: {},
    extraHosts: {},
    ports: app.port === undefined ? [] : [{ protocol: "tcp", published: app.port, target: app.port }],
    egress: "all",
    dependsOn: {},
    restart: { policy: "no" },
    stopSignal: "SIGTERM",
    stopGraceMs: 5_000,
    socket: true,
    key: true,
    ...(app.secrets && { secrets: app.secrets }),
  };
  const services = { [spec.name]: service };
  return {
    description: {
      name: spec.name,
      services,
      networks: {},
      volumes: withPersistent(spec, {}, services),
      ...logsOf(spec),
    },
    roots: [{ path: root, image, services: [spec.name] }],
    files: [],
  };
}
