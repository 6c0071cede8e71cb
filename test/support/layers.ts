// SPDX-License-Identifier: Apache-2.0
/** Layers as many tools write them, and worse: archives made of entries in every form, for comparing readers. */

import { tarHeader } from "@caisson/image/tar-writer";
import fc from "fast-check";

const block = 512;

/** How a header is written. */
type Form = "ustar" | "v7" | "gnu" | "pax" | "long-name" | "nul-mode";

export interface LayerEntry {
  type: "0" | "1" | "2" | "5" | "6";
  path: string;
  link: string;
  mode: number;
  owner: number;
  text: string;
  form: Form;
}

export interface Layer {
  entries: LayerEntry[];
  end: "two" | "one" | "none" | "padded";
}

const part = fc.constantFrom("a", "b", "c", "d");
const parts = fc.array(part, { minLength: 1, maxLength: 3 }).map((names) => names.join("/"));
const prefix = fc.constantFrom("", "", "", "./", "/");
const target = fc.oneof(
  parts,
  parts.map((path) => `/${path}`),
  fc.constantFrom("..", "../a", "../b/c", ".", "/", "./c", "d/../a"),
);
/** Whiteouts of both kinds, of what may be there. */
const whiteout = fc
  .tuple(fc.array(part, { maxLength: 2 }), fc.constantFrom("a", "b", "c", "d", ".wh..opq"))
  .map(([folder, name]) => [...folder, `.wh.${name}`].join("/"));

const plain = {
  mode: fc.constantFrom(0o644, 0o755, 0o600, 0o4755, 0o1777, 0o2700),
  owner: fc.constantFrom(0, 0, 1000, 70_000),
  text: fc.constantFrom("", "x", "another text", "y".repeat(700)),
  form: fc.constantFrom<Form>("ustar", "ustar", "v7", "gnu", "pax", "long-name", "nul-mode"),
};
const prefixed = fc.tuple(prefix, parts).map((texts) => texts.join(""));
const entryOf = (
  type: LayerEntry["type"],
  path: fc.Arbitrary<string>,
  link: fc.Arbitrary<string> = fc.constant(""),
) => fc.record({ type: fc.constant(type), path, link, ...plain });

/** Not setgid: the kernel then gives its group to what is made in it, which no entry says. */
const folderOf = (path: fc.Arbitrary<string>) =>
  fc
    .tuple(entryOf("5", path), fc.constantFrom(0o755, 0o700, 0o1777, 0o4755))
    .map(([one, mode]): LayerEntry => ({ ...one, mode }));

const entry: fc.Arbitrary<LayerEntry> = fc.oneof(
  { weight: 5, arbitrary: entryOf("0", prefixed) },
  { weight: 4, arbitrary: folderOf(fc.oneof({ weight: 9, arbitrary: prefixed }, { weight: 1, arbitrary: fc.constantFrom("/", "./") })) }, // biome-ignore format: a row
  { weight: 4, arbitrary: entryOf("2", prefixed, target) },
  { weight: 1, arbitrary: entryOf("1", prefixed, prefixed) },
  { weight: 2, arbitrary: entryOf("0", whiteout).map((one) => ({ ...one, text: "" })) },
  { weight: 1, arbitrary: entryOf("6", prefixed) },
);

/** A layer of at most so many entries. */
export const layerOf = (maxLength: number): fc.Arbitrary<Layer> =>
  fc.record({
    entries: fc.array(entry, { minLength: 1, maxLength }),
    end: fc.constantFrom<Layer["end"]>("two", "two", "one", "none", "padded"),
  });

/** A header with fields overwritten and its sum made right. */
function patched(header: Uint8Array, fields: readonly (readonly [at: number, bytes: string])[]): Uint8Array {
  const copy = Buffer.from(header);
  for (const [at, bytes] of fields) copy.write(bytes, at, "latin1");
  copy.write("        ", 148, "latin1");
  const sum = copy.reduce((total, byte) => total + byte, 0);
  copy.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return copy;
}

function padded(text: string): Uint8Array {
  const bytes = Buffer.from(text);
  return Buffer.concat([bytes, Buffer.alloc((block - (bytes.length % block)) % block)]);
}

const octal = (value: number, width: number) => `${value.toString(8).padStart(width - 1, "0")}\0`;

/** A record "LENGTH path=…\n". */
function pathRecord(path: string): string {
  const rest = ` path=${path}\n`;
  const length = rest.length + String(rest.length + 2).length;
  return `${length}${rest}`;
}

function* entryParts(one: LayerEntry): Generator<Uint8Array> {
  const { type, link, mode, owner, form } = one;
  const isFolder = type === "5";
  const path = isFolder && !one.path.endsWith("/") ? `${one.path}/` : one.path;
  const text = type === "0" ? one.text : "";
  // Some tools give a hard link the size of its file, without data.
  const size = type === "1" ? one.text.length : text.length;
  const isElsewhere = form === "pax" || form === "long-name";
  if (form === "pax") {
    const record = pathRecord(path);
    yield tarHeader({ path: "pax", type: "x", size: record.length });
    yield padded(record);
  }
  if (form === "long-name") {
    yield tarHeader({ path: "././@LongLink", type: "L", size: path.length + 1 });
    yield padded(`${path}\0`);
  }
  const header = tarHeader({ path: isElsewhere ? "elsewhere" : path, type, mode, size, link });
  const fields: [number, string][] = [
    [108, octal(owner, 8)],
    [116, octal(owner, 8)],
  ];
  if (form === "v7") fields.push([257, "\0".repeat(8)]);
  // Version 7 has no type for directories and files but NUL.
  if (form === "v7" && (isFolder || type === "0")) fields.push([156, "\0"]);
  if (form === "gnu") fields.push([257, "ustar  \0"]);
  if (form === "nul-mode") fields.push([100, `\0${octal(mode, 7)}`]);
  yield patched(header, fields);
  if (text !== "") yield padded(text);
}

/** The archive of a layer. */
export function layerArchive({ entries, end }: Layer): Buffer {
  const body = Buffer.concat(entries.flatMap((one) => [...entryParts(one)]));
  const blocks = { none: 0, one: 1, two: 2, padded: 20 - ((body.length / block) % 20) + (((body.length / block) % 20) > 18 ? 20 : 0) }[end]; // biome-ignore format: one row
  return Buffer.concat([body, Buffer.alloc(blocks * block)]);
}
