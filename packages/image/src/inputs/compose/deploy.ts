// SPDX-License-Identifier: Apache-2.0
/** `deploy` of a service (Compose Specification, deploy.md): limits and the restart policy; the rest is for clusters. */
import type { Value } from "./document.ts";
import { type Around, cpus, type Handler, memory, only, pids, type ReadService } from "./reading.ts";
import { refusedKeys } from "./refusals.ts";

export function readDeploy(service: ReadService, value: Value, around: Around, where: string): void {
  const { fields, notes } = around;
  const swarm = "it is for a cluster of machines";
  const keys = ["mode", "replicas", "labels", "resources", "restart_policy", "endpoint_mode"] as const;
  const found = fields.record(value, where, keys, {
    placement: [swarm, "remove it"],
    update_config: [swarm, "remove it"],
    rollback_config: [swarm, "remove it"],
  });
  const check = (key: (typeof keys)[number], handler: Handler): void => {
    const member = found[key];
    if (member !== undefined) handler(service, member, around, `${where}.${key}`);
  };
  check("mode", only(["replicated"], "each service runs once in a guest"));
  check("endpoint_mode", only(["vip", "dnsrr"], "there is no such mode"));
  check(
    "replicas",
    only(["1"], "each service runs once in a guest", "remove it, or write the service out once more"),
  );
  check("restart_policy", (_, member, __, inside) => {
    const policy = fields.record(member, inside, ["condition", "max_attempts"] as const, {
      delay: ["the time between starts is the guest's: 100 ms, doubling up to a minute", "remove it"],
      window: ["a start counts as good after 10 s", "remove it"],
    });
    const condition =
      policy.condition && fields.choice(policy.condition, inside, ["none", "on-failure", "any"]);
    const maximum = policy.max_attempts && fields.integer(policy.max_attempts, inside, 1, 1_000_000);
    const policies = { none: "no", "on-failure": "on-failure", any: "always" } as const;
    service.restart = { policy: policies[condition ?? "any"], ...(maximum !== undefined && { maximum }) };
  });
  check("resources", (_, member, __, inside) => {
    const resources = fields.record(member, inside, ["limits", "reservations"] as const);
    if (resources.limits !== undefined) {
      const limits = fields.record(resources.limits, `${inside}.limits`, ["memory", "pids", "cpus"] as const);
      if (limits.cpus !== undefined) cpus(service, limits.cpus, around, `${inside}.limits.cpus`);
      if (limits.memory !== undefined) memory(service, limits.memory, around, `${inside}.limits.memory`);
      if (limits.pids !== undefined) pids(service, limits.pids, around, `${inside}.limits.pids`);
    }
    if (resources.reservations !== undefined) {
      fields.record(resources.reservations, `${inside}.reservations`, ["memory", "cpus"] as const, {
        devices: refusedKeys.devices!,
        generic_resources: [swarm, "remove it"],
      });
      notes.push({ line: resources.reservations.line, where: inside, text: "nothing is reserved" });
    }
  });
}
