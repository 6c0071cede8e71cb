// SPDX-License-Identifier: Apache-2.0
/** `x-caisson` of a service: what Compose has no word for. */
import { resolve } from "node:path";
import { isInside, moveInside } from "../inside.ts";
import { secretName } from "./configs.ts";
import type { Value } from "./document.ts";
import { type Around, maximumSize, type ReadService } from "./reading.ts";

/**
 * Variables that have a secret of the owners' each, which the service is granted thereby. They are known before the rest of
 * the service, because they stand in the place of what `environment` says of them.
 */
export function readSecretVariables(
  service: ReadService,
  extension: Value,
  { fields, secrets }: Around,
  where: string,
): void {
  const value = extension.kind === "map" ? extension.entries.get("environment")?.value : undefined;
  if (value === undefined) return;
  const at = `${where}.environment`;
  if (value.kind !== "map") {
    fields.refuse(value.line, at, "a map is wanted: { VARIABLE: SECRET }");
    return;
  }
  for (const { name: variable, value: text, line } of fields.pairs(value, at)) {
    const name = text?.text ?? variable;
    const taken = service.secrets.some((one) => one.name === name);
    if (!secretName.test(variable)) fields.refuse(line, at, `'${variable}' is not the name of a variable`);
    else if (!secrets.has(name) || !secretName.test(name)) {
      const fix = `secrets: { ${name}: { external: true } } there, and its owners give it`;
      fields.refuse(line, at, `there is no secret '${name}' at the top of the file`, fix);
    } else if (taken) fields.refuse(line, at, `'${name}' is in another variable already`, "name it once");
    else service.secrets.push({ name, environment: variable });
  }
}

export function readExtension(
  service: ReadService,
  value: Value,
  { fields, directory }: Around,
  where: string,
): void {
  const found = fields.record(value, where, [
    "image",
    "node",
    "egress",
    "socket",
    "layer",
    "environment",
  ] as const);
  const node = found.node && fields.text(found.node, `${where}.node`);
  if (node !== undefined) {
    const entry = resolve(directory, node.text);
    if (!/^\.{1,2}\/.*\.m?js$/.test(node.text)) {
      fields.refuse(node.line, `${where}.node`, "name a JavaScript file (./….mjs)");
    } else if (!isInside(directory, entry)) {
      const outside = `the directory of ${node.text} lies outside of the compose file's`;
      fields.refuse(node.line, `${where}.node`, outside, moveInside);
    } else service.node = entry;
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
  const layer = found.layer && fields.size(found.layer, `${where}.layer`, 2 ** 20, maximumSize);
  if (layer !== undefined) service.layerSize = layer;
  if (found.egress === undefined) return;
  const inside = `${where}.egress`;
  if (found.egress.kind !== "list") {
    service.egress = fields.choice(found.egress, inside, ["all", "none"] as const) ?? "all";
    return;
  }
  const to = fields.texts(found.egress, inside);
  for (const { text, line } of to) {
    if (!/^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?(?:\/\d{1,2})?:\d{1,5}$/.test(text)) {
      fields.refuse(line, inside, `'${text}' is not a name and its port`, "api.example.org:443");
    }
  }
  service.egress = { to: to.map(({ text }) => text) };
}
