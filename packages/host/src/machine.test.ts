// SPDX-License-Identifier: Apache-2.0
/** What QEMU is told, looked at as QEMU takes it apart: an option, then its value. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { emulatedMachine, emulatedProcessor, tdxMachine } from "./machine.ts";

const shape = { vcpus: 2, memory: 1024 };
const common = {
  kernel: "/image/kernel",
  commandLine: "console=ttyS0",
  rootfs: "/image/root,fs.img",
  instance: "/state/instance.img",
  qmpSocket: "/state/qmp.sock",
  forwards: [
    { host: 18080, guest: 8080 },
    { protocol: "udp" as const, host: 5353, guest: 53 },
  ],
};
const emulated = emulatedMachine(shape, {
  ...common,
  firmwareCode: "/image/code.fd",
  firmwareVariables: "/state/variables.fd",
  tpmSocket: "/state/tpm.sock",
  quoteSocket: "/state/quotes.sock",
  accelerator: "tcg",
});
const tdx = tdxMachine(shape, {
  ...common,
  firmware: "/image/tdvf.fd",
  mrConfigId: Uint8Array.of(1, 2, 3),
  quotePort: 4050,
});
const values = (list: readonly string[], option: string) =>
  list.flatMap((word, i) => (word === option ? [list[i + 1]!] : []));

for (const [name, list] of [
  ["emulated", emulated],
  ["TDX", tdx],
] as const) {
  test(`${name}: both disks are read-only, and a comma in a path does not end it`, () => {
    const disks = values(list, "-drive").filter((value) => value.startsWith("if=none"));
    deepEqual(disks, [
      "if=none,id=root,format=raw,readonly=on,file=/image/root,,fs.img",
      "if=none,id=instance,format=raw,readonly=on,file=/state/instance.img",
    ]);
  });
  test(`${name}: every virtio device is modern, and the card brings no code`, () => {
    const virtio = values(list, "-device").filter((value) => value.startsWith("virtio-"));
    deepEqual(
      virtio.map((value) => value.split(",")[0]),
      ["virtio-blk-pci", "virtio-blk-pci", "virtio-net-pci"],
    );
    for (const value of virtio) ok(value.split(",").includes("disable-legacy=on"), value);
    ok(virtio.at(-1)!.split(",").includes("romfile="));
  });
  test(`${name}: no default devices, no configuration of the user's, no second clock, no reset`, () => {
    for (const option of ["-nodefaults", "-no-user-config", "-no-reboot"]) ok(list.includes(option), option);
    const [machine] = values(list, "-machine");
    for (const part of ["hpet=off", "smm=off", "vmport=off"]) ok(machine!.split(",").includes(part), part);
  });
  test(`${name}: ports of the guest are reached from this machine alone`, () => {
    equal(
      values(list, "-netdev")[0],
      "user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:18080-:8080,hostfwd=udp:127.0.0.1:5353-:53",
    );
  });
}

test("the emulated machine's processor has the same address bits on every host", () => {
  for (const accelerator of ["kvm", "tcg"] as const) {
    const parts = emulatedProcessor(accelerator).split(",");
    ok(parts.includes("host-phys-bits=off") && parts.includes("phys-bits=38"), parts.join());
  }
});

test("the firmware's code cannot be written, its variables can", () => {
  deepEqual(
    values(emulated, "-drive").filter((value) => value.startsWith("if=pflash")),
    [
      "if=pflash,format=raw,unit=0,readonly=on,file=/image/code.fd",
      "if=pflash,format=raw,unit=1,readonly=off,file=/state/variables.fd",
    ],
  );
});

test("a trust domain: the object by name, its configuration id, the quoting service, a split interrupt controller", () => {
  const guest = JSON.parse(values(tdx, "-object")[0]!);
  deepEqual(guest, {
    "qom-type": "tdx-guest",
    id: "tdx",
    mrconfigid: "AQID",
    "quote-generation-socket": { type: "vsock", cid: "2", port: "4050" },
  });
  ok(values(tdx, "-machine")[0]!.includes("confidential-guest-support=tdx"));
  deepEqual(values(tdx, "-accel"), ["kvm,kernel-irqchip=split"]);
  deepEqual(values(tdx, "-bios"), ["/image/tdvf.fd"]);
});
