// SPDX-License-Identifier: Apache-2.0
/** The domain of a TD's machine is one that a current libvirt takes: checked against its own schema, without TDX. */
import { equal, match, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { before, test } from "node:test";
import { type DomainParts, tdxDomain } from "@caisson/host/libvirt";
import { unpackDebian } from "../support/debian.ts";

/** The first Debian suite whose libvirt has `launchSecurity type='tdx'`. */
const suite = "forky";

const parts: DomainParts = {
  name: "hello",
  console: "/state/console.log",
  kernel: "/image/kernel",
  commandLine: `console=ttyS0 a="<b> & 'c'"`,
  rootfs: "/image/it's & <that>.img",
  instance: "/state/instance.img",
  qmpSocket: "/state/qmp.sock",
  forwards: [
    { host: 18080, guest: 8080 },
    { protocol: "udp", host: 5353, guest: 53 },
  ],
  firmware: "/image/tdvf.fd",
  mrConfigId: new Uint8Array(48).fill(7),
  quotePort: 4050,
};
const shape = { vcpus: 4, memory: 4096 };
const domain = tdxDomain(shape, parts);
const withVolumes = tdxDomain(shape, {
  ...parts,
  volumes: ["/state/volumes/a.img", "/state/volumes/b&c.img"],
});

let schema = "";
before(async () => {
  const { root } = await unpackDebian(suite, ["libvirt-common"]);
  schema = join(root, "usr/share/libvirt/schemas/domain.rng");
});

const xmllint = (input: string, ...args: string[]) =>
  spawnSync("xmllint", [...args, "-"], { input, encoding: "utf8" });
const validate = (input: string) => xmllint(input, "--noout", "--relaxng", schema);
const value = (path: string, of = domain) => xmllint(of, "--xpath", `string(${path})`).stdout.trimEnd();

test("libvirt's own schema accepts the domain", () => {
  const { status, stderr } = validate(domain);
  equal(status, 0, stderr);
});

test("and would refuse one with a word that libvirt does not know", () => {
  for (const [from, to] of [
    ["type='tdx'", "type='tdxx'"],
    ["<mrConfigId>", "<mrConfig>"],
    ["proto='udp'", "proto='sctp'"],
    ["<readonly/>", "<readable/>"],
  ] as const) {
    ok(domain.includes(from));
    const altered = domain.replaceAll(from, to).replaceAll("</mrConfigId>", `</${to.slice(1)}`);
    equal(validate(altered).status === 0, false, to);
  }
});

test("names and the command line come out as they went in", () => {
  equal(value("/domain/os/cmdline"), parts.commandLine);
  equal(value("//disk[1]/source/@file"), parts.rootfs);
  equal(Buffer.from(value("//launchSecurity/mrConfigId"), "base64").toString("hex"), "07".repeat(48));
  equal(value("/domain/memory[@unit='MiB']"), "4096");
});

test("every device has the place on the root bus that QEMU gives it, and no disk can be written", () => {
  const slots = xmllint(domain, "--xpath", "//address/@slot").stdout;
  match(slots, /0x01[\s\S]*0x02[\s\S]*0x03/);
  equal(value("count(//disk)"), value("count(//disk/readonly)"));
});

test("persistent volumes are disks behind the image's, which alone can be written, and the network card comes after them", () => {
  const { status, stderr } = validate(withVolumes);
  equal(status, 0, stderr);
  const last = (path: string) => value(path, withVolumes);
  equal(last("//disk[3]/source/@file"), "/state/volumes/a.img");
  equal(last("//disk[4]/source/@file"), "/state/volumes/b&c.img");
  equal(last("count(//disk/readonly)"), "2");
  equal(last("count(//disk[position() > 2]/readonly)"), "0");
  equal(last("//disk[4]/address/@slot"), "0x04");
  equal(last("//interface/address/@slot"), "0x05");
});
