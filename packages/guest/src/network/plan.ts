// SPDX-License-Identifier: Apache-2.0
/**
 * Who has which address: a network of 254 for each network of the description, one host in it for each service. Pure.
 *
 * A service that names no network has one of its own. Each has a pair of interfaces for each of its networks and
 * nothing between two services but this machine's routing: `svc<range>n<network>` here, `eth<n>` there.
 */
import type { AppDescription, Service } from "@caisson/protocol/guest-config";
import { type Subnet, serviceInterfaces } from "./firewall.ts";
import type { End } from "./links.ts";

/** The first that does not hold an address of the machine's own network is taken. */
const candidates = ["172.28.0.0", "10.201.0.0", "192.168.0.0"] as const;
const bits = 16;

export interface Link {
  /** Name of the network; missing: the service's own. */
  network?: string;
  outer: End;
  inner: End;
  /** The service's address there, and what it is sent by. */
  address: string;
  gateway: string;
  subnet: Subnet;
  /** Nothing outside is reached over it. */
  internal: boolean;
}

export interface Plan {
  all: Subnet;
  networks: readonly Subnet[];
  /** By service. */
  links: Readonly<Record<string, readonly Link[]>>;
}

/** Of `own`, the machine's own addresses, none is in the plan's range. Only contained services have links. */
export function planNetwork(app: AppDescription, own: readonly string[]): Plan {
  const prefixOf = (dotted: string): string => dotted.split(".").slice(0, 2).join(".");
  const base = candidates.find((one) => !own.some((dotted) => prefixOf(dotted) === prefixOf(one)))!;
  const contained = Object.entries(app.services)
    .filter(([, { isolation }]) => isolation === "contained")
    .sort(([, a], [, b]) => a.range - b.range);
  const names = Object.keys(app.networks).sort();
  const subnets: Subnet[] = [];
  const subnetOf = (number: number): Subnet => {
    const subnet = { network: `${prefixOf(base)}.${number}.0`, bits: 24 };
    subnets[number] = subnet;
    return subnet;
  };
  let next = names.length;
  const links: Record<string, Link[]> = {};
  for (const [name, service] of contained) {
    const declared = Object.keys(service.networks).sort();
    const numbers = declared.length === 0 ? [next++] : declared.map((network) => names.indexOf(network));
    links[name] = numbers.map((number, position) => {
      const subnet = subnetOf(number);
      const network = names[number];
      const prefix = subnet.network.replace(/0$/, "");
      return {
        ...(network !== undefined && { network }),
        outer: {
          name: `${serviceInterfaces}${service.range}n${position}`,
          index: outerIndex(service, position),
        },
        inner: { name: `eth${position}`, index: 2 + position },
        address: `${prefix}${service.range + 2}`,
        gateway: `${prefix}1`,
        subnet,
        internal: network !== undefined && app.networks[network]!.internal,
      };
    });
  }
  return { all: { network: base, bits }, networks: subnets.filter((one) => one !== undefined), links };
}

/** Numbers of interfaces that nothing else has. */
const outerIndex = ({ range }: Service, position: number): number => 1000 + range * 64 + position;

/** The names under which `service` finds others: address → names, its own first. */
export function namesFor(
  app: AppDescription,
  plan: Plan,
  service: string,
): [address: string, names: string[]][] {
  const own = app.services[service]!;
  const lines: [string, string[]][] = [];
  for (const { network, address } of plan.links[service] ?? []) {
    lines.push([address, unique([own.hostname, service, ...aliasesOf(own, network)])]);
  }
  for (const [name, other] of Object.entries(app.services).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (name === service) continue;
    for (const { network, address } of plan.links[name] ?? []) {
      if (network === undefined || own.networks[network] === undefined) continue;
      lines.push([address, unique([name, other.hostname, ...aliasesOf(other, network)])]);
    }
  }
  return lines;
}

const aliasesOf = ({ networks }: Service, network: string | undefined): readonly string[] =>
  network === undefined ? [] : (networks[network]?.aliases ?? []);
const unique = (names: readonly string[]): string[] => [...new Set(names)];
