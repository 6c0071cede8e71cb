// SPDX-License-Identifier: Apache-2.0
import { deepEqual, throws } from "node:assert/strict";
import test from "node:test";
import { type FrontSetup, readFrontSetup, writeFrontSetup } from "./front-setup.ts";

const setup: FrontSetup = {
  tlsKey: "AAEC",
  hpkeKey: "AwQF",
  application: { host: "10.0.0.2", port: 8080 },
  require: "tls",
  names: ["hello.internal"],
  acme: { directory: "https://acme.example/directory", accountKey: "BgcI" },
};
const read = (value: object) =>
  readFrontSetup(new TextDecoder().decode(writeFrontSetup(value as FrontSetup)));

test("what PID 1 writes is what the front reads", () => {
  deepEqual(read(setup), setup);
  const { acme: _, ...without } = setup;
  deepEqual(read(without), without);
});

const wrong: [name: string, value: object][] = [
  ["a field that is not known", { ...setup, more: 1 }],
  ["a field that is missing", { ...setup, hpkeKey: undefined }],
  ["a key that is not base64", { ...setup, tlsKey: "a b" }],
  ["no name", { ...setup, names: [] }],
  ["a way in that there is not", { ...setup, require: "none" }],
  ["a part of a port", { ...setup, application: { host: "10.0.0.2", port: 1.5 } }],
];
for (const [name, value] of wrong)
  test(`refused: ${name}`, () => throws(() => read(value), { name: /ZodError/ }));
test("refused: what is not JSON", () => throws(() => readFrontSetup("{"), SyntaxError));
