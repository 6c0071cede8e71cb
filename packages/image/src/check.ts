// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson check`: what will run of a spec, a compose file or an image, and what it costs in isolation, before anything
 * is pinned or built. Of images only their configuration is read; registries are asked what tags mean now.
 */
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { FrontDescription } from "@caisson/protocol/guest-config";
import { frontOf, withPersistent } from "./build/application.ts";
import { ImageError } from "./errors.ts";
import type { ComposedService, Composition } from "./inputs/compose/composition.ts";
import { readComposeFile } from "./inputs/compose/file.ts";
import { composeNames, readSpec, type Spec } from "./inputs/spec.ts";
import {
  type ImageSource,
  imagesOf,
  mountsOf,
  readWorkload,
  singleService,
  type Workload,
} from "./inputs/workload.ts";
import type { OciConfig } from "./oci/documents.ts";
import { packageLeftOutside } from "./oci/node-image.ts";
import { describeImage, pinImages } from "./oci/open.ts";
import { formatReference, parseReference } from "./oci/reference.ts";

/** What stops a service, what it gives up, what is worth knowing, and what was not seen; `change` would alter it. */
export interface Finding {
  kind: "fault" | "cost" | "note" | "unknown";
  text: string;
  line?: number;
  change?: string;
}

export interface ServiceReport {
  name: string;
  image: string;
  /** "sha256:…"; undefined when the image could not be looked at, which a finding says. */
  digest?: string;
  isolation: "plain" | "contained";
  findings: Finding[];
}

export interface CheckReport {
  subject: string;
  services: ServiceReport[];
  /** What concerns no service alone. */
  findings: Finding[];
}

export interface CheckOptions {
  /** The cache directory. */
  cache: string;
  /** Where credentials and mirrors of registries are looked up. */
  environment: NodeJS.ProcessEnv;
}

/** What is checked; without a spec nothing is said about a front and persistent volumes. */
interface Subject extends Workload {
  spec?: Spec;
}

/** What `subject` names: a spec or a directory with one, a compose file, or an image. */
async function subjectOf(subject: string): Promise<Subject> {
  const path = resolve(subject);
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() === true) {
    for (const name of ["caisson.yaml", ...composeNames]) {
      if ((await stat(join(path, name)).catch(() => undefined))?.isFile() === true)
        return subjectOf(join(path, name));
    }
  }
  if (found?.isFile() === true && /\.ya?ml$/.test(path)) {
    // Every spec has `app`, and no compose file does; one that lacks it by a mistake is known by its name.
    if (basename(path) === "caisson.yaml" || /^app:/m.test(await readFile(path, "utf8"))) {
      const spec = await readSpec(path);
      return { ...readWorkload(spec), spec };
    }
    const composition = readComposeFile(path);
    return { composition, images: imagesOf(composition) };
  }
  const text = found === undefined || /^\.{0,2}\//.test(subject) ? subject : `./${subject}`;
  const reference = parseReference(text, process.cwd());
  const name = reference.kind === "local" ? basename(reference.path) : basename(reference.repository);
  const composition = singleService(name, subject, { environment: {} });
  return { composition, images: new Map([[name, { kind: "image", reference }]]) };
}

/** Errors: ImageError of specs, compose files and references: what cannot run at all. */
export async function check(subject: string, options: CheckOptions): Promise<CheckReport> {
  const { composition, images, spec } = await subjectOf(subject);
  const refused: Finding[] = [];
  const front = attempt(refused, () => frontBefore(composition, spec));
  attempt(refused, () => checkVolumes(composition, spec));
  const services: ServiceReport[] = [];
  for (const [name, source] of images) {
    const report = await checkService(name, source, composition, options);
    const own = composition?.services.get(name);
    if (own !== undefined) report.findings.push(...reachability(own, spec?.front, front));
    services.push(report);
  }
  const contained = services.some(({ isolation }) => isolation === "contained");
  const findings: Finding[] = (composition?.notes ?? []).map(({ line, where, text }) => ({
    kind: "note",
    line,
    text: `${where}: ${text}`,
  }));
  if (contained) {
    findings.push({
      kind: "cost",
      text: "the guest's kernel has user namespaces, overlay file systems, virtual networks and NAT, which one plain service does without",
    });
  }
  findings.push(...volumeFindings(composition, spec), ...refused);
  return { subject, services, findings };
}

