// SPDX-License-Identifier: Apache-2.0
/** The arguments of a TD's machine are ones that a current QEMU knows: checked against its own help, without TDX. */
import { deepEqual, equal } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { end, start, waitForSocket } from "@caisson/host/child";
import { tdxMachine } from "@caisson/host/machine";
import { Qmp } from "@caisson/host/qmp";
import { unpackDebian } from "../support/debian.ts";

/** The first Debian suite whose QEMU has the tdx-guest object. */
const suite = "forky";

const options = tdxMachine(
  { vcpus: 4, memory: 4096 },
  {
    kernel: "kernel",
    commandLine: "console=ttyS0",
    rootfs: "rootfs",
    instance: "instance",
    qmpSocket: "qmp",
    forwards: [{ host: 8080, guest: 8080 }],
    firmware: "firmware",
    mrConfigId: new Uint8Array(48).fill(7),
    quotePort: 4050,
  },
);
const value = (name: string): string => options[options.indexOf(name) + 1]!;

/** Names of the properties of a QOM type, as this QEMU has them, and its help. */
let properties: (type: string) => Promise<string[]>;
let help = "";
const ends: (() => Promise<unknown> | void)[] = [];

before(async () => {
  const found = await unpackDebian(suite, ["qemu-system-x86"], { dependencies: true });
  const scratch = mkdtempSync(join(tmpdir(), "caisson-qemu-"));
  ends.push(() => rmSync(scratch, { recursive: true }));
  const socket = join(scratch, "qmp.sock");
  const libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map((path) =>
    join(found.root, path),
  );
  const loader = ["--library-path", libraries.join(":"), join(found.root, "usr/bin/qemu-system-x86_64")];
  const program = join(found.root, "usr/lib64/ld-linux-x86-64.so.2");
  help = execFileSync(program, [...loader, "-help"], { encoding: "utf8" });
  const machine = [
    "-machine",
    "none",
    "-nodefaults",
    "-display",
    "none",
    "-qmp",
    `unix:${socket},server=on,wait=off`,
  ];
  const qemu = await start(program, [...loader, ...machine], "qemu-system-x86", { stdio: "ignore" });
  ends.push(() => end(qemu));
  await waitForSocket(socket, qemu);
  const qmp = await Qmp.connect(socket);
  ends.push(() => qmp.close());
  properties = async (typename) => {
    const list = (await qmp.execute("qom-list-properties", { typename })) as { name: string }[];
    return list.map(({ name }) => name);
  };
});
after(async () => {
  for (const finish of ends.reverse()) await finish();
});

const names = (text: string): string[] =>
  text
    .split(",")
    .slice(1)
    .map((setting) => setting.split("=")[0]!);

const checks: { what: string; type: string; wanted: string[] }[] = [
  {
    what: "the tdx-guest object",
    type: "tdx-guest",
    wanted: Object.keys(JSON.parse(value("-object")) as object).filter(
      (name) => !["qom-type", "id"].includes(name),
    ),
  },
  { what: "the machine", type: "pc-q35-10.1-machine", wanted: names(value("-machine")) },
  { what: "the accelerator", type: "kvm-accel", wanted: names(value("-accel")) },
  ...options.flatMap((option, i) => {
    if (option !== "-device") return [];
    const device = options[i + 1]!;
    return [{ what: device, type: device.split(",")[0]!, wanted: names(device) }];
  }),
];

for (const { what, type, wanted } of checks) {
  test(`QEMU knows every property that is set: ${what}`, async () => {
    const known = await properties(type);
    deepEqual(
      wanted.filter((name) => !known.includes(name)),
      [],
    );
  });
}

/** What QEMU's help says about an option with this beginning, up to the next option. */
const helpOn = (beginning: string): string =>
  help.split(/^(?=-)/m).find((part) => part.startsWith(beginning)) ?? "";

test("QEMU knows every option", () => {
  const names = options.filter((option) => /^-[a-z]/.test(option));
  deepEqual(
    names.filter((name) => helpOn(`${name} `) === "" && helpOn(`${name}\n`) === ""),
    [],
  );
});

test("QEMU knows every setting of a disk, of the network and of the console", () => {
  const unknown: string[] = [];
  const look = (beginning: string, wanted: readonly string[]): void => {
    const about = helpOn(beginning);
    unknown.push(
      ...wanted.filter((name) => !about.includes(`${name}=`)).map((name) => `${beginning}…${name}`),
    );
  };
  for (const [i, option] of options.entries()) {
    const given = options[i + 1] ?? "";
    if (option === "-drive") look("-drive ", names(`,${given}`));
    // One part of the help for each kind of back end.
    if (option === "-netdev" || option === "-chardev")
      look(`${option} ${given.split(",")[0]},`, names(given));
  }
  deepEqual(unknown, []);
});

test("MRCONFIGID goes in as base64 of 48 bytes, quotes come over vsock from the host", () => {
  const guest = JSON.parse(value("-object")) as Record<string, unknown>;
  equal(Buffer.from(String(guest.mrconfigid), "base64").length, 48);
  deepEqual(guest["quote-generation-socket"], { type: "vsock", cid: "2", port: "4050" });
});
