// SPDX-License-Identifier: Apache-2.0
/**
 * What may reach what, as one batch of nf_tables messages (include/uapi/linux/netfilter/nf_tables.h). Pure.
 *
 * The rules: services reach each other inside of a network that both are on, and outside as far as their egress goes;
 * from outside come answers and published ports; the guest itself answers no service. Whatever else a service sends is
 * refused, so that it learns at once, and everything else is dropped.
 *
 * Connections are tracked where they cross the guest's edge alone, since both directions are allowed inside of a
 * network; and no service's can fill the table that all share: each has so many at once, and so many new ones a second.
 */
import {
  address,
  attribute,
  be16,
  be32,
  be64,
  type Message,
  NLM_F_APPEND,
  NLM_F_CREATE,
  nested,
  text,
  u32,
} from "./netlink.ts";

/** Protocol number of `Syscalls.netlink`. */
export const NETLINK_NETFILTER = 12;

/** Every service's outer interface begins with this; nothing else does. */
export const serviceInterfaces = "svc";
/** The guest's way out, as the kernel names its only network card. */
export const outside = "eth0";

export type Protocol = "tcp" | "udp";
const protocolNumbers: Record<Protocol, number> = { tcp: 6, udp: 17 };

export interface Subnet {
  /** Dotted, and its prefix length. */
  network: string;
  bits: number;
}

export interface Rules {
  /** All addresses of services. */
  all: Subnet;
  /** Each network's. */
  networks: readonly Subnet[];
  /** The guest's own addresses in those networks: what services answer it is tracked. */
  guest: readonly string[];
  /** Who may connect to anything outside. */
  free: readonly string[];
  /** Who may connect to what outside. */
  allowed: readonly { from: string; to: Subnet; port: number }[];
  /** Who may connect to a service's port besides: the front. */
  peers?: readonly { from: string; to: string; port: number }[];
  published: readonly { protocol: Protocol; port: number; address: string; target: number }[];
}

/** What one service may have open to outside at once, and begin in a second. */
const connectionLimit = 2048;
const newLimit = 500;

const table = "caisson";
const NFPROTO_IPV4 = 2;
const subsystem = 10 << 8;
const [NEWTABLE, NEWCHAIN, NEWRULE] = [0, 3, 6].map((number) => subsystem | number) as [
  number,
  number,
  number,
];
const [BATCH_BEGIN, BATCH_END] = [0x10, 0x11];
const [NF_DROP, NF_ACCEPT] = [0, 1];
/** Hooks and priorities: include/uapi/linux/netfilter.h, netfilter_ipv4.h. */
const hooks = { prerouting: 0, input: 1, forward: 2, postrouting: 4 } as const;
const [beforeTracking, beforeRouting, filtering, afterRouting] = [-300, -100, 0, 100];
const [VERDICT, REGISTER, SECOND] = [0, 1, 2];
const [META_IIFNAME, META_OIFNAME, META_L4PROTO] = [6, 7, 16];
const [NETWORK_HEADER, TRANSPORT_HEADER] = [1, 2];
/** Offsets in the IPv4 header, and of the destination port in TCP's and UDP's. */
const [SOURCE, DESTINATION, PORT] = [12, 16, 2];
const [CT_STATE, CT_STATUS] = [0, 2];
const establishedOrRelated = 2 | 4;
const translated = 1 << 5;
/** NFT_LIMIT_F_INV and NFT_CONNLIMIT_F_INV: what is above the limit. */
const above = 1;
/** NFT_REJECT_ICMP_UNREACH, and its code: administratively prohibited (RFC 1812, 5.2.7.1). */
const [unreachable, prohibited] = [0, 13];

/** struct nfgenmsg. */
const header = (family: number, resource: number): Buffer =>
  Buffer.from([family, 0, resource >> 8, resource & 0xff]);

const message = (type: number, flags: number, ...attributes: Buffer[]): Message => ({
  type,
  flags: NLM_F_CREATE | flags,
  acknowledge: true,
  body: [header(NFPROTO_IPV4, 0), ...attributes],
});
const bound = (type: number): Message => ({
  type,
  flags: 0,
  acknowledge: false,
  body: [header(0, subsystem >> 8)],
});

