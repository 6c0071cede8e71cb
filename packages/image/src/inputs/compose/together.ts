// SPDX-License-Identifier: Apache-2.0
/** What no service shows by itself: names, networks, volumes, ports, and that there is an order to start them in. */
import type { Composition } from "./composition.ts";
import type { Fields } from "./fields.ts";
import type { ReadService } from "./reading.ts";

type Services = ReadonlyMap<string, ReadService>;

/** Checks services against each other, and fills in what follows from that. */
export function checkTogether(
  fields: Fields,
  services: Services,
  networks: Composition["networks"],
  volumes: Composition["volumes"],
): void {
  for (const [name, service] of services) {
    const where = `services.${name}`;
    for (const { name: network, line } of service.usedNetworks) {
      if (!Object.hasOwn(networks, network)) {
        fields.refuse(
          line,
          `${where}.networks`,
          `there is no network '${network}'`,
          `networks: { ${network}: {} }`,
        );
      }
    }
    for (const { name: volume, line } of service.usedVolumes) {
      if (!Object.hasOwn(volumes, volume)) {
        fields.refuse(
          line,
          `${where}.volumes`,
          `there is no volume '${volume}'`,
          `volumes: { ${volume}: {} }`,
        );
      }
    }
    for (const { name: other, line, required } of service.usedServices) {
      if (services.has(other) || !required) continue;
      fields.refuse(
        line,
        `${where}.depends_on`,
        `there is no service '${other}'`,
        "correct the name, or required: false",
      );
    }
    for (const other of Object.keys(service.dependsOn)) {
      const { condition } = service.dependsOn[other]!;
      if (!services.has(other)) delete service.dependsOn[other];
      else if (condition === "healthy" && services.get(other)!.healthcheck?.enabled === false) {
        fields.refuse(service.line, `${where}.depends_on`, `'${other}' has no health check that could pass`);
      }
    }
    const reached = service.usedNetworks.map((one) => networks[one.name]);
    // Only an internal network leads nowhere else.
    if (reached.length > 0 && reached.every((network) => network?.internal === true)) service.egress = "none";
  }
  checkPorts(fields, services);
  checkOrder(fields, services);
  nameServices(fields, services);
}

function checkPorts(fields: Fields, services: Services): void {
  const taken = new Map<string, { name: string; line: number }>();
  for (const [name, { published }] of services) {
    for (const { protocol, published: port, line } of published) {
      const key = `${port}/${protocol}`;
      const first = taken.get(key);
      if (first === undefined) taken.set(key, { name, line });
      else {
        fields.refuse(
          line,
          `services.${name}.ports`,
          `port ${key} is published by '${first.name}' already, on line ${first.line}`,
          "publish one of them on another port",
        );
      }
    }
  }
}

/** Refuses dependencies that lead back to where they began; each cycle once. */
function checkOrder(fields: Fields, services: Services): void {
  const done = new Set<string>();
  const visit = (name: string, path: readonly string[]): void => {
    if (done.has(name)) return;
    const at = path.indexOf(name);
    if (at !== -1) {
      const cycle = [...path.slice(at), name].join(" → ");
      const { line } = services.get(name)!;
      fields.refuse(
        line,
        `services.${name}.depends_on`,
        `none can be the first: ${cycle}`,
        "remove one of these",
      );
      return;
    }
    for (const other of Object.keys(services.get(name)!.dependsOn)) visit(other, [...path, name]);
    done.add(name);
  };
  for (const name of services.keys()) visit(name, []);
}

/** Gives services their further names (`container_name`, `links`), and refuses a name that two would have. */
function nameServices(fields: Fields, services: Services): void {
  for (const { links } of services.values()) {
    for (const { service, alias } of links) {
      for (const { aliases } of Object.values(services.get(service)?.networks ?? {})) {
        if (alias !== service && !aliases.includes(alias)) aliases.push(alias);
      }
    }
  }
  const owners = new Map<string, string>();
  for (const [name, service] of services) {
    for (const [network, { aliases }] of Object.entries(service.networks)) {
      for (const alias of new Set([name, ...aliases])) {
        const key = `${network} ${alias.toLowerCase()}`;
        const other = owners.get(key);
        if (other === undefined) owners.set(key, name);
        else {
          fields.refuse(
            service.line,
            `services.${name}`,
            `'${alias}' is a name of '${other}' on the network '${network}', too`,
            "use another name",
          );
        }
      }
    }
  }
}
