// SPDX-License-Identifier: Apache-2.0
/** Let's Encrypt's test authority, built once from the Go module proxy and kept, and a name server for it. */
import { execFileSync, spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { selfSigned } from "@caisson/front/certificate";
import { freeTcpPort } from "@caisson/host/ports";

const version = "v2.10.1";

/** The program; undefined where there is neither it nor Go to build it with. */
export function pebbleProgram(cache: string): string | undefined {
  const directory = join(cache, "pebble", version);
  const program = join(directory, "pebble");
  if (existsSync(program)) return program;
  mkdirSync(directory, { recursive: true });
  try {
    const environment = { ...process.env, GOBIN: directory };
    const source = `github.com/letsencrypt/pebble/v2/cmd/pebble@${version}`;
    execFileSync("go", ["install", source], { env: environment, stdio: "ignore", timeout: 1_800_000 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  return program;
}

/** Answers every question for an address with 127.0.0.1, and any other with nothing (RFC 1035, section 4); over TCP. */
async function startNames(): Promise<{ port: number; close(): void }> {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.on("data", (bytes: Buffer) => {
      const query = bytes.subarray(2);
      let end = 12;
      while (query[end] !== 0) end += query[end]! + 1;
      const isAddress = query.readUInt16BE(end + 1) === 1;
      const header = Buffer.from(query.subarray(0, 12));
      header.writeUInt16BE(0x8180, 2);
      header.writeUInt16BE(isAddress ? 1 : 0, 6);
      header.writeUInt32BE(0, 8);
      const address = Buffer.from("c00c00010001000000010004" + "7f000001", "hex");
      const answer = Buffer.concat([header, query.subarray(12, end + 5), ...(isAddress ? [address] : [])]);
      socket.write(Buffer.concat([Uint8Array.of(answer.length >> 8, answer.length & 0xff), answer]));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}

export interface PebbleOptions {
  /** The address by which clients know it, as a machine behind QEMU's user network does. */
  host?: string;
  /** Seconds for which certificates are good. */
  validity?: number;
}

/** `tlsPort` is where it looks for proofs. Nonces are refused in a third of all requests. */
export async function startPebble(
  program: string,
  place: string,
  tlsPort: number,
  { host = "127.0.0.1", validity = 90 * 86_400 }: PebbleOptions = {},
) {
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const roots = selfSigned(key, ["127.0.0.1", host], Date.now());
  const files = { certificate: join(place, "pebble.pem"), privateKey: join(place, "pebble.key") };
  writeFileSync(files.certificate, roots);
  writeFileSync(files.privateKey, key.export({ format: "pem", type: "pkcs8" }));
  const [port, management] = [await freeTcpPort(), await freeTcpPort()];
  const names = await startNames();
  const pebble = {
    listenAddress: `127.0.0.1:${port}`,
    managementListenAddress: `127.0.0.1:${management}`,
    ...files,
    httpPort: 1,
    tlsPort,
    ocspResponderURL: "",
    externalAccountBindingRequired: false,
    profiles: { default: { description: "of a test", validityPeriod: validity } },
  };
  writeFileSync(join(place, "pebble.json"), JSON.stringify({ pebble }));
  const child = spawn(
    program,
    ["-config", join(place, "pebble.json"), "-dnsserver", `127.0.0.1:${names.port}`, "-strict"],
    {
      env: { PEBBLE_VA_NOSLEEP: "1", PEBBLE_WFE_NONCEREJECT: "33", PEBBLE_AUTHZREUSE: "0" },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
  }
  const limit = performance.now() + 30_000;
  while (!/Listening on/.test(said)) {
    if (child.exitCode !== null || performance.now() > limit) throw new Error(said);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    directory: `https://${host}:${port}/dir`,
    roots,
    /** Of which its certificates are, PEM. */
    issuer: `https://127.0.0.1:${management}/roots/0`,
    log: () => said,
    close() {
      child.kill();
      names.close();
    },
  };
}