/** An expression of a rule: NFTA_LIST_ELEM { name, data }. */
const expression = (name: string, ...data: Buffer[]): Buffer =>
  nested(1, attribute(1, text(name)), nested(2, ...data));
const value = (type: number, bytes: Uint8Array): Buffer => nested(type, attribute(1, bytes));

const equals = (bytes: Uint8Array): Buffer =>
  expression("cmp", attribute(1, be32(REGISTER)), attribute(2, be32(0)), value(3, bytes));
const meta = (key: number): Buffer =>
  expression("meta", attribute(1, be32(REGISTER)), attribute(2, be32(key)));
const payload = (base: number, offset: number, length: number): Buffer =>
  expression(
    "payload",
    attribute(1, be32(REGISTER)),
    attribute(2, be32(base)),
    attribute(3, be32(offset)),
    attribute(4, be32(length)),
  );
const masked = (mask: Uint8Array): Buffer =>
  expression(
    "bitwise",
    attribute(1, be32(REGISTER)),
    attribute(2, be32(REGISTER)),
    attribute(3, be32(mask.length)),
    value(4, mask),
    value(5, new Uint8Array(mask.length)),
  );
const different = (bytes: Uint8Array): Buffer =>
  expression("cmp", attribute(1, be32(REGISTER)), attribute(2, be32(1)), value(3, bytes));
const verdict = (code: number): Buffer =>
  expression("immediate", attribute(1, be32(VERDICT)), nested(2, nested(2, attribute(1, be32(code)))));
const immediate = (register: number, bytes: Uint8Array): Buffer =>
  expression("immediate", attribute(1, be32(register)), value(2, bytes));

const refused = expression(
  "reject",
  attribute(1, be32(unreachable)),
  attribute(2, Uint8Array.of(prohibited)),
);
const moreThan = (connections: number): Buffer =>
  expression("connlimit", attribute(1, be32(connections)), attribute(2, be32(above)));
/** Type 0: of packets, here those that begin a connection. */
const fasterThan = (aSecond: number): Buffer =>
  expression(
    "limit",
    attribute(1, be64(aSecond)),
    attribute(2, be64(1)),
    attribute(3, be32(aSecond)),
    attribute(4, be32(0)),
    attribute(5, be32(above)),
  );

/** Names are 16 bytes in the register; a beginning compares fewer. */
const named = (name: string): Buffer => Buffer.concat([Buffer.from(name), Buffer.alloc(16 - name.length)]);
const cameFrom = (name: string): Buffer[] => [meta(META_IIFNAME), equals(named(name))];
const goesTo = (name: string): Buffer[] => [meta(META_OIFNAME), equals(named(name))];
const cameFromService = [meta(META_IIFNAME), equals(Buffer.from(serviceInterfaces))];
const goesToService = [meta(META_OIFNAME), equals(Buffer.from(serviceInterfaces))];
const tracked = (key: number, bits: number): Buffer[] => [
  expression("ct", attribute(1, be32(REGISTER)), attribute(2, be32(key))),
  masked(u32(bits)),
  different(u32(0)),
];
const answers = tracked(CT_STATE, establishedOrRelated);

function inside(offset: number, { network, bits }: Subnet): Buffer[] {
  const load = payload(NETWORK_HEADER, offset, 4);
  if (bits === 32) return [load, equals(address(network))];
  const mask = be32(bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0);
  return [load, masked(mask), equals(address(network))];
}
const host = (dotted: string): Subnet => ({ network: dotted, bits: 32 });
const toPort = (protocol: Protocol, port: number): Buffer[] => [
  meta(META_L4PROTO),
  equals(Uint8Array.of(protocolNumbers[protocol])),
  payload(TRANSPORT_HEADER, PORT, 2),
  equals(be16(port)),
];

type Chain = keyof typeof hooks | "tracking";

const chain = (
  name: Chain,
  hook: keyof typeof hooks,
  kind: string,
  priority: number,
  policy: number,
): Message =>
  message(
    NEWCHAIN,
    0,
    attribute(1, text(table)),
    attribute(3, text(name)),
    nested(4, attribute(1, be32(hooks[hook])), attribute(2, be32(priority))),
    attribute(5, be32(policy)),
    attribute(7, text(kind)),
  );
