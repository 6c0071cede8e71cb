// SPDX-License-Identifier: Apache-2.0
/** What a service has to do with others: what it waits for, and the networks that it is on. */
import type { Value } from "./document.ts";
import { hostPattern } from "./names.ts";
import type { Around, ReadService } from "./reading.ts";

const conditions = {
  service_started: "started",
  service_healthy: "healthy",
  service_completed_successfully: "completed",
} as const;

export function readDependencies(
  service: ReadService,
  value: Value,
  { fields }: Around,
  where: string,
): void {
  if (value.kind === "list") {
    for (const { text: name, line } of fields.texts(value, where)) {
      service.dependsOn[name] = { condition: "started", required: true };
      service.usedServices.push({ name, line, required: true });
    }
    return;
  }
  for (const [name, { line, value: member }] of fields.map(value, where).entries) {
    const inside = `${where}.${name}`;
    const found = fields.record(member, inside, ["condition", "required", "restart"] as const);
    const names = Object.keys(conditions) as (keyof typeof conditions)[];
    const condition = found.condition && fields.choice(found.condition, `${inside}.condition`, names);
    const required = (found.required && fields.boolean(found.required, `${inside}.required`)) ?? true;
    service.dependsOn[name] = { condition: conditions[condition ?? "service_started"], required };
    service.usedServices.push({ name, line, required });
  }
}

export function readNetworks(service: ReadService, value: Value, { fields }: Around, where: string): void {
  service.networks = {};
  service.usedNetworks = [];
  const join = (name: string, line: number, aliases: string[]): void => {
    service.networks[name] = { aliases };
    service.usedNetworks.push({ name, line });
  };
  if (value.kind === "list") {
    for (const { text, line } of fields.texts(value, where)) join(text, line, []);
    return;
  }
  const fixed = ["addresses are the guest's own affair", "remove it; services are reached by name"] as const;
  const refused = {
    ipv4_address: fixed,
    ipv6_address: fixed,
    link_local_ips: fixed,
    mac_address: fixed,
    interface_name: fixed,
    driver_opts: ["there is one kind of network", "remove it"],
  } as const;
  for (const [name, { line, value: member }] of fields.map(value, where).entries) {
    const inside = `${where}.${name}`;
    const found = fields.record(member, inside, ["aliases", "priority", "gw_priority"] as const, refused);
    const aliases = found.aliases === undefined ? [] : fields.texts(found.aliases, `${inside}.aliases`);
    for (const alias of aliases) {
      if (!hostPattern.test(alias.text))
        fields.refuse(alias.line, inside, `'${alias.text}' is not a host name`);
    }
    join(
      name,
      line,
      aliases.map(({ text }) => text).filter((alias) => hostPattern.test(alias)),
    );
  }
}
