// SPDX-License-Identifier: Apache-2.0
/** The network, whose router is the host. */

import { kernelOfServices } from "../control.ts";
import {
  image,
  kernel,
  live,
  noFiles,
  reasonsForNoCheck,
  rootCovered,
  sysctls,
  tokens,
  without,
  writable,
} from "../expect.ts";
import { group } from "./group.ts";

const settingRemote =
  "no register covers a setting; RTMR2 covers the PID 1 that makes it and refuses to go on without";
/**
 * What an interface does follows from its own value and from `all`'s: for redirects either is enough (IN_DEV_ORCONF in
 * include/linux/inetdevice.h). The kernel configures eth0 before PID 1, so `default` says nothing of it.
 */
const onEachInterface = (setting: string, value: string) =>
  live(
    `net.ipv4.conf.*.${setting} = ${value}`,
    ({ sysctls }) => {
      const keys = Object.keys(sysctls).map((key) => /^net\.ipv4\.conf\.(.+)\.\w+$/.exec(key)?.[1]);
      const names = new Set(["all", "default", ...keys.filter((name) => name !== undefined)]);
      if (names.size === 2) return "no interface of its own is reported";
      const wrong = [...names].flatMap((name) => {
        const key = `net.ipv4.conf.${name}.${setting}`;
        const found = Object.hasOwn(sysctls, key) ? sysctls[key] : undefined;
        return found === value ? [] : [`${name}: ${found ?? "not reported"}`];
      });
      return wrong.length === 0 ? undefined : wrong.join(", ");
    },
    ({ sysctls }) => {
      sysctls[`net.ipv4.conf.eth0.${setting}`] = "caisson-wrong";
    },
  );

const setting = "a setting that PID 1 makes (packages/guest/src/sysctls.ts), tied to the image by U13";

export const network = group("network", { decision: "depth", source: "kspp" }, [
  {
    id: "N01",
    title: "Nothing listens but the application",
    why: "Without listeners there is nothing for a packet filter to protect; the kernel has none.",
    source: "badaml",
    services: {
      reason: "published ports and egress are rules of nf_tables that PID 1 alone can set (decision 0015)",
      kinds: ["static", "live"],
    },
    volumes: { reason: kernelOfServices, kinds: ["static"] },
    ...without("NETFILTER"),
    live: [
      live(
        "TCP listeners belong to the application's user",
        // The way in of development machines is U18's.
        ({ sockets, flavour }) =>
          sockets.find(
            ({ protocol, listening, uid, local }) =>
              protocol === "tcp" &&
              listening &&
              uid === 0 &&
              !(flavour === "development" && local.endsWith(":65533")),
          )?.local,
        ({ sockets }) => {
          sockets.push({ protocol: "tcp", local: "0.0.0.0:22", listening: true, uid: 0 });
        },
      ),
      live(
        "no raw or packet socket, no UDP socket of root's that waits",
        ({ sockets }) =>
          sockets.find(
            ({ protocol, listening, uid }) =>
              protocol === "raw" || protocol === "packet" || (protocol === "udp" && listening && uid === 0),
          )?.local,
        ({ sockets }) => {
          sockets.push({ protocol: "raw", local: "0.0.0.0:1", listening: false, uid: 0 });
        },
      ),
    ],
  },
  {
    id: "N02",
    title: "DHCP gives address, router and name server, no more",
    why: "The kernel's client knows no routes, no time servers and no names to take from the host; there is no other client.",
    source: "design",
    static: [
      ...tokens("ip=dhcp").static,
      ...kernel({ IP_PNP_DHCP: "y", IP_PNP_BOOTP: "n", IP_PNP_RARP: "n" }).static,
      noFiles(
        "no DHCP client",
        /\/(dhclient|dhcpcd|udhcpc|systemd-networkd|NetworkManager)$/,
        "/sbin/dhclient",
      ),
    ],
    live: tokens("ip=dhcp").live,
    remote: tokens("ip=dhcp").remote,
  },
  {
    id: "N03",
    title: "Names are asked for in files first, and never trusted",
    why: "Whatever DNS says, TLS or NTS authenticates who answers.",
    source: "dstack",
    static: [
      image(
        "/etc/nsswitch.conf and /etc/hosts are the image's, /etc/resolv.conf leads to memory",
        ({ files }) =>
          files.get("/etc/nsswitch.conf")?.kind === "file" &&
          files.get("/etc/resolv.conf")?.target === "/run/resolv.conf"
            ? undefined
            : "they are not",
        ({ files }) => writable(files).delete("/etc/nsswitch.conf"),
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "N04",
    title: "No IPv6",
    why: "Its router advertisements are configuration by whoever sends them.",
    services: {
      reason: 'programs listen on "::"; no interface but loopback has an IPv6 address',
      kinds: ["static", "live"],
    },
    volumes: { reason: kernelOfServices, kinds: ["static", "live"] },
    ...without("IPV6"),
    live: [
      live(
        "no protocol of IPv6",
        ({ protocols }) => protocols.find((name) => name.endsWith("v6")),
        ({ protocols }) => {
          protocols.push("TCPv6");
        },
      ),
    ],
  },
  {
    id: "N05",
    title: "No redirects, no source routes, no spoofed sources",
    why: "A guest is not a router and takes no route from a packet.",
    static: setting,
    live: [
      onEachInterface("accept_redirects", "0"),
      onEachInterface("send_redirects", "0"),
      onEachInterface("accept_source_route", "0"),
      onEachInterface("rp_filter", "1"),
      ...sysctls({
        "net.ipv4.ip_forward": "0",
        "net.ipv4.icmp_echo_ignore_broadcasts": "1",
        "net.ipv4.tcp_syncookies": "1",
      }),
    ],
    remote: settingRemote,
  },
  {
    id: "N06",
    title: "No multicast naming",
    why: "LLMNR, mDNS and UPnP answer anybody.",
    source: "dstack",
    ...without("IP_MULTICAST"),
    static: [
      ...without("IP_MULTICAST").static,
      noFiles(
        "no such daemon",
        /\/(avahi-daemon|mdnsd|systemd-resolved|miniupnpd|llmnrd)$/,
        "/usr/sbin/avahi-daemon",
      ),
    ],
  },
  {
    id: "N07",
    title: "Nothing asks a metadata service",
    why: "It would be configuration from the host over HTTP.",
    source: "design",
    static: [
      noFiles(
        "no cloud tools",
        /\/(cloud-init|cloudinit|ignition|afterburn|ec2-|gce-)/,
        "/usr/bin/cloud-init",
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "N08",
    title: "No keys in network devices",
    why: "Offloaded TLS gives session keys to the host's device.",
    source: "dstack",
    ...without("TLS", "TLS_DEVICE"),
  },
  {
    id: "N09",
    title: "Nothing is bridged, tunnelled or filtered",
    why: "One interface, one stack, no rules engine.",
    services: {
      reason:
        "each has a pair of interfaces for each of its networks, and the guest forwards between them by rules (decision 0015)",
      kinds: ["static", "live"],
    },
    volumes: { reason: kernelOfServices, kinds: ["static", "live"] },
    ...without("BRIDGE", "VLAN_8021Q", "TUN", "VETH", "NETFILTER", "NET_SCHED", "XFRM_USER", "WIREGUARD"),
  },
  {
    id: "N10",
    title: "SYN floods do not fill memory",
    why: "A basic defence of a listener.",
    severity: "recommended",
    ...kernel({ SYN_COOKIES: "y" }),
  },
]);
