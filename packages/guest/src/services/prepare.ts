// SPDX-License-Identifier: Apache-2.0
/** Everything that the services need before the first of them starts: made once, kept through their restarts. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { type AppDescription, persistentVolumes, type Service } from "@caisson/protocol/guest-config";
import { serveApplication } from "../api.ts";
import { serveDstack } from "../dstack/serve.ts";
import {
  connectService,
  type Destination,
  destinations,
  openRoutes,
  rulesOf,
  wayIn,
} from "../network/network.ts";
import { namesFor, type Plan, planNetwork } from "../network/plan.ts";
import type { Share } from "../sandbox.ts";
import { type Context, StageFailure } from "../stage.ts";
import { hostsText, writeFiles } from "./files.ts";
import {
  type ChannelKeys,
  channelSocket,
  frontName,
  makeChannelKeys,
  serveChannel,
  withFront,
} from "./front.ts";
import { makeControlGroup, type Prepared } from "./launch.ts";
import { closeUserNamespaces, makeNamespaces, openUserNamespaces } from "./namespaces.ts";
import { outsideId, type Place, placeOf } from "./place.ts";
import { mountRoot, mountVolumes, plainVolumes } from "./root.ts";
import { freezeGroup, limitShare } from "./share.ts";

const resolver = "/run/resolv.conf";

/** What the front is started with. */
export interface Fronted {
  prepared: Prepared;
  keys: ChannelKeys;
  /** The application's address. */
  host: string;
}

export interface Services {
  plan: Plan;
  front?: Fronted;
  /** By name. */
  prepared: ReadonlyMap<string, Prepared>;
}

/** Prepares all services. Throws what the kernel answers where it refuses something. */
export async function prepareServices(context: Context): Promise<Services> {
  const { app: declared } = context.config;
  const app = withFront(declared);
  const controllers = readFileSync("/sys/fs/cgroup/cgroup.controllers", "utf8").trim().split(/\s+/);
  const wanted = ["memory", "pids", "cpu", "cpuset"].filter((name) => controllers.includes(name));
  writeFileSync("/sys/fs/cgroup/cgroup.subtree_control", wanted.map((name) => `+${name}`).join(" "));
  mkdirSync("/run/services", { mode: 0o711 });
  mkdirSync("/run/caisson", { recursive: true });
  chmodSync("/run/caisson", 0o711);
  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const plan = planNetwork(
    app,
    own.map(({ address }) => address),
  );
  const contained = Object.values(app.services).filter(({ isolation }) => isolation === "contained");
  if (contained.length > 0) openUserNamespaces(contained.length);
  const prepared = new Map<string, Prepared>();
  const allowed: Record<string, Destination[]> = {};
  for (const [name, service] of Object.entries(app.services)) {
    const place = placeOf(name, service);
    mkdirSync(place.directory, { mode: 0o711 });
    makeControlGroup(place, service);
    allowed[name] = await destinations(service, (text) => context.log(`${name}: ${text}`));
    prepared.set(name, await prepare(context, app, plan, place, service, allowed[name]));
  }
  const link = frontLink(declared, plan);
  if (contained.length > 0) {
    closeUserNamespaces();
    const peers = link === undefined ? [] : [{ ...link, port: declared.front!.target }];
    openRoutes(context.syscalls, plan, { ...rulesOf(app, plan, allowed), peers });
  }
  if (link === undefined) return { plan, prepared };
  const front = prepared.get(frontName)!;
  const keys = makeChannelKeys();
  await serveChannel(context, front.place.socket, keys);
  return {
    plan,
    prepared,
    front: { prepared: { ...front, shares: [channelSocket(front.place)] }, keys, host: link.to },
  };
}

/** Addresses of the front and of the service behind it. */
function frontLink({ front }: AppDescription, { links }: Plan): { from: string; to: string } | undefined {
  if (front === undefined) return undefined;
  return { from: wayIn(links[frontName]!).address, to: wayIn(links[front.service]!).address };
}

