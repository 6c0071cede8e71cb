// SPDX-License-Identifier: Apache-2.0
/** A message of PostgreSQL's protocol, of the server: its type, its length, and this. */
export function message(type: string, ...content: (string | number)[]): Buffer {
  const body = Buffer.concat(
    content.map((one) => (typeof one === "string" ? Buffer.from(one) : Buffer.of(one))),
  );
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}
