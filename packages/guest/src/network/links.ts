// SPDX-License-Identifier: Apache-2.0
/** Interfaces, addresses and routes as rtnetlink messages (rtnetlink(7), include/uapi/linux/if_link.h). Pure. */
import { address, attribute, type Message, NLM_F_CREATE, NLM_F_EXCL, nested, text, u32 } from "./netlink.ts";

/** Protocol number of `Syscalls.netlink`. */
export const NETLINK_ROUTE = 0;

const RTM_NEWLINK = 16;
const RTM_NEWADDR = 20;
const RTM_NEWROUTE = 24;
const AF_INET = 2;
const IFF_UP = 1;
const [IFLA_IFNAME, IFLA_LINKINFO, IFLA_NET_NS_FD] = [3, 18, 28];
const [IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER] = [1, 2, 1];
const [IFA_ADDRESS, IFA_LOCAL] = [1, 2];
const [RTA_DST, RTA_OIF, RTA_GATEWAY] = [1, 4, 5];
const [RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_LINK, RTN_UNICAST] = [254, 4, 253, 1];

/** The kernel numbers loopback first in every namespace. */
export const loopbackIndex = 1;

/** struct ifinfomsg. */
function interfaceInfo(index: number, flags: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt32LE(flags, 8);
  bytes.writeUInt32LE(flags, 12);
  return bytes;
}

export interface End {
  name: string;
  index: number;
}

/** A pair of interfaces: `outer` here, `inner` in the network namespace of a descriptor. */
export const makePair = (outer: End, inner: End, namespace: number): Message => ({
  type: RTM_NEWLINK,
  flags: NLM_F_CREATE | NLM_F_EXCL,
  acknowledge: true,
  body: [
    interfaceInfo(outer.index, 0),
    attribute(IFLA_IFNAME, text(outer.name)),
    nested(
      IFLA_LINKINFO,
      attribute(IFLA_INFO_KIND, text("veth")),
      nested(
        IFLA_INFO_DATA,
        nested(
          VETH_INFO_PEER,
          interfaceInfo(inner.index, 0),
          attribute(IFLA_IFNAME, text(inner.name)),
          attribute(IFLA_NET_NS_FD, u32(namespace)),
        ),
      ),
    ),
  ],
});

export const bringUp = (index: number): Message => ({
  type: RTM_NEWLINK,
  flags: 0,
  acknowledge: true,
  body: [interfaceInfo(index, IFF_UP)],
});

/** An address without a network around it: what is reached through the interface, routes say. */
export function addAddress(index: number, dotted: string): Message {
  const header = Buffer.from([AF_INET, 32, 0, 0, 0, 0, 0, 0]);
  header.writeUInt32LE(index, 4);
  const value = address(dotted);
  return {
    type: RTM_NEWADDR,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    acknowledge: true,
    body: [header, attribute(IFA_LOCAL, value), attribute(IFA_ADDRESS, value)],
  };
}

/** A route to a network ("0.0.0.0" and 0: everything) over an interface, by a gateway unless it is on the link. */
export function addRoute(index: number, network: string, bits: number, gateway?: string): Message {
  const scope = gateway === undefined ? RT_SCOPE_LINK : 0;
  const header = Buffer.from([
    AF_INET,
    bits,
    0,
    0,
    RT_TABLE_MAIN,
    RTPROT_STATIC,
    scope,
    RTN_UNICAST,
    0,
    0,
    0,
    0,
  ]);
  return {
    type: RTM_NEWROUTE,
    flags: NLM_F_CREATE,
    acknowledge: true,
    body: [
      header,
      ...(bits === 0 ? [] : [attribute(RTA_DST, address(network))]),
      ...(gateway === undefined ? [] : [attribute(RTA_GATEWAY, address(gateway))]),
      attribute(RTA_OIF, u32(index)),
    ],
  };
}
