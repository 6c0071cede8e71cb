/** One service of a compose file (Compose Specification, 05-services.md). */
import { isIP } from "node:net";
import { resolve } from "node:path";
import { rootCapabilities, type Service, stopSignals } from "@caisson/protocol/guest-config";
import type { ComposedService, Note } from "./composition.ts";
import { type Configs, readServiceConfigs, readServiceSecrets } from "./configs.ts";
import type { MapValue, Value } from "./document.ts";
import type { Fields } from "./fields.ts";
import { readHealthcheck } from "./healthcheck.ts";
import { hostPattern } from "./names.ts";
import { type PublishedPort, readPorts } from "./ports.ts";
import { capabilityReasons, inertKeys, refusedKeys } from "./refusals.ts";
import { readTmpfs, readVolumes } from "./volumes.ts";

/** A service as its own lines say it; what needs the other services is checked by `file.ts`. */
export interface ReadService extends ComposedService {
  /** With their lines. */
  published: PublishedPort[];
  usedVolumes: { name: string; line: number }[];
  usedNetworks: { name: string; line: number }[];
  usedServices: { name: string; line: number; required: boolean }[];
  /** Names that others are given for a service: `links`. */
  links: { service: string; alias: string }[];
}

/** What a service needs of the file around it. */
export interface Around {
  fields: Fields;
  /** Absolute directory of the file. */
  directory: string;
  /** Whether services may have the sockets of dstack's guest agent. */
  agent: boolean;
  configs: Configs;
  secrets: ReadonlySet<string>;
  notes: Note[];
  /** Variables of an `env_file`; undefined when it cannot be read, which has been said. */
  environmentFile(
    path: string,
    raw: boolean,
    required: boolean,
    line: number,
    where: string,
  ): ReadonlyMap<string, string>;
}

const GiB = 2 ** 30;

/** Every key that is read, with what it does. `where` is the path of the key. */
type Handler = (service: ReadService, value: Value, around: Around, where: string) => void;

const set =
  <K extends keyof ReadService>(
    key: K,
    read: (fields: Fields, value: Value, where: string) => ReadService[K] | undefined,
  ): Handler =>
  (service, value, { fields }, where) => {
    const found = read(fields, value, where);
    if (found !== undefined) service[key] = found;
  };

/** Refuses every value but those that say what is so anyway. */
const only =
  (allowed: readonly string[], reason: string, fix = "remove it"): Handler =>
  (_, value, { fields }, where) => {
    const text = fields.text(value, where);
    if (text !== undefined && !allowed.includes(text.text)) fields.refuse(text.line, where, reason, fix);
  };

/** A limit that can be said in two places, which have to agree. */
const limit =
  (
    key: "memory" | "pids",
    read: (fields: Fields, value: Value, where: string) => number | undefined,
  ): Handler =>
  (service, value, { fields }, where) => {
    const found = read(fields, value, where);
    if (found === undefined) return;
    if (service[key] !== undefined && service[key] !== found) {
      fields.refuse(value.line, where, "another line gives another limit", "say it once");
    } else service[key] = found;
  };
const memory = limit("memory", (fields, value, where) => fields.size(value, where, 6 * 2 ** 20, 1024 * GiB));
const pids = limit("pids", (fields, value, where) => fields.integer(value, where, 1, 32_768));

