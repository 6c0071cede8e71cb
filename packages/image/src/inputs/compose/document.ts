// SPDX-License-Identifier: Apache-2.0
/**
 * YAML as a tree of values that know their lines: what the rest of this directory reads.
 *
 * Invariants: one document of YAML 1.2, keys are strings and stand once; anchors, aliases and merge keys (`<<`) are
 * resolved here, and what they unfold to is bounded, so no few bytes become a large tree; every scalar keeps the text
 * that the file has, because `8080`, `0444` and `1.0` mean what is written and not what a number of them prints as.
 */
import { messageOf } from "@caisson/vocabulary/failure";
import { isAlias, isMap, isScalar, isSeq, LineCounter, type ParsedNode, parseDocument, Scalar } from "yaml";
import { ImageError } from "../../errors.ts";

interface Placed {
  /** From 1. */
  readonly line: number;
}
export interface TextValue extends Placed {
  readonly kind: "text";
  readonly text: string;
  /** Whether the file has it in quotes or as a block. */
  readonly quoted: boolean;
}
export interface NothingValue extends Placed {
  readonly kind: "nothing";
}
export interface ListValue extends Placed {
  readonly kind: "list";
  readonly items: readonly Value[];
}
export interface MapEntry extends Placed {
  readonly value: Value;
}
export interface MapValue extends Placed {
  readonly kind: "map";
  /** In the order of the file. `line` of an entry is its key's. */
  readonly entries: ReadonlyMap<string, MapEntry>;
}
/** Plain words like `8080` and `true` are texts here; `nothing` is an empty value or `null`. */
export type Value = TextValue | NothingValue | ListValue | MapValue;

const maximumBytes = 1 << 20;
/** Values after aliases are resolved: the largest file of people's that is known has some thousand. */
const maximumValues = 50_000;
const maximumDepth = 40;

class Reader {
  private readonly lines: LineCounter;
  private readonly path: string;
  private readonly anchors = new Map<string, ParsedNode>();
  /** Anchors that are being unfolded: one inside itself has no end. */
  private readonly open = new Set<string>();
  private values = 0;

  constructor(lines: LineCounter, path: string) {
    this.lines = lines;
    this.path = path;
  }

  fault(line: number, reason: string): ImageError {
    return new ImageError("compose/syntax", `${this.path}, line ${line}: ${reason}`);
  }

  private lineOf(node: ParsedNode | null): number {
    return node?.range ? this.lines.linePos(node.range[0]).line : 1;
  }

  read(node: ParsedNode | null, depth: number, line = this.lineOf(node)): Value {
    if (++this.values > maximumValues) {
      throw this.fault(line, `the file unfolds to more than ${maximumValues} values`);
    }
    if (depth > maximumDepth) throw this.fault(line, `nested more than ${maximumDepth} deep`);
    if (node === null) return { kind: "nothing", line };
    if (isAlias(node)) return this.alias(node.source, line, (target) => this.read(target, depth));
    this.remember(node);
    if (isScalar(node)) return this.scalar(node, line);
    if (isSeq(node)) {
      return {
        kind: "list",
        line,
        items: node.items.map((item) => this.read(item as ParsedNode, depth + 1)),
      };
    }
    if (isMap(node)) return { kind: "map", line, entries: this.entries(node, depth) };
    throw this.fault(line, "neither a value, a list nor a map");
  }

  /** An anchor is known from its place on, and a later one of the same name replaces it, as YAML has it. */
  private remember(node: ParsedNode): void {
    if (!isAlias(node) && node.anchor !== undefined) this.anchors.set(node.anchor, node);
  }

  private alias<T>(name: string, line: number, use: (target: ParsedNode) => T): T {
    const target = this.anchors.get(name);
    if (target === undefined) throw this.fault(line, `no anchor '${name}' stands before this`);
    if (this.open.has(name)) throw this.fault(line, `the anchor '${name}' contains itself`);
    this.open.add(name);
    const result = use(target);
    this.open.delete(name);
    return result;
  }

  private scalar(node: Scalar, line: number): Value {
    const quoted = node.type !== undefined && node.type !== Scalar.PLAIN;
    if (node.value === null && !quoted) return { kind: "nothing", line };
    const text = typeof node.value === "string" ? node.value : (node.source ?? String(node.value));
    return { kind: "text", text, quoted, line };
  }

  private entries(node: ParsedNode & { items: unknown[] }, depth: number): Map<string, MapEntry> {
    const own = new Map<string, MapEntry>();
    const names = new Set<string>();
    const merged: Value[] = [];
    for (const { key, value } of node.items as { key: ParsedNode; value: ParsedNode | null }[]) {
      const line = this.lineOf(key);
      const name = isScalar(key) ? String(key.value) : undefined;
      if (name === undefined || name === "__proto__") throw this.fault(line, "a key is not a plain text");
      if (names.has(name)) throw this.fault(line, `'${name}' stands twice: keys are unique`);
      names.add(name);
      const read = this.read(value, depth + 1, value === null ? line : this.lineOf(value));
      if (name === "<<" && isScalar(key) && key.type === Scalar.PLAIN) merged.push(read);
      else own.set(name, { line, value: read });
    }
    // What stands in the map itself wins over what is merged, and earlier merges over later ones.
    for (const source of merged.flatMap((value) => (value.kind === "list" ? value.items : [value]))) {
      if (source.kind !== "map") throw this.fault(source.line, "'<<' merges maps only");
      for (const [name, entry] of source.entries) if (!own.has(name)) own.set(name, entry);
    }
    return own;
  }
}

/** Reads a text; `path` is for messages. Throws ImageError `compose/syntax` with the line. */
export function readDocument(text: string, path: string): Value {
  if (Buffer.byteLength(text) > maximumBytes) {
    throw new ImageError("compose/syntax", `${path} has more than ${maximumBytes} bytes`);
  }
  const lines = new LineCounter();
  let document: ReturnType<typeof parseDocument<ParsedNode>>;
  try {
    document = parseDocument<ParsedNode>(text, {
      lineCounter: lines,
      prettyErrors: false,
      logLevel: "error",
      // Its own check compares each key with all before it: `entries` does it once.
      uniqueKeys: false,
      stringKeys: true,
    });
  } catch (error) {
    throw new ImageError("compose/syntax", `${path}: ${messageOf(error)}`, { cause: error });
  }
  const reader = new Reader(lines, path);
  const fault = document.errors[0] ?? document.warnings[0];
  if (fault !== undefined) {
    throw reader.fault(lines.linePos(fault.pos[0]).line, messageOf(fault).split("\n")[0]!);
  }
  return reader.read(document.contents, 0);
}
