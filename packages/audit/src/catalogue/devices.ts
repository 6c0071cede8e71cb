// SPDX-License-Identifier: Apache-2.0
/** Which devices the guest talks to. */

import type { LiveReport } from "@caisson/protocol/live-report";
import {
  covered,
  inSource,
  kernel,
  live,
  noFiles,
  noProtocol,
  reasonsForNoCheck,
  rootCovered,
  without,
} from "../expect.ts";
import { group } from "./group.ts";

/** Functions that q35 brings by itself, and the two that the image has drivers for (vendor:device). */
const knownPci = new Set(["8086:29c0", "8086:2918", "8086:2922", "8086:2930", "1af4:1041", "1af4:1042"]);
const knownDrivers: Record<string, readonly string[]> = {
  virtio: ["virtio_blk", "virtio_net"],
  pci: ["virtio-pci", "serial", "pcieport"],
  usb: [],
  scsi: [],
};

const feature = ({ features }: LiveReport["virtio"][number], bit: number) => features[bit] === "1";
const setFeature = (device: LiveReport["virtio"][number], bit: number, value: "0" | "1") => {
  device.features =
    device.features.padEnd(64, "0").slice(0, bit) + value + device.features.padEnd(64, "0").slice(bit + 1);
};

function everyVirtio(expects: string, bit: number, value: "0" | "1") {
  return live(
    expects,
    ({ virtio }) => virtio.find((device) => feature(device, bit) !== (value === "1"))?.name,
    (copy) => setFeature(copy.virtio[0]!, bit, value === "1" ? "0" : "1"),
  );
}

export const devices = group("devices", { decision: "depth", source: "design" }, [
  {
    id: "D01",
    title: "Drivers for network and disk alone",
    why: "Most of what a host can reach in a kernel is drivers.",
    source: "intel",
    ...kernel({ VIRTIO_NET: "y", VIRTIO_BLK: "y", VIRTIO_PCI: "y" }),
    live: Object.entries(knownDrivers).map(([bus, known]) =>
      live(
        `${bus} drivers: ${known.join(", ") || "none"}`,
        ({ drivers }) => {
          const others = (drivers[bus] ?? []).filter((name) => !known.includes(name));
          return others.length === 0 ? undefined : others.join(", ");
        },
        ({ drivers }) => {
          drivers[bus] = [...(drivers[bus] ?? []), "e1000"];
        },
      ),
    ),
  },
  {
    id: "D02",
    title: "Unknown PCI devices stop the boot",
    why: "An extra device is an extra attacker.",
    tests: ["packages/guest/src/stages/posture.test.ts"],
    static: reasonsForNoCheck.behaviour,
    live: [
      live(
        "only known PCI functions",
        ({ pci }) => pci.find(({ id }) => !knownPci.has(id))?.id,
        ({ pci }) => {
          pci.push({ address: "0000:00:1d.0", id: "8086:100e", driver: null });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "D03",
    title: "Late devices get no driver",
    why: "What was counted at boot stays what is there.",
    static: inSource("packages/guest/src/stages/posture.ts"),
    live: (["pci", "virtio"] as const).map((bus) =>
      live(
        `drivers_autoprobe of ${bus} is 0`,
        ({ autoprobe }) => (autoprobe[bus] === "0" ? undefined : autoprobe[bus]),
        ({ autoprobe }) => {
          autoprobe[bus] = "1";
        },
      ),
    ),
    remote: [rootCovered],
  },
  {
    id: "D04",
    title: "Modern virtio, split rings",
    why: "The parts of the driver that were hardened and audited.",
    source: "intel",
    ...without("VIRTIO_PCI_LEGACY"),
    live: [
      everyVirtio("VIRTIO_F_VERSION_1 on each device", 32, "1"),
      everyVirtio("VIRTIO_F_RING_PACKED on none", 34, "0"),
    ],
  },
  {
    id: "D05",
    title: "Devices reach shared memory only",
    why: "In a TD everything a device sees goes through bounce buffers.",
    source: "intel",
    development: {
      reason: "plain QEMU devices do not offer ACCESS_PLATFORM, and there is no private memory",
      kinds: ["live"],
    },
    ...kernel({ SWIOTLB: "y" }),
    live: [everyVirtio("VIRTIO_F_ACCESS_PLATFORM on each device", 33, "1")],
  },
  {
    id: "D06",
    title: "No agent of the host's",
    why: "Guest agents are root shells with another name.",
    source: "zksecurity",
    static: [
      noFiles(
        "no guest agent",
        /\/(qemu-ga|spice-vdagentd?|cloud-init|waagent|google_guest_agent|amazon-ssm-agent|open-vm-tools|vmtoolsd)/,
        "/usr/sbin/qemu-ga",
      ),
    ],
    live: [
      live(
        "no process of one",
        ({ processes }) =>
          processes.find(({ name }) => /qemu-ga|vdagent|cloud-init|guest_agent|vmtoolsd/.test(name))?.name,
        ({ processes }) => {
          processes.push({ ...processes[0]!, name: "qemu-ga" });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "D07",
    title: "A disk is what its content says",
    why: "Names, labels and order are the host's.",
    volumes: {
      reason:
        "each lies on a device that PID 1 maps under the volume's own key, and is what its checksums say (V15)",
      kinds: ["live"],
    },
    static: without("MSDOS_PARTITION", "EFI_PARTITION", "BLK_DEV_INITRD").static,
    live: [
      live(
        "the root is device-mapper's",
        ({ rootMapper }) => (rootMapper === "root" ? undefined : String(rootMapper)),
        (copy) => {
          copy.rootMapper = null;
        },
      ),
      live(
        "no other block device is mounted",
        ({ mounts }) =>
          mounts.find(({ source, target }) => source.startsWith("/dev/") && target !== "/")?.target,
        ({ mounts }) => {
          mounts.push({ source: "/dev/vdc", target: "/data", type: "ext4", options: ["rw"] });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "D08",
    title: "Nobody reads the console",
    why: "A login prompt on the serial line is a door for the host.",
    source: "zksecurity",
    static: [
      noFiles("no getty, login or sshd", /\/(a?getty|login|sulogin|sshd|dropbear|telnetd)$/, "/sbin/agetty"),
    ],
    live: [
      live(
        "no process of one",
        ({ processes }) => processes.find(({ name }) => /getty|login|sshd|dropbear/.test(name))?.name,
        ({ processes }) => {
          processes.push({ ...processes[0]!, name: "agetty" });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "D09",
    title: "No socket to the host beside the network",
    why: "vsock goes around everything that looks at packets.",
    source: "dstack",
    ...without("VSOCKETS"),
    live: [noProtocol("AF_VSOCK")],
  },
  {
    id: "D10",
    title: "One serial port",
    why: "More ports are more drivers that wait for input.",
    source: "design",
    ...kernel({ SERIAL_8250_NR_UARTS: "1", SERIAL_8250_PCI: "n", HVC_DRIVER: "n" }),
    remote: [covered("rtmr1", "the kernel's EFI_BOOT_SERVICES_APPLICATION event")],
  },
]);