const handlers: Readonly<Record<string, Handler>> = {
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
      const known = rootCapabilities.find((one) => one === name);
      if (known !== undefined) service.capabilities.add.push(known);
      else {
        const reason = name === "ALL" ? "no service has every capability" : capabilityReasons[name];
        const fix = `remove it; there are ${rootCapabilities.join(", ")}`;
        fields.refuse(line, where, `${name}: ${reason ?? "it is not given to a service"}`, fix);
      }
    }
  },
  cap_drop: (service, value, { fields }, where) => {
    const names = fields.texts(value, where).map(({ text }) => text.toUpperCase().replace(/^CAP_/, ""));
    // What is not given need not be dropped.
    service.capabilities.drop = names.includes("ALL")
      ? "all"
      : rootCapabilities.filter((name) => names.includes(name));
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
  depends_on: readDependencies,
  deploy: readDeploy,
  entrypoint: set("entrypoint", (fields, value, where) => fields.words(value, where)),
  env_file: readEnvironmentFiles,
  environment: (service, value, { fields }, where) => {
    for (const { name, value: text, line } of fields.pairs(value, where)) {
      if (name === "" || name === "__proto__" || name.includes("\0"))
        fields.refuse(line, where, `'${name}' is not the name of a variable`);
      else if (text !== undefined) service.environment[name] = text.text;
      else if (fields.variables.has(name)) service.environment[name] = fields.variables.get(name)!;
      else {
        fields.refuse(
          line,
          `${where}.${name}`,
          "it has no value, and an image does not take one from whoever builds it",
          `${name}: "…", or a value in app.variables of caisson.yaml or in the .env beside this file`,
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
  init: onlyFalse(
    "no first process of ours reaps a service's orphans",
    "remove it, or start the command with the image's own tini",
  ),
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
    if (readServiceSecrets(fields, value, where, secrets)) service.key = true;
  },
  security_opt: (_, value, { fields }, where) => {
    for (const { text, line } of fields.texts(value, where)) {
      // What is so anyway, and labels of SELinux, which a guest does not have.
      if (/^no-new-privileges(?:[:=]true)?$|^label[:=]/.test(text)) continue;
      fields.refuse(line, where, `'${text}' would change how a service is kept apart`, "remove it");
    }
  },
  shm_size: set("shmSize", (fields, value, where) => fields.size(value, where, 4096, 1024 * GiB)),
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
const mayBeEmpty: readonly string[] = ["command", "entrypoint", "deploy"];

/** Keys of a service that are honoured. */
export const serviceKeys: readonly string[] = Object.keys(handlers);

function onlyFalse(reason: string, fix = "remove it"): Handler {
  return (_, value, { fields }, where) => {
    if (fields.boolean(value, where) === true) fields.refuse(value.line, where, reason, fix);
  };
}

/** "TERM", "SIGTERM" or "15". */
export function stopSignal(text: string): Service["stopSignal"] | undefined {
  const numbers: Record<string, string> = {
    1: "HUP",
    2: "INT",
    3: "QUIT",
    9: "KILL",
    10: "USR1",
    12: "USR2",
    15: "TERM",
    28: "WINCH",
  };
  const name = `SIG${(numbers[text] ?? text.toUpperCase()).replace(/^SIG/, "")}`;
  return stopSignals.find((one) => one === name);
}

const conditions = {
  service_started: "started",
  service_healthy: "healthy",
  service_completed_successfully: "completed",
} as const;

function readDependencies(service: ReadService, value: Value, { fields }: Around, where: string): void {
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

function readNetworks(service: ReadService, value: Value, { fields }: Around, where: string): void {
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

function readDeploy(service: ReadService, value: Value, around: Around, where: string): void {
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
      const limits = fields.record(resources.limits, `${inside}.limits`, ["memory", "pids"] as const, {
        cpus: refusedKeys.cpus!,
      });
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

/** `x-caisson`: what Compose has no word for. */
function readExtension(
  service: ReadService,
  value: Value,
  { fields, directory }: Around,
  where: string,
): void {
  const found = fields.record(value, where, ["image", "node", "egress", "socket", "layer"] as const);
  const node = found.node && fields.text(found.node, `${where}.node`);
  if (node !== undefined) {
    if (/^\.{1,2}\/.*\.m?js$/.test(node.text)) service.node = resolve(directory, node.text);
    else fields.refuse(node.line, `${where}.node`, "name a JavaScript file (./….mjs)");
  }
  if (node !== undefined && service.image !== "") {
    fields.refuse(node.line, `${where}.node`, "the service has an image, too", "name one of them");
  }
  const image = found.image && fields.text(found.image, `${where}.image`);
  if (image !== undefined) {
    service.image = image.text;
    service.imageLine = image.line;
  }
  if (found.socket !== undefined) service.socket = fields.boolean(found.socket, `${where}.socket`) ?? false;
  const layer = found.layer && fields.size(found.layer, `${where}.layer`, 2 ** 20, 1024 * GiB);
  if (layer !== undefined) service.layerSize = layer;
  if (found.egress === undefined) return;
  const inside = `${where}.egress`;
  if (found.egress.kind !== "list") {
    service.egress = fields.choice(found.egress, inside, ["all", "none"] as const) ?? "all";
    return;
  }
  const to = fields.texts(found.egress, inside);
  for (const { text, line } of to) {
    if (!/^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?:\d{1,5}$/.test(text)) {
      fields.refuse(line, inside, `'${text}' is not a name and its port`, "api.example.org:443");
    }
  }
  service.egress = { to: to.map(({ text }) => text) };
}

/** Reads a service; what is wrong is said to `around.fields.problems`. */
export function readService(name: string, line: number, value: MapValue, around: Around): ReadService {
  const where = `services.${name}`;
  const { fields, notes } = around;
  const service: ReadService = {
    name,
    line,
    image: "",
    imageLine: line,
    environment: {},
    groupAdd: [],
    readOnly: false,
    tmpfs: [],
    mounts: [],
    files: [],
    capabilities: { add: [], drop: [] },
    hostname: name,
    networks: { default: { aliases: [] } },
    extraHosts: {},
    ports: [],
    egress: "all",
    dependsOn: {},
    restart: { policy: "no" },
    stopGraceMs: 10_000,
    socket: false,
    key: false,
    dstack: [],
    published: [],
    usedVolumes: [],
    usedNetworks: [{ name: "default", line }],
    usedServices: [],
    links: [],
  };
  const extension = value.entries.get("x-caisson")?.value;
  const replaces = (key: string) => extension?.kind === "map" && extension.entries.has(key);
  // Whatever the order in the file: what stands in the service wins over its files of variables.
  const entries = [...value.entries].sort(([a], [b]) => Number(b === "env_file") - Number(a === "env_file"));
  for (const [key, { line: keyLine, value: member }] of entries) {
    const at = `${where}.${key}`;
    if (key === "x-caisson" || (key === "build" && replaces("image"))) continue;
    if (key.startsWith("x-")) continue;
    if (member.kind === "nothing" && Object.hasOwn(handlers, key)) {
      if (!mayBeEmpty.includes(key))
        fields.refuse(keyLine, at, "it says nothing", "give it a value, or remove it");
    } else if (Object.hasOwn(handlers, key)) handlers[key]!(service, member, around, at);
    else if (Object.hasOwn(refusedKeys, key)) fields.refuse(keyLine, at, ...refusedKeys[key]!);
    else if (Object.hasOwn(inertKeys, key)) notes.push({ line: keyLine, where: at, text: inertKeys[key]! });
    else
      fields.refuse(
        keyLine,
        at,
        "Compose has no such key for a service",
        "correct its spelling, or remove it",
      );
  }
  if (value.entries.has("network_mode") && value.entries.has("networks")) {
    fields.refuse(
      value.entries.get("network_mode")!.line,
      where,
      "network_mode and networks exclude each other",
    );
  }
  if (extension !== undefined) readExtension(service, extension, around, `${where}.x-caisson`);
  if (
    service.image === "" &&
    !["build", "image"].some((key) => value.entries.has(key)) &&
    !replaces("node")
  ) {
    fields.refuse(line, where, "it has no image", "image: NAME:TAG, or image: ./LAYOUT");
  }
  checkTargets(fields, service, where);
  return service;
}

/** Nothing is mounted over another mount of the same path. */
function checkTargets(fields: Fields, service: ReadService, where: string): void {
  const { line, mounts, tmpfs, files, dstack } = service;
  const seen = new Set<string>();
  for (const { target } of [...mounts, ...tmpfs, ...files, ...dstack]) {
    if (seen.has(target)) fields.refuse(line, where, `two things are mounted at ${target}`, "mount one");
    seen.add(target);
  }
}
