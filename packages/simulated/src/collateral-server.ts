// SPDX-License-Identifier: Apache-2.0
/**
 * A server on the loopback that speaks as Intel's PCS, as a PCCS and as AMD's KDS do, from minted or recorded documents, with
 * every quirk that real ones showed. It keeps a list of what it was asked.
 */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Collateral } from "@caisson/verify";

/** What goes wrong, or is written otherwise than PCS does. */
export interface Quirks {
  /** How lists are sent; PCS: DER where it is asked for. */
  crl?: "der" | "pem" | "hex" | "quoted-hex" | "base64";
  /** How chains in headers are written; PCS: encoded. */
  chain?: "encoded" | "twice" | "spaces";
  /** The header of a TCB info, as of API v3. */
  oldHeader?: boolean;
  /** FMSPC compared as a PCCS does: upper case alone. */
  upperCaseOnly?: boolean;
  /** Every answer is this status; 429 and 503 as often as `times` says. */
  status?: number;
  retryAfter?: string;
  times?: number;
  /** What is done to a body. */
  body?: "cut" | "oversized" | "hang" | "html" | "wrong-length";
  /** The server to which every question is sent on. */
  redirect?: string;
}

/** What AMD's part serves: by product. */
export interface AmdDocuments {
  product: string;
  kind: "vcek" | "vlek";
  /** Chip id and query that are known. */
  chipId: string;
  query: string;
  endorsement: Uint8Array;
  chain: string;
  crl: Uint8Array;
}

export interface CollateralServer {
  url: string;
  /** Paths with queries, in the order in which they were asked. */
  asked: string[];
  /** May be changed between requests. */
  quirks: Quirks;
  /** Intel's, by FMSPC in upper case and set; may be changed. */
  intel: Map<string, Collateral>;
  close(): Promise<void>;
}

interface Reply {
  body: Uint8Array | string;
  headers?: Record<string, string>;
}

/** `intel`: by "FMSPC/standard", "FMSPC/early" or "FMSPC/<number>". */
export async function serveCollateral(
  intel: Record<string, Collateral>,
  amd: readonly AmdDocuments[] = [],
  quirks: Quirks = {},
): Promise<CollateralServer> {
  const state: Pick<CollateralServer, "asked" | "quirks" | "intel"> = {
    asked: [],
    quirks,
    intel: new Map(Object.entries(intel)),
  };
  const server = createServer((request, response) => {
    const url = new URL(request.url!, "http://localhost");
    state.asked.push(request.url!);
    const { quirks: now } = state;
    if (now.redirect !== undefined) {
      const location = now.redirect + request.url!;
      return void response.writeHead(302, { location }).end();
    }
    if (now.status !== undefined && (now.times ?? 1) > 0) {
      if (now.times !== undefined) now.times -= 1;
      const retry = now.retryAfter === undefined ? {} : { "retry-after": now.retryAfter };
      return void response.writeHead(now.status, retry).end("busy, or wrong");
    }
    const reply = intelReply(url, state) ?? amdReply(url, amd);
    if (reply === undefined) return void response.writeHead(404).end("no cache data");
    send(response, reply, now);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(state, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  });
}

function send(response: ServerResponse, { body, headers = {} }: Reply, quirks: Quirks): void {
  const bytes = Buffer.from(body);
  if (quirks.body === "hang") return;
  if (quirks.body === "html") return void response.writeHead(200, headers).end("<html>proxy login</html>");
  if (quirks.body === "oversized") {
    return void response.writeHead(200, headers).end(Buffer.concat([bytes, Buffer.alloc(2 << 20, 0x20)]));
  }
  if (quirks.body === "cut")
    return void response.writeHead(200, headers).end(bytes.subarray(0, bytes.length >> 1));
  if (quirks.body === "wrong-length") {
    response.writeHead(200, { ...headers, "content-length": bytes.length + 10 });
    response.write(bytes);
    return void setTimeout(() => response.destroy(), 20);
  }
  response.writeHead(200, headers).end(bytes);
}

function intelReply(
  url: URL,
  { intel, quirks }: Pick<CollateralServer, "intel" | "quirks">,
): Reply | undefined {
  const path = /^\/(?:sgx|tdx)\/certification\/v4\/(tcb|qe\/identity|pckcrl|rootcacrl)$/.exec(
    url.pathname,
  )?.[1];
  const [first] = intel.values();
  if (path === undefined || first === undefined) return undefined;
  const set = url.searchParams.get("tcbEvaluationDataNumber") ?? url.searchParams.get("update") ?? "standard";
  if (path === "tcb") {
    const asked = url.searchParams.get("fmspc") ?? "";
    const found = intel.get(`${quirks.upperCaseOnly ? asked : asked.toUpperCase()}/${set}`);
    return (
      found && {
        body: `{"tcbInfo":${found.tcb_info},"signature":"${found.tcb_info_signature}"}`,
        headers: {
          [quirks.oldHeader ? "SGX-TCB-Info-Issuer-Chain" : "TCB-Info-Issuer-Chain"]: inHeader(
            found.tcb_info_issuer_chain,
            quirks,
          ),
        },
      }
    );
  }
  const ofSet = [...intel].find(([key]) => key.endsWith(`/${set}`))?.[1] ?? first;
  if (path === "qe/identity") {
    return {
      body: `{"enclaveIdentity":${ofSet.qe_identity},"signature":"${ofSet.qe_identity_signature}"}`,
      headers: { "SGX-Enclave-Identity-Issuer-Chain": inHeader(ofSet.qe_identity_issuer_chain, quirks) },
    };
  }
  if (path === "rootcacrl") return { body: listBody(first.root_ca_crl, { crl: "hex", ...quirks }) };
  return {
    body: listBody(first.pck_crl, quirks),
    headers: { "SGX-PCK-CRL-Issuer-Chain": inHeader(first.pck_crl_issuer_chain, quirks) },
  };
}

function inHeader(pem: string, { chain = "encoded" }: Quirks): string {
  if (chain === "spaces") return pem.trim().replaceAll("\n", " ");
  const once = encodeURIComponent(pem);
  return chain === "twice" ? encodeURIComponent(once) : once;
}

function listBody(hex: string, { crl = "der" }: Quirks): Uint8Array | string {
  const bytes = Buffer.from(hex, "hex");
  switch (crl) {
    case "der":
      return bytes;
    case "hex":
      return hex.toUpperCase();
    case "quoted-hex":
      return `"${hex}"\n`;
    case "base64":
      return bytes.toString("base64");
    case "pem":
      return `-----BEGIN X509 CRL-----\n${bytes
        .toString("base64")
        .match(/.{1,64}/g)!
        .join("\n")}\n-----END X509 CRL-----\n`;
  }
}

function amdReply(url: URL, amd: readonly AmdDocuments[]): Reply | undefined {
  const [, kind, product, what] = /^\/(vcek|vlek)\/v1\/(\w+)\/(\w+)$/.exec(url.pathname) ?? [];
  const found = amd.find((one) => one.kind === kind && one.product === product);
  if (found === undefined) return undefined;
  if (what === "cert_chain") return { body: found.chain };
  if (what === "crl") return { body: found.crl };
  return what === found.chipId && url.search === found.query ? { body: found.endorsement } : undefined;
}
