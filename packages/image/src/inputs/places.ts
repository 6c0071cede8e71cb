// SPDX-License-Identifier: Apache-2.0
/** YAML whose values know where they stand, for messages. */
import { messageOf } from "@caisson/vocabulary/failure";
import { repeatedKey } from "@caisson/vocabulary/yaml-keys";
import { type Document, isMap, isNode, LineCounter, parseDocument } from "yaml";
import { ImageError } from "../errors.ts";

/** A document whose nodes can be asked for their place. */
export class Places {
  private readonly document: Document;
  private readonly lines: LineCounter;
  readonly path: string;
  constructor(document: Document, lines: LineCounter, path: string) {
    this.document = document;
    this.lines = lines;
    this.path = path;
  }

  at(offset: number): string {
    const { line, col } = this.lines.linePos(offset);
    return `${this.path}, line ${line}, column ${col}`;
  }

  /** The place of the value at `keys`, or of the nearest thing around it that exists. */
  value(keys: readonly PropertyKey[]): string {
    for (let depth = keys.length; depth >= 0; depth--) {
      const found = depth === 0 ? this.document.contents : this.document.getIn(keys.slice(0, depth), true);
      if (isNode(found) && found.range) return this.at(found.range[0]);
    }
    return this.path;
  }

  /** The place of the key itself. */
  key(parent: readonly PropertyKey[], key: string): string {
    const map = parent.length === 0 ? this.document.contents : this.document.getIn(parent, true);
    const pair = isMap(map) ? map.items.find((item) => String(item.key) === key) : undefined;
    return isNode(pair?.key) && pair.key.range ? this.at(pair.key.range[0]) : this.value(parent);
  }
}

/** A text's plain data, and where in it everything stands. Throws ImageError `spec/syntax`. */
export function readPlaced(text: string, path: string): { value: unknown; places: Places } {
  const lines = new LineCounter();
  try {
    const document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      logLevel: "error",
      uniqueKeys: false,
      stringKeys: true,
    });
    const places = new Places(document, lines, path);
    const fault = document.errors[0] ?? document.warnings[0];
    if (fault !== undefined) {
      throw new ImageError("spec/syntax", `${places.at(fault.pos[0])}: ${messageOf(fault).split("\n")[0]}`);
    }
    const twice = repeatedKey(document.contents);
    if (twice !== undefined) {
      throw new ImageError(
        "spec/syntax",
        `${places.at(twice.offset)}: '${twice.name}' stands twice: keys are unique`,
      );
    }
    return { value: document.toJS({ maxAliasCount: 100 }), places };
  } catch (error) {
    if (error instanceof ImageError) throw error;
    throw new ImageError("spec/syntax", `${path}: ${messageOf(error)}`, { cause: error });
  }
}
