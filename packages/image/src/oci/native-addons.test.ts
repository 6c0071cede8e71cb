// SPDX-License-Identifier: Apache-2.0
import { doesNotThrow, throws } from "node:assert/strict";
import { test } from "node:test";
import { elfFile } from "../testing/elf.ts";
import { type AddonHost, checkAddons } from "./native-addons.ts";

const host: AddonHost = {
  node: "26.10.0",
  abi: "147",
  libraries: new Set(["libc.so.6"]),
  libc: Buffer.from("\0GLIBC_2.17\0GLIBC_2.41\0"),
};
/** An addon that names these texts, as symbols and versions. */
const addon = (texts: string, needed = ["libc.so.6"], soname = "x.node") =>
  Buffer.concat([elfFile({ needed, soname }), Buffer.from(`\0${texts}\0`)]);

const stable = addon("napi_register_module_v1\0GLIBC_2.17");
const same = addon("node_register_module_v147");
const older = addon("node_register_module_v127");
const musl = addon("napi_register_module_v1", ["libc.musl-x86_64.so.1"]);
const mac = Buffer.from("cffaedfe0c000001", "hex");
const arm = Buffer.from(stable).fill(183, 18, 19);
const other = addon("napi_register_module_v1", ["libc.so.6", "libssl.so.3"]);
const newer = addon("napi_register_module_v1\0GLIBC_2.43");

const taken: [what: string, files: Record<string, Uint8Array>][] = [
  ["Node-API, built here", { "m/build/Release/x.node": stable }],
  ["the same ABI", { "m/build/Release/x.node": same }],
  ["prebuilt for many systems", { "m/prebuilds/linux-x64/a.glibc.node": stable, "m/prebuilds/linux-x64/a.musl.node": musl, "m/prebuilds/darwin-x64/a.node": mac, "m/prebuilds/linux-arm64/a.node": arm }],
  ["prebuilt for several ABIs", { "m/bin/127/x.node": stable, "m/p/127.node": older, "m/p/147.node": same }],
  ["only for others: the package may do without", { "m/bin/x.node": mac }],
]; // biome-ignore format: a table
for (const [what, files] of taken) {
  test(`an addon is taken: ${what}`, () => {
    doesNotThrow(() => checkAddons(Object.entries(files).map(([path, content]) => ({ path, content })), host));
  });
} // biome-ignore format: one line

const refused: [what: string, path: string, content: Uint8Array, reason: RegExp][] = [
  ["of another ABI", "m/build/Release/x.node", older, /ABI 127/],
  ["prebuilt for another ABI alone", "m/prebuilds/linux-x64/x.node", older, /ABI 127/],
  ["built on another system", "m/build/Release/x.node", mac, /not a Linux program/],
  ["built for another processor", "m/build/Release/x.node", arm, /x86-64/],
  ["built on Alpine", "m/build/Release/x.node", musl, /musl/],
  ["a library that is not there", "m/x.node", other, /libssl.so.3/],
  ["a newer C library", "m/x.node", newer, /GLIBC_2.43/],
];
for (const [what, path, content, message] of refused) {
  test(`refused: an addon ${what}`, () => {
    throws(() => checkAddons([{ path, content }], host), { code: "app/addon", message });
  });
}