/** Which volumes outlive the machine, and which do not. */
function volumeFindings(
  composition: Composition | undefined,
  { volumes = {} }: Partial<Spec> = {},
): Finding[] {
  const persistent = Object.keys(volumes);
  const others = Object.keys(composition?.volumes ?? {}).filter((name) => !persistent.includes(name));
  const finding = (names: string[], text: string, change?: string): Finding[] =>
    names.length === 0
      ? []
      : [{ kind: "note", text: `volumes ${text}: ${names.join(", ")}`, ...(change && { change }) }];
  return [
    ...finding(persistent, "that outlive the machine, encrypted to it"),
    ...finding(
      others,
      "in memory, which end with the machine",
      `volumes: { ${others[0]}: { size: 1GiB } } in caisson.yaml`,
    ),
  ];
}

/** What a build refuses whatever the images are becomes a fault of the report. */
function attempt<Result>(faults: Finding[], work: () => Result): Result | undefined {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const { message: text, fix } = error;
    faults.push({ kind: "fault", text, ...(fix !== undefined && { change: fix }) });
    return undefined;
  }
}

/** Behind a front there is always a composition. */
function frontBefore(
  composition: Composition | undefined,
  spec: Spec | undefined,
): FrontDescription | undefined {
  if (spec?.front === undefined || composition === undefined) return undefined;
  const services = [...composition.services].map(
    ([name, { ports, dstack }]) => [name, { ports, ...(dstack.length > 0 && { dstack }) }] as const,
  );
  return frontOf(spec.front, Object.fromEntries(services), spec.path);
}

function checkVolumes(composition: Composition | undefined, spec: Spec | undefined): void {
  if (spec === undefined) return;
  const services = composition
    ? Object.fromEntries(composition.services)
    : { [spec.name]: { mounts: mountsOf(spec.app.volumes ?? {}) } };
  withPersistent(spec, composition?.volumes ?? {}, services);
}

/** Where a service is reached from outside: at its published ports, or through the front. */
function reachability(
  { name, line, ports }: ComposedService,
  spec: Spec["front"],
  front: FrontDescription | undefined,
): Finding[] {
  return ports.map(({ protocol, published, target }) => {
    const finding = { kind: "note", ...(line > 0 && { line }) } as const;
    if (front?.service === name && front.target === target && protocol === "tcp") {
      return {
        ...finding,
        text: `reached from outside at ${front.port}/tcp, through the front; inside ${target}`,
      };
    }
    if (spec !== undefined && !spec.direct.includes(published)) {
      const change = `front.direct: [${published}], to reach it beside the front`;
      return { ...finding, text: `${published}/${protocol} is not reached from outside`, change };
    }
    const inside = published === target ? "" : `, inside ${target}`;
    return { ...finding, text: `reached from outside at ${published}/${protocol}${inside}` };
  });
}

async function checkService(
  name: string,
  source: ImageSource,
  composition: Composition | undefined,
  options: CheckOptions,
): Promise<ServiceReport> {
  const own = composition?.services.get(name);
  const image = source.kind === "node" ? source.entry : formatReference(source.reference);
  const report: ServiceReport = {
    name,
    image,
    isolation: own === undefined ? "plain" : "contained",
    findings: [],
  };
  if (source.kind === "node") {
    if (own !== undefined) report.findings = composedFindings(own, nodeConfig, composition!);
    const outside = packageLeftOutside(source.entry);
    if (outside !== undefined) {
      report.findings.push({
        kind: "note",
        text: `${outside} is imported, and stays outside of the image, which has ${dirname(source.entry)} and nothing above it`,
        change: "name an entry beside node_modules, or a bundle",
      });
    }
    return report;
  }
  try {
    const lock = { images: await pinImages([source.reference], options) };
    const { digest, config } = await describeImage(source.reference, lock, options);
    report.digest = digest;
    report.findings = own === undefined ? plainFindings(config) : composedFindings(own, config, composition!);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    // Who cannot be asked says nothing about the image.
    const unknown = /^(?:fetch\/|oci\/(?:registry|credentials)$)/.test(error.code);
    report.findings.push({
      kind: unknown ? "unknown" : "fault",
      text: unknown ? `the image was not looked at: ${error.message}` : error.message,
      ...(own && own.imageLine > 0 && { line: own.imageLine }),
      ...(error.fix !== undefined && { change: error.fix }),
    });
  }
  return report;
}

