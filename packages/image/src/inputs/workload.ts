// SPDX-License-Identifier: Apache-2.0
/**
 * What a spec wants to run: one JavaScript application or image, or the services of its compose file, each with its
 * image's name. An image by itself is one service as a compose file would have it, unless its root is to be read-only.
 */
import { dirname } from "node:path";
import type { Service } from "@caisson/protocol/guest-config";
import { ImageError } from "../errors.ts";
import { type ImageReference, parseReference } from "../oci/reference.ts";
import { type ComposedService, type Composition, plainService } from "./compose/composition.ts";
import { readComposeFile } from "./compose/file.ts";
import { Problems } from "./compose/problems.ts";
import type { App, Spec } from "./spec.ts";

/** Where an image comes from: `oci/open.ts` reads a reference, Caisson makes the image of a JavaScript file. */
export type ImageSource = { kind: "image"; reference: ImageReference } | { kind: "node"; entry: string };

export interface Workload {
  /** Missing: one plain service, of the spec's own name. */
  composition?: Composition;
  /** By service. */
  images: ReadonlyMap<string, ImageSource>;
}

/** One service of this name without a compose file: what `app` says of it, and the specification's defaults. */
export function singleService(
  name: string,
  path: string,
  app: Pick<App, "environment" | "arguments" | "port" | "secrets"> &
    Partial<Pick<App, "volumes" | "readOnly">>,
): Composition {
  const { volumes = {} } = app;
  const service: ComposedService = {
    ...plainService(name, 0),
    ...(app.arguments && { command: app.arguments }),
    environment: app.environment,
    ...(app.readOnly === true && { readOnly: true }),
    ports: app.port === undefined ? [] : [{ protocol: "tcp", published: app.port, target: app.port }],
    mounts: mountsOf(volumes),
    socket: true,
    key: true,
    ...(app.secrets && { secrets: app.secrets }),
  };
  const networks = { default: { internal: false } };
  return {
    path,
    services: new Map([[name, service]]),
    networks,
    volumes: Object.fromEntries(Object.keys(volumes).map((volume) => [volume, {}])),
    notes: [],
  };
}

/** Where one service sees volumes: each begins with what its image has there. */
export const mountsOf = (volumes: NonNullable<App["volumes"]>): Service["mounts"] =>
  Object.entries(volumes).map(([volume, target]) => ({ volume, target, readOnly: false, copyUp: true }));

/** Errors: ImageError `compose/unreadable`, `compose/syntax`, `compose/refused`. */
export function readWorkload({ name, path, app, front }: Spec): Workload {
  const { source, variables, api } = app;
  if (source.kind !== "compose") {
    // Behind a front a service has a network of its own: nothing else keeps others from its port.
    const contained = front !== undefined || (source.kind === "image" && app.readOnly !== true);
    return {
      ...(contained && { composition: singleService(name, path, app) }),
      images: new Map([[name, source]]),
    };
  }
  const composition = readComposeFile(source.path, new Map(Object.entries(variables)), api === "dstack");
  return { composition, images: imagesOf(composition) };
}

/** The images of a compose file. Throws ImageError `compose/refused` that names every bad one. */
export function imagesOf({ path, services }: Composition): Workload["images"] {
  const problems = new Problems();
  const images = new Map<string, ImageSource>();
  for (const { name, image, imageLine, node } of services.values()) {
    if (node !== undefined) {
      images.set(name, { kind: "node", entry: node });
      continue;
    }
    try {
      images.set(name, { kind: "image", reference: parseReference(image, dirname(path)) });
    } catch (error) {
      const { message, fix } = error as ImageError;
      problems.add(imageLine, `services.${name}.image`, message, fix);
    }
  }
  problems.raise(path);
  return images;
}

/** Every image that has a name of its own: what a lock may have to pin. */
export const referencesOf = ({ images }: Workload): ImageReference[] =>
  [...images.values()].flatMap((source) => (source.kind === "image" ? source.reference : []));
