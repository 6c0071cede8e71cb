// SPDX-License-Identifier: Apache-2.0
/** Where everything of a service lies, by its name: its root, bundle, control group and what is made for it. Pure. */
import { realpathSync } from "node:fs";
import { join } from "node:path";
import type { Service } from "@caisson/protocol/guest-config";

/** The first id outside that is somebody inside, and how many each service has. */
export const firstId = 100_000;
export const idCount = 65_536;

/**
 * Where a path of an image's root lies; undefined when it is not there, or a link leads out of the root: PID 1 follows
 * links from its own root, and an image may have any.
 */
export function insideRoot(root: string, path: string): string | undefined {
  try {
    const real = realpathSync(join(root, path));
    return real.startsWith(`${root}/`) ? real : undefined;
  } catch {
    return undefined;
  }
}

export interface Place {
  name: string;
  /** Below /run, passable and not readable for others: crun passes it as the service's root user. */
  directory: string;
  /** crun's bundle: its configuration. */
  bundle: string;
  /** The image's root with the service's ids; the writable layer; both together. */
  lower: string;
  layer: string;
  root: string;
  /** Directory of its control group. */
  controlGroup: string;
  /** Its name to crun. */
  id: string;
  /** The socket of `api.ts`, and its key. */
  socket: string;
  key: string;
}

export function placeOf(name: string, { isolation }: Pick<Service, "isolation">): Place {
  const directory = join("/run/services", name);
  // There is one plain service at most, and it is the application.
  const own = isolation === "plain" ? "app" : name;
  return {
    name,
    directory,
    bundle: join(directory, "bundle"),
    lower: join(directory, "lower"),
    layer: join(directory, "layer"),
    root: join(directory, "root"),
    controlGroup: join("/sys/fs/cgroup", `service-${name}`),
    id: name,
    socket: `/run/caisson/${own}.sock`,
    key: `/run/caisson/${own}-key`,
  };
}

/** What an id of the service's is outside of it. */
export const outsideId = ({ isolation, range }: Service, id: number): number =>
  isolation === "plain" ? id : firstId + range * idCount + id;
