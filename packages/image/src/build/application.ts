/**
 * The application as it is measured: what the spec and the OCI image's own configuration say, made explicit. Nothing
 * is left for the guest to look up: the program is an absolute path, user and group are numbers.
 */
import { posix } from "node:path";
import type { AppDescription } from "@caisson/protocol/guest-config";
import { ImageError } from "../errors.ts";
import type { Spec } from "../inputs/spec.ts";
import type { OciImage } from "../oci/oci.ts";
import { bytesOf } from "./content.ts";
import { applicationRoot } from "./rootfs.ts";
import { type DirectoryNode, lookup, type Node } from "./tree.ts";

const MiB = 2 ** 20;

/** Who the application is when its image says nothing or root: the sandbox has no root. */
const nobody = { user: 65_532, group: 65_532 };

/** Throws ImageError `app/program`, `app/user`. */
export function describeApplication(spec: Spec, image: OciImage): AppDescription {
  const { app } = spec;
  const { config, tree } = image;
  const environment = { ...config.environment, ...app.environment };
  const [program, ...rest] = [...config.entrypoint, ...(app.arguments ?? config.command)];
  if (program === undefined) {
    throw new ImageError("app/program", `the image ${image.digest} says no program to run`, {
      fix: "set app.arguments in the spec",
    });
  }
  const workingDirectory = config.workingDirectory === "" ? "/" : config.workingDirectory;
  return {
    name: spec.name,
    services: {
      [spec.name]: {
        image: image.digest.replace(/^sha256:/, ""),
        root: applicationRoot,
        isolation: "plain",
        range: 0,
        arguments: [findProgram(tree, program, workingDirectory, environment.PATH), ...rest],
        environment,
        workingDirectory,
        ...findUser(tree, config.user),
        additionalGroups: [],
        readOnly: true,
        layerSize: MiB,
        tmpfs: [],
        mounts: [],
        files: [],
        capabilities: [],
        memory: app.memory,
        pids: app.pids,
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
        init: false,
        socket: true,
        key: true,
      },
    },
    networks: {},
    volumes: {},
  };
}

/** Follows symlinks inside the tree, as the sandbox will; undefined when nothing is there. */
function follow(tree: DirectoryNode, path: string): Node | undefined {
  let rest = path.split("/").filter((part) => part !== "");
  let at: string[] = [];
  let links = 0;
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    if (part === ".") continue;
    if (part === "..") {
      at.pop();
      continue;
    }
    const node = lookup(tree, [...at, part].join("/"));
    if (node?.kind !== "symlink") {
      if (node === undefined) return undefined;
      at.push(part);
      continue;
    }
    if (++links > 40) return undefined;
    if (node.target.startsWith("/")) at = [];
    rest = [...node.target.split("/").filter((piece) => piece !== ""), ...rest];
  }
  return lookup(tree, at.join("/"));
}

/** The absolute path of a program, found as execvp(3) would: by `PATH` when its name has no slash. */
function findProgram(
  tree: DirectoryNode,
  program: string,
  directory: string,
  path: string | undefined,
): string {
  const candidates = program.includes("/")
    ? [posix.resolve(directory, program)]
    : (path ?? "/usr/local/bin:/usr/bin:/bin").split(":").map((place) => posix.resolve("/", place, program));
  for (const candidate of candidates) {
    const node = follow(tree, candidate);
    if (node?.kind === "file" && (node.mode & 0o111) !== 0) return candidate;
  }
  throw new ImageError("app/program", `the image has no program '${program}'`, {
    facts: [["looked at", candidates.join(", ")]],
    fix: "set app.arguments in the spec",
  });
}

/** The `id` of `name` in a file like /etc/passwd (column 3), and the number in column 4. */
function findAccount(
  tree: DirectoryNode,
  file: string,
  name: string,
): [id: number, group: number] | undefined {
  const node = follow(tree, file);
  if (node?.kind !== "file") return undefined;
  const line = Buffer.from(bytesOf(node.content))
    .toString()
    .split("\n")
    .map((text) => text.split(":"))
    .find(([first]) => first === name);
  return line === undefined ? undefined : [Number(line[2]), Number(line[3])];
}

/** "", "user", "uid", "user:group", "uid:gid" as numbers; root becomes nobody (OCI image-spec, config, `User`). */
function findUser(tree: DirectoryNode, text: string): { user: number; group: number } {
  const [userText = "", groupText] = text.split(":");
  const number = (value: string) => (/^\d{1,9}$/.test(value) ? Number(value) : undefined);
  const account = findAccount(tree, "/etc/passwd", userText);
  const user = userText === "" || userText === "root" ? 0 : (number(userText) ?? account?.[0]);
  if (user === 0) return nobody;
  const group =
    groupText === undefined
      ? (account?.[1] ?? user)
      : (number(groupText) ?? findAccount(tree, "/etc/group", groupText)?.[0]);
  const valid = (id: number | undefined) => id !== undefined && id >= 1 && id <= 65_533;
  if (!valid(user) || !valid(group)) {
    throw new ImageError(
      "app/user",
      `the image wants to run as '${text}', which is no user between 1 and 65533`,
    );
  }
  return { user: user!, group: group! };
}
