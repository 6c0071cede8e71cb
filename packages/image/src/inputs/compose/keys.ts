// SPDX-License-Identifier: Apache-2.0
/** The keys of a service that are honoured, and what each does (Compose Specification, 05-services.md). */
import { isIP } from "node:net";
import { type Service, serviceCapabilities, stopSignals } from "@caisson/protocol/guest-config";
import { linuxCapabilities } from "@caisson/vocabulary/capabilities";
import { readServiceConfigs, readServiceSecrets } from "./configs.ts";
import { readDeploy } from "./deploy.ts";
import type { Value } from "./document.ts";
import { secretFix } from "./fields.ts";
import { readHealthcheck } from "./healthcheck.ts";
import { hostPattern } from "./names.ts";
import { readPorts } from "./ports.ts";
import {
  type Around,
  cpus,
  type Handler,
  maximumSize,
  memory,
  only,
  onlyFalse,
  pids,
  type ReadService,
  set,
} from "./reading.ts";
import { capabilityReasons } from "./refusals.ts";
import { readDependencies, readNetworks } from "./relations.ts";
import { stopSignal } from "./signals.ts";
import { readTmpfs, readVolumes } from "./volumes.ts";

/** An environment without what a secret stands for: that may name variables of whoever runs the file elsewhere. */
function without(value: Value, names: ReadonlySet<string | undefined>): Value {
  if (value.kind === "map")
    return { ...value, entries: new Map([...value.entries].filter(([name]) => !names.has(name))) };
  if (value.kind !== "list") return value;
  const items = value.items.filter((item) => item.kind !== "text" || !names.has(item.text.split("=", 1)[0]));
  return { ...value, items };
}

