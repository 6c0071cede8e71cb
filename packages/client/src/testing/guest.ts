// SPDX-License-Identifier: Apache-2.0
/** A front with evidence of a test's own platform: for tests of clients, without a machine. */
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createFront } from "@caisson/front";
import { selfSigned } from "@caisson/front/certificate";
import { generateKeyPair, type KeyPair } from "@caisson/protocol/hpke-context";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { readPolicy } from "@caisson/verify";
import { reportData } from "@caisson/verify/report-data";
import { hpkeConfigOf } from "@caisson/vocabulary/channel";

const register = "a1".repeat(48);
const registers = { mrtd: register, rtmr0: register, rtmr1: register, rtmr2: register };
const day = 24 * 3_600_000;

/** A platform, and a policy that accepts its machine. */
export function testPlatform(now = Date.now(), lifeMs = 30 * day) {
  const described = hierarchy(
    "clients",
    { issued: new Date(now - day), expires: new Date(now + lifeMs) },
    "tdx",
  );
  const { collateral, trust, pckChain } = mint(described);
  /** As a relying party writes it down. */
  const written = {
    version: "caisson/policy/v1",
    tcb: { minimumEvaluationNumber: "any" },
    platformIdentities: "any",
    runtimeEvents: "none",
    references: [registers],
  };
  const quote = (data: Uint8Array, fields: object = {}): string =>
    Buffer.from(
      issueQuote(
        described,
        pckChain,
        {
          mrTd: register,
          ...registers,
          rtmr3: "00".repeat(48),
          reportData: Buffer.from(data).toString("hex"),
          ...fields,
        },
        "td15-v5",
      ),
    ).toString("base64");
  return { judgement: { policy: readPolicy(written), collateral, trust }, written, quote };
}
export type TestPlatform = ReturnType<typeof testPlatform>;

export interface TestGuest {
  url: string;
  port: number;
  tlsKey: Uint8Array;
  hpke: KeyPair;
  /** The TLS key itself, as whoever stole it has it. */
  key: KeyObject;
  /** The application's server. */
  behind: Server;
  /** How many quotes were made. */
  quotes: () => number;
  close(): void;
}

export interface GuestChange {
  /** What evidence says in place of the truth. */
  keys?: Partial<{ tlsKey: Uint8Array; hpke: Uint8Array }>;
  fields?: object;
  scheme?: "caisson/channel/v1" | "caisson/app/v1";
  port?: number;
  require?: "tls" | "encrypted";
}

/** Starts an application and a front before it. */
export async function testGuest(
  { quote }: TestPlatform,
  application: RequestListener,
  change: GuestChange = {},
): Promise<TestGuest> {
  const behind = createServer(application);
  behind.listen(0, "127.0.0.1");
  await once(behind, "listening");
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  const tlsKey = new Uint8Array(createHash("sha256").update(spki).digest());
  const hpke = await generateKeyPair();
  let quotes = 0;
  const front = createFront({
    key: key.export({ format: "pem", type: "pkcs8" }) as string,
    certificate: selfSigned(key, ["guest.example", "127.0.0.1"], Date.now()),
    hpke,
    application: { host: "127.0.0.1", port: (behind.address() as AddressInfo).port },
    require: change.require ?? "tls",
    attest: async (nonceRoot) => {
      quotes++;
      const { scheme = "caisson/channel/v1", keys } = change;
      const bound = {
        nonceRoot,
        tlsKey: keys?.tlsKey ?? tlsKey,
        hpkeConfig: hpkeConfigOf(keys?.hpke ?? hpke.publicKey),
      };
      const fields = scheme === "caisson/app/v1" ? { nonce: nonceRoot } : bound;
      const data = await reportData(scheme, fields as Parameters<typeof reportData>[1]);
      return JSON.stringify({
        version: "caisson/evidence/v1",
        platform: "tdx",
        quote: quote(data, change.fields),
        runtimeEvents: [],
        reportData: {
          scheme,
          fields: Object.fromEntries(Object.entries(fields).map(([name, bytes]) => [name, bytes.toHex()])),
        },
      });
    },
  });
  front.server.listen(change.port ?? 0, "127.0.0.1");
  await once(front.server, "listening");
  const { port } = front.server.address() as AddressInfo;
  return {
    url: `https://127.0.0.1:${port}/`,
    port,
    tlsKey,
    hpke,
    key,
    behind,
    quotes: () => quotes,
    close() {
      front.close();
      behind.closeAllConnections();
      behind.close();
    },
  };
}
