// SPDX-License-Identifier: Apache-2.0
/**
 * Puts a plan into effect: each service's network namespace gets its interfaces, addresses and routes, then the table of
 * what may reach what is set. Forwarding is on for these interfaces alone, and only after the table stands.
 */

import { lookup } from "node:dns/promises";
import { writeFileSync } from "node:fs";
import type { AppDescription, Service } from "@caisson/protocol/guest-config";
import { messageOf } from "@caisson/vocabulary/failure";
import type { Syscalls } from "../syscalls.ts";
import { firewall, NETLINK_NETFILTER, outside, type Rules, type Subnet } from "./firewall.ts";
import { addAddress, addRoute, bringUp, loopbackIndex, makePair, NETLINK_ROUTE } from "./links.ts";
import { acknowledgements, encode, type Message } from "./netlink.ts";
import type { Plan } from "./plan.ts";

/** The most addresses of a name that a service may connect to. */
const addressLimit = 16;
const lookupLimitMs = 10_000;

/** What a service may connect to outside, with the names that it was asked for by. */
export interface Destination {
  name?: string;
  to: Subnet;
  port: number;
}

const dotted = /^\d{1,3}(?:\.\d{1,3}){3}$/;

/**
 * A list of "host:port": names that the service gives an address itself have that, others are looked up once, here; one
 * that cannot be found lets nothing through, and is said.
 */
export async function destinations(service: Service, say: (text: string) => void): Promise<Destination[]> {
  if (typeof service.egress === "string") return [];
  const found: Destination[] = [];
  for (const entry of service.egress.to) {
    const [, host = "", portText = ""] = /^(.+):(\d+)$/.exec(entry) ?? [];
    const port = Number(portText);
    const [network = "", bits = "32"] = (service.extraHosts[host] ?? host).split("/");
    if (dotted.test(network)) {
      found.push({ to: { network, bits: Number(bits) }, port });
      continue;
    }
    try {
      const timeout = new Promise<never>((_, reject) => {
        setTimeout(
          () => reject(new Error(`no answer within ${lookupLimitMs / 1000} s`)),
          lookupLimitMs,
        ).unref();
      });
      const addresses = await Promise.race([lookup(host, { all: true, family: 4 }), timeout]);
      for (const { address } of addresses.slice(0, addressLimit)) {
        found.push({ name: host, to: { network: address, bits: 32 }, port });
      }
    } catch (error) {
      say(`egress to ${entry}: ${messageOf(error)}`);
    }
  }
  return found;
}

function send(syscalls: Syscalls, protocol: number, namespace: number, messages: readonly Message[]): void {
  syscalls.netlink(protocol, namespace, encode(messages), acknowledgements(messages));
}

/** The link over which a service is reached from outside, and by the front. */
export const wayIn = (links: Plan["links"][string]) => wayOut(links) ?? links[0]!;

const wayOut = (links: Plan["links"][string]) => links.find(({ internal }) => !internal);

/** Interfaces of one service in its namespace (a descriptor). */
export function connectService(
  syscalls: Syscalls,
  { egress, ports }: Service,
  links: Plan["links"][string],
  allowed: readonly Destination[],
  namespace: number,
  /** Another service's address that is reached, or answered, over the link with this one's own address. */
  peer?: { own: string; other: string },
): void {
  send(
    syscalls,
    NETLINK_ROUTE,
    0,
    links.map(({ outer, inner }) => makePair(outer, inner, namespace)),
  );
  const way = wayOut(links);
  const outwards =
    way === undefined
      ? []
      : // Clients of published ports are answered by this way, too; the table says what else goes there.
        egress === "all" || ports.length > 0
        ? [addRoute(way.inner.index, "0.0.0.0", 0, way.gateway)]
        : // Two ports of one host are one way.
          [...new Map(allowed.map(({ to }) => [`${to.network}/${to.bits}`, to])).values()].map((to) =>
            addRoute(way.inner.index, to.network, to.bits, way.gateway),
          );
  send(syscalls, NETLINK_ROUTE, namespace, [
    bringUp(loopbackIndex),
    ...links.flatMap(({ inner, address, gateway, subnet }) => [
      addAddress(inner.index, address),
      bringUp(inner.index),
      addRoute(inner.index, gateway, 32),
      addRoute(inner.index, subnet.network, subnet.bits, gateway),
    ]),
    ...outwards,
    ...links
      .filter(({ address }) => address === peer?.own)
      .map(({ inner, gateway }) => addRoute(inner.index, peer!.other, 32, gateway)),
  ]);
  send(
    syscalls,
    NETLINK_ROUTE,
    0,
    links.flatMap(({ outer, address, gateway }) => [
      addAddress(outer.index, gateway),
      bringUp(outer.index),
      addRoute(outer.index, address, 32),
    ]),
  );
}

/** What the table says, by the plan and by what each service may reach. */
export function rulesOf(
  app: AppDescription,
  plan: Plan,
  allowed: Readonly<Record<string, readonly Destination[]>>,
): Rules {
  const linked = Object.entries(plan.links).map(([name, links]) => ({
    name,
    links,
    service: app.services[name]!,
  }));
  return {
    all: plan.all,
    networks: plan.networks,
    guest: [...new Set(linked.flatMap(({ links }) => links.map(({ gateway }) => gateway)))],
    free: linked
      .filter(({ service }) => service.egress === "all")
      .flatMap(({ links }) => links.filter(({ internal }) => !internal).map(({ address }) => address)),
    allowed: linked.flatMap(({ name, links }) =>
      links
        .filter(({ internal }) => !internal)
        .flatMap(({ address }) => (allowed[name] ?? []).map(({ to, port }) => ({ from: address, to, port }))),
    ),
    published: linked.flatMap(({ links, service }) =>
      service.ports.map(({ protocol, published, target }) => ({
        protocol,
        port: published,
        address: wayIn(links).address,
        target,
      })),
    ),
  };
}

/** How long the kernel remembers a connection that has ended, in seconds, so that short ones do not fill its table. */
const rememberedFor = 10;
/** Entries of that table: what each service may have at once, open or just ended, and room for what comes from outside. */
const trackedBy = { service: 8192, outside: 32_768 };

/** Sets the table, then lets this machine forward between the services' interfaces and its own. */
export function openRoutes(syscalls: Syscalls, plan: Plan, rules: Rules): void {
  send(syscalls, NETLINK_NETFILTER, 0, firewall(rules));
  const tracking = "/proc/sys/net/netfilter/nf_conntrack_";
  const entries = trackedBy.outside + trackedBy.service * Object.keys(plan.links).length;
  writeFileSync(`${tracking}max`, String(entries));
  writeFileSync(`${tracking}tcp_timeout_time_wait`, String(rememberedFor));
  const interfaces = Object.values(plan.links).flatMap((links) => links.map(({ outer }) => outer.name));
  for (const name of [outside, ...interfaces])
    writeFileSync(`/proc/sys/net/ipv4/conf/${name}/forwarding`, "1");
}
