// SPDX-License-Identifier: Apache-2.0
/** `x-caisson` of a service: what Compose has no word for. */
import { resolve } from "node:path";
import { isInside, moveInside } from "../inside.ts";
import type { Value } from "./document.ts";
import { type Around, maximumSize, type ReadService } from "./reading.ts";

export function readExtension(
  service: ReadService,
  value: Value,
  { fields, directory }: Around,
  where: string,
): void {
  const found = fields.record(value, where, ["image", "node", "egress", "socket", "layer"] as const);
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
