/** What a spec wants to run: one image, or the services of its compose file, each with its image's name. */
import { dirname } from "node:path";
import { ImageError } from "../errors.ts";
import { type ImageReference, parseReference } from "../oci/reference.ts";
import type { Composition } from "./compose/composition.ts";
import { readComposeFile } from "./compose/file.ts";
import { Problems } from "./compose/problems.ts";
import type { Spec } from "./spec.ts";

/** Where an image comes from: `oci/open.ts` reads a reference, Caisson makes the image of a JavaScript file. */
export type ImageSource = { kind: "image"; reference: ImageReference } | { kind: "node"; entry: string };

export interface Workload {
  /** Missing: one service, of the spec's own name. */
  composition?: Composition;
  /** By service. */
  images: ReadonlyMap<string, ImageSource>;
}

/** Errors: ImageError `compose/unreadable`, `compose/syntax`, `compose/refused`. */
export function readWorkload({ name, app: { source, variables, api } }: Spec): Workload {
  if (source.kind !== "compose") return { images: new Map([[name, source]]) };
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