/** Of the images that Caisson makes (`oci/node-image.ts`). */
const nodeConfig = { user: "65532:65532", exposedPorts: [] };

const isRoot = (user: string): boolean => /^(?:|root|0+)(?::|$)/.test(user);

/** With `read_only`, one image by itself runs as a plain service: never as root. */
function plainFindings(config: OciConfig): Finding[] {
  const findings: Finding[] = [];
  if (isRoot(config.user)) {
    findings.push({
      kind: "note",
      text: "the image starts as root, and runs as 65532 here: an entry point that changes owners or users fails",
      change: "read_only: false: then it is root of a user namespace of its own",
    });
  }
  for (const path of config.volumes) {
    findings.push({
      kind: "note",
      text: `the image writes to ${path}, and its root is read-only here`,
      change: "read_only: false: then it has a writable layer and volumes",
    });
  }
  return findings;
}

/** Without a compose file there is no line, and the keys to change are the spec's. */
const isAlone = (service: ComposedService): boolean => service.line === 0;
const lineOf = (service: ComposedService) => (isAlone(service) ? {} : { line: service.line });

function composedFindings(
  service: ComposedService,
  config: Pick<OciConfig, "user" | "exposedPorts">,
  composition: Composition,
): Finding[] {
  return [...rightsOf(service, config), ...reachOf(service, config, composition)];
}

/** What a contained service may do that it might not need, and the key that takes it away. */
function rightsOf(service: ComposedService, config: Pick<OciConfig, "user">): Finding[] {
  const alone = isAlone(service);
  const findings: Finding[] = [];
  const cost = (text: string, inCompose: string, inSpec = inCompose): void =>
    void findings.push({ kind: "cost", ...lineOf(service), text, change: alone ? inSpec : inCompose });
  if (isRoot(service.user ?? config.user)) {
    cost(
      "starts as root of a user namespace of its own",
      'user: "UID:GID", if the image can do without; or cap_drop: [ALL] and cap_add of what it needs',
      "an image whose USER is another, if it can do without",
    );
  }
  if (service.capabilities.add.includes("NET_RAW"))
    cost("may send packets that it made itself", "no NET_RAW in cap_add; ping works without it");
  if (service.capabilities.add.includes("SYS_CHROOT"))
    cost(
      "may call chroot",
      "no SYS_CHROOT in cap_add, unless it runs sshd or another server that asks for it",
    );
  if (!service.readOnly)
    cost(
      "its root has a writable layer in memory",
      "read_only: true, with volumes and tmpfs where it writes",
      "app.read_only: true, with app.volumes where it writes",
    );
  if (service.tmpfs.some(({ executable }) => executable))
    cost("may run programs that it wrote", "tmpfs without exec");
  if (service.egress === "all")
    cost(
      "may connect to anywhere",
      "x-caisson: { egress: none }, or a list of name:port",
      "a compose file, with x-caisson: { egress: none }, or a list of name:port",
    );
  if (service.key && !alone)
    cost("sees the application's key", "no secrets: [caisson-key], if another service can answer for it");
  return findings;
}

/** What does not reach it, what it reaches beside it, and whether it reaches anything outside. */
function reachOf(
  service: ComposedService,
  config: Pick<OciConfig, "exposedPorts">,
  { networks, services }: Composition,
): Finding[] {
  const findings: Finding[] = [];
  const note = (text: string): void => void findings.push({ kind: "note", ...lineOf(service), text });
  const open = config.exposedPorts.filter(
    (port) => !service.ports.some(({ target, protocol }) => port === `${target}/${protocol}`),
  );
  if (open.length > 0) note(`${open.join(", ")} of its image is not reached from outside`);
  const beside = [...services.values()].filter(
    ({ name, networks: theirs }) =>
      name !== service.name && Object.keys(theirs).some((one) => Object.hasOwn(service.networks, one)),
  );
  if (beside.length > 0) note(`reaches ${beside.map(({ name }) => name).join(", ")}`);
  if (Object.keys(service.networks).every((one) => networks[one]?.internal === true)) {
    note("connects to nothing outside");
  }
  return findings;
}