/** What `connectService` has to know of it. */
function peerOf(app: AppDescription, plan: Plan, name: string) {
  const link = frontLink(app, plan);
  if (link !== undefined && name === frontName) return { own: link.from, other: link.to };
  if (link !== undefined && name === app.front!.service) return { own: link.to, other: link.from };
  return undefined;
}

async function prepare(
  context: Context,
  app: AppDescription,
  plan: Plan,
  place: Place,
  declared: Service,
  allowed: readonly Destination[],
): Promise<Prepared> {
  const { syscalls } = context;
  const list = await shares(context, place, declared);
  const service = withSecrets(context, declared);
  const onPersistent = persistentVolumes(app).length > 0;
  if (service.isolation === "plain") return { place, service, shares: list, onPersistent };
  const namespaces = await makeNamespaces(syscalls, service.range);
  mountRoot(syscalls, place, service, namespaces.user);
  const names = [
    ...namesFor(app, plan, place.name),
    ...allowed.flatMap(({ name, to }): [string, string[]][] =>
      name === undefined ? [] : [[to.network, [name]]],
    ),
  ];
  connectService(
    syscalls,
    service,
    plan.links[place.name] ?? [],
    allowed,
    namespaces.network,
    peerOf(app, plan, place.name),
  );
  const surroundings = {
    root: place.root,
    userNamespace: `/proc/1/fd/${namespaces.user}`,
    networkNamespace: `/proc/1/fd/${namespaces.network}`,
    volumes: await mountVolumes(syscalls, app, place, service, namespaces.user),
    files: writeFiles(place, service, hostsText(names, service.extraHosts), resolver, (source, target) =>
      syscalls.mountMapped(source, target, namespaces.user),
    ),
  };
  return { place, service, shares: list, surroundings, onPersistent };
}

/** The service with the variables that have a secret each, where it asks for some. A variable is text and ends at no NUL. */
export function withSecrets({ secrets: given }: Pick<Context, "secrets">, service: Service): Service {
  const environment = { ...service.environment };
  for (const { name, environment: variable } of service.secrets ?? []) {
    if (variable === undefined) continue;
    const value = given!.values.get(name)!;
    try {
      environment[variable] = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
    } catch {
      throw new StageFailure("secrets/environment", `${name} is not text, which a variable is`);
    }
    if (value.includes(0)) throw new StageFailure("secrets/environment", `${name} holds a NUL`);
  }
  return { ...service, environment };
}

/** The socket, and the key as a file in tmpfs that only the service's user can read. */
async function shares(context: Context, place: Place, service: Service): Promise<Share[]> {
  const list: Share[] = [];
  const [user, group] = [outsideId(service, service.user), outsideId(service, service.group)];
  // All of its sockets together have one share of PID 1.
  const called = limitShare((frozen) => freezeGroup(place.controlGroup, frozen));
  if (service.socket) {
    const shared = service.isolation === "contained";
    await serveApplication(context, place.socket, { user, group, shared, called });
    list.push({ source: place.socket, destination: "/run/caisson.sock", writable: true });
  }
  for (const { socket, target } of service.dstack ?? []) {
    const path = `${place.socket}.${socket}`;
    if (!existsSync(path)) await serveDstack(context, path, { user, group, shared: true, called });
    list.push({ source: path, destination: target, writable: true });
  }
  if (service.key && context.keys !== undefined) {
    context.keyFiles.add(place.key, Buffer.from(context.keys.root).toString("hex"), user, group);
    list.push({ source: place.key, destination: "/run/secrets/caisson-key" });
  }
  for (const { name } of service.secrets ?? []) {
    const path = `${place.key}-${name}`;
    context.keyFiles.add(path, context.secrets!.values.get(name)!, user, group);
    list.push({ source: path, destination: `/run/secrets/${name}` });
  }
  if (service.isolation === "plain") {
    if (existsSync(join(service.root, "etc/resolv.conf"))) {
      list.push({ source: resolver, destination: "/etc/resolv.conf" });
    }
    for (const { target, source, readOnly } of plainVolumes(service)) {
      list.push({ source, destination: target, writable: !readOnly });
    }
  }
  return list;
}
