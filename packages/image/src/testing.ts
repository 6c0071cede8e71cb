/** What tests make: Debian packages, and archives that are signed by a key of their own. Not part of the product. */

const arHeader = (name: string, size: number) =>
  Buffer.from(`${name.padEnd(16)}0           0     0     100644  ${String(size).padEnd(10)}\`\n`, "latin1");

/** A package (deb(5)) around a data archive, which `names.data` names with its compression. */
export function makeDeb(data: Uint8Array, names: { data: string; version?: string }): Uint8Array {
  const members: [string, Uint8Array][] = [
    ["debian-binary", Buffer.from(names.version ?? "2.0\n")],
    ["control.tar", new Uint8Array(1024)],
    [names.data, data],
  ];
  const parts = members.flatMap(([name, bytes]) => [
    arHeader(name, bytes.length),
    bytes,
    Buffer.alloc(bytes.length % 2, "\n"),
  ]);
  return Buffer.concat([Buffer.from("!<arch>\n"), ...parts]);
}