const rule = (name: Chain, ...expressions: Buffer[]): Message =>
  message(
    NEWRULE,
    NLM_F_APPEND,
    attribute(1, text(table)),
    attribute(2, text(name)),
    nested(4, ...expressions),
  );

/** The whole table, to be set once, all or nothing. */
export function firewall(rules: Rules): Message[] {
  return [
    bound(BATCH_BEGIN),
    message(NEWTABLE, 0, attribute(1, text(table))),
    chain("tracking", "prerouting", "filter", beforeTracking, NF_ACCEPT),
    chain("input", "input", "filter", filtering, NF_ACCEPT),
    chain("forward", "forward", "filter", filtering, NF_DROP),
    chain("prerouting", "prerouting", "nat", beforeRouting, NF_ACCEPT),
    chain("postrouting", "postrouting", "nat", afterRouting, NF_ACCEPT),
    ...untracked(rules),
    rule("input", ...answers, accept),
    rule("input", ...cameFromService, verdict(NF_DROP)),
    rule("forward", ...answers, accept),
    rule("forward", ...cameFrom(outside), ...tracked(CT_STATUS, translated), accept),
    ...betweenServices(rules),
    ...toOutside(rules),
    rule("forward", ...cameFromService, refused),
    ...rules.published.map(toPublished),
    rule("postrouting", ...inside(SOURCE, rules.all), ...goesTo(outside), expression("masq")),
    bound(BATCH_END),
  ];
}

const accept = verdict(NF_ACCEPT);
const fromService = (dotted: string): Buffer[] => [...cameFromService, ...inside(SOURCE, host(dotted))];
const betweenServiceInterfaces = [...cameFromService, ...goesToService];

/** Inside of a network both directions are allowed, so nothing there is tracked but what services answer the guest. */
const untracked = ({ guest, networks }: Rules): Message[] => [
  ...guest.map((own) => rule("tracking", ...cameFromService, ...inside(DESTINATION, host(own)), accept)),
  ...networks.map((subnet) => rule("tracking", ...cameFromService, ...within(subnet), expression("notrack"))),
];
const within = (subnet: Subnet): Buffer[] => [...inside(SOURCE, subnet), ...inside(DESTINATION, subnet)];

const betweenServices = ({ networks, peers = [] }: Rules): Message[] => [
  // By the interface, too: an address of the subnet that no service has would leave by the guest's default route.
  ...networks.map((subnet) => rule("forward", ...betweenServiceInterfaces, ...within(subnet), accept)),
  ...peers.map(({ from, to, port }) =>
    rule(
      "forward",
      ...betweenServiceInterfaces,
      ...inside(SOURCE, host(from)),
      ...inside(DESTINATION, host(to)),
      ...toPort("tcp", port),
      accept,
    ),
  ),
];

/** The limits come before what is allowed, for every service that may say anything outside. */
const toOutside = ({ free, allowed }: Rules): Message[] => [
  ...[...new Set([...free, ...allowed.map(({ from }) => from)])].flatMap((from) =>
    [fasterThan(newLimit), moreThan(connectionLimit)].map((limit) =>
      rule("forward", ...fromService(from), ...goesTo(outside), limit, verdict(NF_DROP)),
    ),
  ),
  ...free.map((from) => rule("forward", ...fromService(from), ...goesTo(outside), accept)),
  ...allowed.flatMap(({ from, to, port }) =>
    (["tcp", "udp"] as const).map((protocol) =>
      rule(
        "forward",
        ...fromService(from),
        ...inside(DESTINATION, to),
        ...goesTo(outside),
        ...toPort(protocol, port),
        accept,
      ),
    ),
  ),
];

const toPublished = ({ protocol, port, address: dotted, target }: Rules["published"][number]): Message =>
  rule(
    "prerouting",
    ...cameFrom(outside),
    ...toPort(protocol, port),
    immediate(REGISTER, address(dotted)),
    immediate(SECOND, be16(target)),
    // Type: destination; family; the address's and the port's registers.
    expression(
      "nat",
      attribute(1, be32(1)),
      attribute(2, be32(NFPROTO_IPV4)),
      attribute(3, be32(REGISTER)),
      attribute(5, be32(SECOND)),
    ),
  );
