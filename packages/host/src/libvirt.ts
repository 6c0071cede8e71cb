// SPDX-License-Identifier: Apache-2.0
/**
 * The machine of `tdxMachine` as a domain of libvirt (formatdomain, `launchSecurity type='tdx'`). Every device has its
 * place on the root bus, as QEMU gives it there when nobody says, and what libvirt would add by itself is turned off.
 */
import { disks } from "@caisson/vocabulary/disks";
import type { Forward, Shape, TdxParts } from "./machine.ts";

/** Text in an element or in a quoted attribute. */
const escaped = (text: string): string =>
  text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll("'", "&apos;")
    .replaceAll('"', "&quot;");

/** The first device's place on the root bus; 0 is the host bridge. */
const firstSlot = 1;
const place = (slot: number): string =>
  `      <address type='pci' domain='0x0000' bus='0x00' slot='0x0${(firstSlot + slot).toString(16)}' function='0x0'/>`;

const forward = ({ protocol = "tcp", host, guest }: Forward): string[] => [
  `      <portForward proto='${protocol}' address='127.0.0.1'>`,
  `        <range start='${host}' to='${guest}'/>`,
  "      </portForward>",
];

/** What libvirt has that `tdxMachine`'s arguments have not: a name, and a file for the guest's console. */
export interface DomainParts extends TdxParts {
  name: string;
  console: string;
}

/**
 * The domain's XML, for `virsh create`. The quote generation service is asked at libvirt's own socket for it, since a
 * domain cannot name a vsock port; the network is passt's.
 */
export function tdxDomain({ vcpus, memory }: Shape, parts: DomainParts): string {
  const files = { root: parts.rootfs, instance: parts.instance };
  const drives = [
    ...disks.map((role) => ({ file: files[role], writable: false })),
    ...(parts.volumes ?? []).map((file) => ({ file, writable: true })),
  ];
  const lines = [
    "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>",
    `  <name>${escaped(parts.name)}</name>`,
    `  <memory unit='MiB'>${memory}</memory>`,
    `  <vcpu>${vcpus}</vcpu>`,
    "  <os>",
    "    <type arch='x86_64' machine='q35'>hvm</type>",
    `    <loader type='rom' readonly='yes'>${escaped(parts.firmware)}</loader>`,
    `    <kernel>${escaped(parts.kernel)}</kernel>`,
    `    <cmdline>${escaped(parts.commandLine)}</cmdline>`,
    // A drive that is not there: otherwise libvirt gives the first disk a place in the boot order, which is measured.
    "    <boot dev='fd'/>",
    "  </os>",
    "  <features>",
    "    <acpi/>",
    "    <vmport state='off'/>",
    "    <smm state='off'/>",
    "    <ioapic driver='qemu'/>",
    "  </features>",
    "  <cpu mode='host-passthrough'>",
    `    <topology sockets='1' dies='1' cores='${vcpus}' threads='1'/>`,
    "  </cpu>",
    "  <clock offset='utc'>",
    "    <timer name='hpet' present='no'/>",
    "  </clock>",
    "  <on_poweroff>destroy</on_poweroff>",
    "  <on_reboot>destroy</on_reboot>",
    "  <on_crash>destroy</on_crash>",
    "  <devices>",
    "    <controller type='usb' model='none'/>",
    ...drives.flatMap(({ file, writable }, i) => [
      "    <disk type='file' device='disk' model='virtio-non-transitional'>",
      "      <driver name='qemu' type='raw'/>",
      `      <source file='${escaped(file)}'/>`,
      `      <target dev='vd${String.fromCharCode("a".charCodeAt(0) + i)}' bus='virtio'/>`,
      ...(writable ? [] : ["      <readonly/>"]),
      place(i),
      "    </disk>",
    ]),
    "    <interface type='user'>",
    "      <backend type='passt'/>",
    ...parts.forwards.flatMap(forward),
    "      <model type='virtio-non-transitional'/>",
    "      <rom enabled='no'/>",
    place(drives.length),
    "    </interface>",
    "    <serial type='file'>",
    `      <source path='${escaped(parts.console)}'/>`,
    "      <target type='isa-serial' port='0'/>",
    "    </serial>",
    "    <memballoon model='none'/>",
    "  </devices>",
    "  <launchSecurity type='tdx'>",
    `    <mrConfigId>${Buffer.from(parts.mrConfigId).toString("base64")}</mrConfigId>`,
    "    <quoteGenerationService/>",
    "  </launchSecurity>",
    // The same: libvirt's strict order ends with a HALT that QEMU by itself does not write.
    "  <qemu:commandline>",
    "    <qemu:arg value='-boot'/>",
    "    <qemu:arg value='strict=off'/>",
    "  </qemu:commandline>",
    "</domain>",
  ];
  return `${lines.join("\n")}\n`;
}