/** By key. */
export const handlers: Readonly<Record<string, Handler>> = {
  build: (_, value, { fields }, where) => {
    fields.refuse(
      value.line,
      where,
      "images are not built here, so that one is named by what is in it",
      "buildah build -t NAME . && buildah push NAME oci:./NAME.oci, then image: ./NAME.oci, or, to keep build for others, x-caisson: { image: ./NAME.oci }",
    );
  },
  cap_add: (service, value, { fields }, where) => {
    for (const { text, line } of fields.texts(value, where)) {
      const name = text.toUpperCase().replace(/^CAP_/, "");
      const known = serviceCapabilities.find((one) => one === name);
      if (known !== undefined) service.capabilities.add.push(known);
      else {
        const reason = name === "ALL" ? "no service has every capability" : capabilityReasons[name];
        const fix = `remove it; there are ${serviceCapabilities.join(", ")}`;
        fields.refuse(line, where, `${name}: ${reason ?? "it is not given to a service"}`, fix);
      }
    }
  },
  cap_drop: (service, value, { fields }, where) => {
    const names: string[] = [];
    for (const { text, line } of fields.texts(value, where)) {
      const name = text.toUpperCase().replace(/^CAP_/, "");
      // A misspelt one would silently stay.
      if (name === "ALL" || linuxCapabilities.includes(name)) names.push(name);
      else fields.refuse(line, where, `${text} is not a capability`, "correct its spelling");
    }
    // What is not given need not be dropped.
    service.capabilities.drop = names.includes("ALL")
      ? "all"
      : serviceCapabilities.filter((name) => names.includes(name));
  },
  cgroup: only(["private"], "each service has a control group of its own"),
  command: set("command", (fields, value, where) => fields.words(value, where)),
  configs: (service, value, { fields, configs }, where) => {
    service.files.push(...readServiceConfigs(fields, value, where, configs));
  },
  container_name: (service, value, { fields }, where) => {
    const name = fields.text(value, where);
    if (name === undefined) return;
    if (hostPattern.test(name.text)) service.links.push({ service: service.name, alias: name.text });
    else fields.refuse(name.line, where, `'${name.text}' is not a host name`);
  },
  cpu_shares: set("cpuWeight", (fields, value, where) => {
    const shares = fields.integer(value, where, 2, 262_144);
    return shares === undefined
      ? undefined
      : Math.min(10_000, Math.max(1, Math.round((shares * 100) / 1024)));
  }),
  cpus,
  depends_on: readDependencies,
  deploy: readDeploy,
  entrypoint: set("entrypoint", (fields, value, where) => fields.words(value, where)),
  env_file: readEnvironmentFiles,
  environment: (service, value, { fields }, where) => {
    const given = new Set(service.secrets.map(({ environment }) => environment));
    for (const { name, value: text, line } of fields.pairs(without(value, given), where)) {
      if (name === "" || name === "__proto__" || name.includes("\0"))
        fields.refuse(line, where, `'${name}' is not the name of a variable`);
      else if (text !== undefined) service.environment[name] = text.text;
      else if (fields.variables.has(name)) service.environment[name] = fields.variables.get(name)!;
      else {
        fields.refuse(
          line,
          `${where}.${name}`,
          "it has no value, and an image does not take one from whoever builds it",
          `${name}: "…", or a value in app.variables of caisson.yaml or in the .env beside this file; ${secretFix(name)}`,
        );
      }
    }
  },
  expose: (_, value, { fields }, where) => {
    for (const { text, line } of fields.texts(value, where)) {
      if (!/^\d{1,5}(-\d{1,5})?(\/(tcp|udp))?$/.test(text))
        fields.refuse(line, where, `'${text}' is not a port`);
    }
  },
  extra_hosts: (service, value, { fields }, where) => {
    for (const { name, value: address, line } of fields.pairs(value, where, /[=:]/)) {
      const ip = address?.text.replace(/^\[(.*)\]$/, "$1") ?? "";
      if (ip === "host-gateway") {
        fields.refuse(line, where, "nothing runs beside the services of this file", "remove it");
      } else if (!hostPattern.test(name) || isIP(ip) === 0) {
        fields.refuse(line, where, `'${name}: ${ip}' is not a host name and its address`, '"name:10.0.0.1"');
      } else service.extraHosts[name] = ip;
    }
  },
  group_add: set("groupAdd", (fields, value, where) => fields.texts(value, where).map(({ text }) => text)),
  healthcheck: set("healthcheck", readHealthcheck),
  hostname: (service, value, { fields }, where) => {
    const name = fields.text(value, where);
    if (name === undefined) return;
    if (hostPattern.test(name.text)) service.hostname = name.text;
    else fields.refuse(name.line, where, `'${name.text}' is not a host name`);
  },
  image: (service, value, { fields }, where) => {
    const image = fields.text(value, where);
    if (image === undefined) return;
    service.image = image.text;
    service.imageLine = image.line;
  },
  init: set("init", (fields, value, where) => fields.boolean(value, where)),
  ipc: only(["private", "shareable", "none"], "each service has System V IPC and shared memory of its own"),
  links: (service, value, { fields }, where) => {
    for (const { text, line } of fields.texts(value, where)) {
      const [name = "", alias = name] = text.split(":");
      service.usedServices.push({ name, line, required: true });
      service.dependsOn[name] ??= { condition: "started", required: true };
      if (!hostPattern.test(alias)) fields.refuse(line, where, `'${alias}' is not a host name`);
      else if (alias !== name) service.links.push({ service: name, alias });
    }
  },
  mem_limit: memory,
  network_mode: (service, value, { fields }, where) => {
    const mode = fields.text(value, where);
    if (mode === undefined || mode.text === "bridge" || mode.text === "default") return;
    if (mode.text === "none") {
      service.networks = {};
      service.usedNetworks = [];
      service.egress = "none";
    } else if (mode.text === "host") {
      fields.refuse(
        mode.line,
        where,
        "the guest's own network belongs to no service",
        "remove it and publish the ports that are to be reached: ports",
      );
    } else {
      fields.refuse(
        mode.line,
        where,
        "each service has a network of its own",
        "remove it; services reach each other by name on the networks that they share",
      );
    }
  },
  networks: readNetworks,
  pid: only([""], "each service sees its own processes alone"),
  pids_limit: pids,
  platform: only(["linux/amd64", "linux/x86_64"], "guests are linux/amd64"),
  ports: (service, value, { fields, notes }, where) => {
    service.published = readPorts(fields, value, where, notes);
    service.ports = service.published.map(({ line: _, ...port }) => port);
  },
  privileged: (_, value, { fields }, where) => {
    if (fields.boolean(value, where) !== true) return;
    fields.refuse(
      value.line,
      where,
      "a privileged service is root of the machine, and could forge what the machine says about itself",
      "remove it; if a single capability is missing, cap_add",
    );
  },
  // Whoever has one that is not empty is left out (`file.ts`).
  profiles: (_, value, { fields }, where) => void fields.texts(value, where),
  read_only: set("readOnly", (fields, value, where) => fields.boolean(value, where)),
  restart: (service, value, { fields }, where) => {
    const text = fields.text(value, where);
    if (text === undefined) return;
    // An unquoted `no` was a boolean in older YAML, and tools write it as such.
    const match = /^(no|false|always|unless-stopped|on-failure(?::(\d{1,6}))?)$/.exec(text.text);
    if (match === null) {
      fields.refuse(
        text.line,
        where,
        `'${text.text}' is not a policy`,
        '"no", always, unless-stopped or on-failure[:N]',
      );
      return;
    }
    const policy = (match[1] === "false" ? "no" : match[1]!.split(":")[0]) as Service["restart"]["policy"];
    const maximum = Number(match[2] ?? 0);
    service.restart = { policy, ...(maximum > 0 && { maximum }) };
  },
  scale: only(["1"], "each service runs once in a guest", "remove it, or write the service out once more"),
  secrets: (service, value, { fields, secrets }, where) => {
    const { key, names } = readServiceSecrets(fields, value, where, secrets);
    if (key) service.key = true;
    const granted = new Set(service.secrets.map(({ name }) => name));
    service.secrets.push(...names.filter((name) => !granted.has(name)).map((name) => ({ name })));
  },
  security_opt: (_, value, { fields }, where) => {
    for (const { text, line } of fields.texts(value, where)) {
      // What is so anyway, and labels of SELinux, which a guest does not have.
      if (/^no-new-privileges(?:[:=]true)?$|^label[:=]/.test(text)) continue;
      fields.refuse(line, where, `'${text}' would change how a service is kept apart`, "remove it");
    }
  },
  shm_size: set("shmSize", (fields, value, where) => fields.size(value, where, 4096, maximumSize)),
  stdin_open: onlyFalse("nothing can be typed into a service"),
  stop_grace_period: set("stopGraceMs", (fields, value, where) => fields.duration(value, where)),
  stop_signal: set("stopSignal", (fields, value, where) => {
    const text = fields.text(value, where);
    if (text === undefined) return undefined;
    const found = stopSignal(text.text);
    return found ?? fields.refuse(text.line, where, `'${text.text}' is not a signal`, stopSignals.join(", "));
  }),
  tmpfs: (service, value, { fields }, where) => {
    service.tmpfs.push(...readTmpfs(fields, value, where));
  },
  tty: onlyFalse("there are no terminals in a guest"),
  ulimits: (service, value, { fields }, where) => {
    for (const [name, { line, value: member }] of fields.map(value, where).entries) {
      const inside = `${where}.${name}`;
      const { soft, hard } =
        member.kind === "map"
          ? fields.record(member, inside, ["soft", "hard"] as const)
          : { soft: member, hard: member };
      const read = (one: Value | undefined, least: number) =>
        one === undefined
          ? fields.refuse(line, inside, "it has soft and hard")
          : fields.integer(one, inside, least, 1_048_576);
      if (name === "nofile") {
        const [low, high] = [read(soft, 1), read(hard, 1)];
        if (low === undefined || high === undefined) continue;
        if (low > high) fields.refuse(line, inside, "soft is above hard");
        else service.nofile = { soft: low, hard: high };
      } else if (name === "core") {
        if (read(hard, 0) !== 0) fields.refuse(line, inside, "no core is ever dumped", "remove it");
      } else if (name === "nproc") {
        fields.refuse(line, inside, "processes are counted by service, not by user", "pids_limit");
      } else fields.refuse(line, inside, "this limit cannot be set", "nofile, or remove it");
    }
  },
  user: set("user", (fields, value, where) => fields.string(value, where)),
  uts: only([""], "each service has a host name of its own"),
  volumes: (service, value, { fields, directory, agent }, where) => {
    const { mounts, tmpfs, files, dstack, named } = readVolumes(fields, value, where, directory, agent);
    service.dstack.push(...dstack);
    service.mounts.push(...mounts);
    service.tmpfs.push(...tmpfs);
    service.files.push(...files);
    service.usedVolumes.push(...named);
  },
  working_dir: (service, value, { fields }, where) => {
    const path = fields.text(value, where);
    if (path === undefined) return;
    if (path.text.startsWith("/")) service.workingDirectory = path.text;
    else fields.refuse(path.line, where, `'${path.text}' is not an absolute path`);
  },
};

/** Where nothing means the image's own. */
export const mayBeEmpty: readonly string[] = ["command", "entrypoint", "deploy"];

/** Keys of a service that are honoured. */
export const serviceKeys: readonly string[] = Object.keys(handlers);

function readEnvironmentFiles(service: ReadService, value: Value, around: Around, where: string): void {
  const { fields } = around;
  const files = value.kind === "list" ? value.items : [value];
  for (const file of files) {
    if (file.kind !== "map") {
      const path = fields.text(file, where);
      if (path === undefined) continue;
      const found = around.environmentFile(path.text, false, true, path.line, where);
      Object.assign(service.environment, Object.fromEntries(found));
      continue;
    }
    const found = fields.record(file, where, ["path", "required", "format"] as const);
    const path = found.path && fields.string(found.path, `${where}.path`);
    const required = (found.required && fields.boolean(found.required, `${where}.required`)) ?? true;
    const format = found.format && fields.choice(found.format, `${where}.format`, ["raw"]);
    if (path === undefined) {
      if (found.path === undefined) fields.refuse(file.line, where, "it names no path");
      continue;
    }
    const variables = around.environmentFile(path, format === "raw", required, file.line, where);
    Object.assign(service.environment, Object.fromEntries(variables));
  }
}
