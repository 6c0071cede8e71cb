// SPDX-License-Identifier: Apache-2.0
/**
 * A KMS as the application of a guest: `examples/kms` is its image.
 *
 * The root secret is made inside the first such guest, which measured that it has no key provider, and is never anywhere
 * but in the memory of such guests. Every other one measured the KMS that it joins, and takes the secret from a replica
 * whose evidence it judged first, by the policy in its own image; that replica's KMS judged it, sealed the keys of this
 * application to a key that its quote binds, and wrote it into the log. What each may do is therefore in what is measured:
 * the files beside the program.
 *
 *     operators.json       who signs policies, once and for all (`kms serve --operators`)
 *     peers.yaml, .json    a policy: which guests are replicas (`caisson verify`), by their owners' releases
 *     keepers.json         { threshold, keepers: [{ name, key }, …] }: who gets shares of a root secret that is made here
 *     shares.json          in an image that recovers: the shares (GET /v1/shares) of the root secret that keepers give again;
 *                          with a volume, at the volume's first start
 *     collateral/*.json    Intel's, where guests should not bring it (`kms serve --collateral`)
 *
 * Where the image gives it a persistent volume, root secret and log lie there instead: made at the volume's first start, and
 * opened by another KMS, the one that the guest measured. Such a guest joins nobody and gives its root secret to nobody.
 *
 * In place of `collateral/`, the image's description may name a source of it (`collateralSource`), which the host carries
 * requests to and nobody trusts: what comes is verified, and never older than what was there.
 */
import { existsSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { checkSource } from "@caisson/client/collateral";
import { isQuote, type Policy, trustAnchorFor } from "@caisson/verify";
import { readPolicyText } from "@caisson/verify/policy-text";
import { releaseJudge } from "@caisson/verify/releases";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { messageOf } from "@caisson/vocabulary/failure";
import { hex, type Infer, nullable, object, oneOf, readAt, text } from "@caisson/vocabulary/schema";
import { askKms, type JudgedKms } from "./attestation.ts";
import { CollateralCache, loadCollateral } from "./collateral-cache.ts";
import { CollateralSource } from "./collateral-source.ts";
import { KmsError } from "./errors.ts";
import { readOperators } from "./operator-request.ts";
import { askHead, type GivenHead } from "./peer-heads.ts";
import { policyRoots } from "./policy-set.ts";
import { recoverFromKeepers } from "./recovery.ts";
import { rootKeyName, takeRoot } from "./root-handover.ts";
import {
  createRootSecret,
  dataFiles,
  kmsIdentity,
  openRootSecret,
  type Place,
  storeRootSecret,
} from "./root-secret.ts";
import { type Kms, type KmsOptions, startKms } from "./server.ts";
import { makeShares, readKeepers, readShares, type SharesDocument } from "./shares.ts";
import { openVolumeBook } from "./volumes/book.ts";

export interface GuestKmsOptions {
  /** The files of the image that say who decides. */
  files: string;
  /** Where the root secret lies: in the guest's memory, or on its persistent volume. */
  data: string;
  /** `data` is on a persistent volume, and outlives the guest. */
  persistent?: boolean;
  /** PostgreSQL servers of log and rows. Without one they lie in `data` and end with the guest. */
  databases: readonly string[];
  /** Other replicas (`kms serve --peer`). */
  peers?: readonly string[];
  /** Of an image that recovers: how many recoveries there were before, which its database may not know of. */
  restoredBefore?: number;
  /** Whom to ask for collateral (`kms serve --collateral-source`): "pcs", or the address of a PCCS or mirror. */
  collateralSource?: string;
  host: string;
  port: number;
  /** The guest's socket. */
  socket?: string;
  log?: (line: string) => void;
}

/** Longer than the longest quote takes. */
const guestMs = 90_000;
/** How long one that joins waits for its source of collateral before it takes what the giver's evidence brings. */
const joinMs = 60_000;

const infoSchema = object(
  {
    flavour: oneOf("development", "production"),
    appId: text("20 or 32 bytes in hexadecimal", /^([0-9a-f]{40}|[0-9a-f]{64})$/, 64),
    keyProvider: nullable(hex(32)),
    /** Where the host says that it is: nothing is believed for it. */
    keyProviderUrl: nullable(text("a URL", /^https?:/, 512)),
  },
  "loose",
);
const keySchema = object({ key: hex(32) });

/** One request to the guest. Throws KmsError "kms/guest". */
async function ask(socketPath: string, method: string, path: string, body?: object): Promise<unknown> {
  try {
    const { status, bytes } = await new Promise<{ status: number; bytes: Buffer }>((resolve, reject) => {
      const call = request({ socketPath, method, path, timeout: guestMs }, (response) => {
        buffer(response).then((all) => resolve({ status: response.statusCode!, bytes: all }), reject);
      });
      call.once("timeout", () => call.destroy(new Error("no answer")));
      call.once("error", reject).end(body && JSON.stringify(body));
    });
    if (status === 200) return JSON.parse(bytes.toString("utf8"));
    throw new Error(`it answers ${status} ${bytes.toString("utf8", 0, 200)}`);
  } catch (error) {
    throw new KmsError("kms/guest", `${method} ${path} of the guest: ${messageOf(error)}`, {
      fix: "this runs as the application of a guest: examples/kms",
    });
  }
}

const fileOf = (directory: string, ...names: string[]): string | undefined =>
  names.map((name) => join(directory, name)).find((path) => existsSync(path));

/**
 * What guests' platforms are judged by: of the image, of a source, or of what guests bring. Throws KmsError,
 * CollateralError.
 */
function collateralOf({
  files,
  collateralSource,
}: GuestKmsOptions): Pick<KmsOptions, "collateral" | "collateralSource"> {
  const collateral = fileOf(files, "collateral");
  if (collateralSource === undefined) return collateral === undefined ? {} : { collateral };
  if (collateral === undefined) return { collateralSource: { from: checkSource(collateralSource) } };
  throw new KmsError(
    "collateral/duplicate",
    `${collateral} is in the image, and ${collateralSource} is named`,
    {
      fix: "one of them",
    },
  );
}

/** Starts the KMS of this guest. Throws KmsError, and VerifyError where the image's policy cannot be read. */
export async function startGuestKms(options: GuestKmsOptions): Promise<Kms> {
  const { files, data, socket = "/run/caisson.sock" } = options;
  const judgedBy = collateralOf(options);
  const info = readAt("GET /info", infoSchema, await ask(socket, "GET", "/info"));
  const development = info.flavour === "development";
  const operators = join(files, "operators.json");
  const attest: Attest = (nonce) => ask(socket, "POST", "/evidence", { nonce: nonce.toHex() });
  const place = { development };
  let shares: SharesDocument | undefined;
  let contains: GivenHead | undefined;
  if (options.persistent === true) shares = await secretOnVolume(options, info, place, attest);
  else if (info.keyProvider !== null) {
    keep(data, await joinReplica(options, info, judgedBy), place);
    // The others' log is in the database that they share, if it is the one that this guest was given.
    if (options.databases.length > 0)
      contains = await askHead(info.keyProviderUrl!, Uint8Array.fromHex(info.keyProvider));
  } else if (existsSync(join(files, recovering))) await recover(options, place, attest);
  else shares = await makeSecret(options, place);
  return startKms({
    ...(shares !== undefined && { shares }),
    ...(contains !== undefined && { contains }),
    data,
    databases: options.databases,
    peers: options.peers ?? [],
    ...(existsSync(operators) && {
      operators: readOperators(operators, readFileSync(operators, "utf8")),
    }),
    ...judgedBy,
    ...(options.persistent === true ? { checkpoint: () => checkpoint(socket) } : { ownApp: info.appId }),
    attest,
    development,
    host: options.host,
    port: options.port,
    ...(options.log !== undefined && { log: options.log }),
  });
}

/** Beside the program of an image that recovers. */
const recovering = "shares.json";

function keep(data: string, secret: Uint8Array, place: Place): void {
  storeRootSecret(data, secret, place);
  secret.fill(0);
}

type Attest = (nonce: Uint8Array) => Promise<unknown>;

/** The root secret that keepers give again, once what it opens is marked as restored. Throws KmsError. */
async function recover(options: GuestKmsOptions, place: Place, evidence: Attest): Promise<void> {
  const { files, data, databases, restoredBefore } = options;
  const document = readShares(readFileSync(join(files, recovering), "utf8"));
  const secret = await recoverFromKeepers({ ...options, document, attest: evidence });
  makeDirectory(data, 0o700);
  // No KMS is left that would know whether its log is the newest. The secret comes last: without it, this begins anew.
  const book = await openVolumeBook(data, { databases, secret });
  await book.markRestored(restoredBefore);
  await book.close();
  keep(data, secret, place);
}

/** A root secret that is made here; its shares, where the image has keepers. Throws KmsError. */
async function makeSecret(
  { files, data }: GuestKmsOptions,
  place: Place,
): Promise<SharesDocument | undefined> {
  createRootSecret(data, place);
  return sharesOf(files, data, place);
}

/** New shares of the root secret, where the image has keepers. Throws KmsError. */
async function sharesOf(files: string, data: string, place: Place): Promise<SharesDocument | undefined> {
  const file = join(files, "keepers.json");
  if (!existsSync(file)) return undefined;
  const { threshold, keepers } = readKeepers(readFileSync(file, "utf8"));
  return makeShares(openRootSecret(data, place), threshold, keepers, Date.now());
}

/** Everything that was written to the guest's volume is kept, whatever its host does. Throws KmsError "kms/guest". */
async function checkpoint(socket: string): Promise<void> {
  await ask(socket, "POST", "/checkpoint");
}

/** The root secret of the guest's volume, made, or given by keepers, at the volume's first start. Throws KmsError. */
async function secretOnVolume(
  options: GuestKmsOptions,
  { keyProvider }: Infer<typeof infoSchema>,
  place: Place,
  evidence: Attest,
): Promise<SharesDocument | undefined> {
  const { files, data, databases, peers = [], socket = "/run/caisson.sock" } = options;
  const why =
    keyProvider === null
      ? "no KMS opens a volume for this guest"
      : databases.length > 0 || peers.length > 0
        ? "a KMS on a volume has its log there, and no replicas: no database, no peers"
        : undefined;
  if (why !== undefined)
    throw new KmsError("kms/guest", why, { fix: "docs/key-release.md, A KMS on a volume" });
  const recovers = existsSync(join(files, recovering));
  if (existsSync(join(data, dataFiles.rootSecret))) {
    if (recovers) checkRecovered(files, data, place);
  } else if (recovers) await recover(options, place, evidence);
  else createRootSecret(data, place);
  const shares = await sharesOf(files, data, place);
  // Nobody hears of an identity that the host could still take back.
  await checkpoint(socket);
  return shares;
}

/** An image that recovered starts again; on the volume of another KMS it is not what somebody meant. Throws KmsError. */
function checkRecovered(files: string, data: string, place: Place): void {
  const { identityKey } = readShares(readFileSync(join(files, recovering), "utf8"));
  const found = kmsIdentity(data, place);
  if (found === identityKey) return;
  throw new KmsError("root-secret/exists", `the volume holds the KMS ${found}`, {
    facts: [[`of ${recovering}`, identityKey]],
    fix: "recover onto a new volume",
  });
}

/** The root secret of the KMS that released this guest's keys, once who gives it was judged. Throws KmsError. */
async function joinReplica(
  { files, data, socket = "/run/caisson.sock", log }: GuestKmsOptions,
  { keyProvider, keyProviderUrl: url, appId, flavour }: Infer<typeof infoSchema>,
  { collateral, collateralSource }: Pick<KmsOptions, "collateral" | "collateralSource">,
): Promise<Uint8Array> {
  if (url === null) throw new KmsError("kms/guest", "the guest names a key provider without its address");
  const policy = readPeers(files, appId);
  const now = new Date();
  const own =
    collateral === undefined
      ? undefined
      : await loadCollateral(collateral, policyRoots(policy), now, flavour === "development");
  // What is fetched now is kept where the KMS will look for it (service.ts).
  const source =
    collateralSource &&
    new CollateralSource({
      ...collateralSource,
      directory: join(data, "collateral"),
      now: Date.now,
      limits: { ...collateralSource.limits, firstMs: joinMs },
      say: (event, fields) => log?.(JSON.stringify({ event, ...fields })),
    });
  const cache = new CollateralCache(own, source);
  try {
    const giver = await askKms(url, {
      policy,
      now,
      releases: releaseJudge(),
      collateralFor: async (evidence) => {
        if (!isQuote(evidence)) return undefined;
        const trust = trustAnchorFor(evidence.platform, policy);
        return trust && cache.find(evidence, trust, now);
      },
    });
    checkGiver(giver, keyProvider!, url);
  } finally {
    await source?.stop();
  }
  const { key } = readAt("POST /key", keySchema, await ask(socket, "POST", "/key", rootKeyName));
  return takeRoot(url, Uint8Array.fromHex(key), keyProvider!);
}

/** Which guests are replicas; always of this application. Throws KmsError, VerifyError. */
function readPeers(files: string, appId: string): Policy {
  const path = fileOf(files, "peers.yaml", "peers.json");
  if (path === undefined) {
    throw new KmsError("policy/none", `${files} holds no peers.yaml: which guests are replicas`);
  }
  const policy = readPolicyText(readFileSync(path, "utf8"), path);
  if (policy.app?.identity?.id !== appId) {
    throw new KmsError("policy/malformed", `${path}: app.identity.id is not this application, ${appId}`);
  }
  return policy;
}

/** Throws KmsError "kms/giver" unless the KMS at `url` is `expected`, in a guest that is accepted. */
export function checkGiver({ key, report }: JudgedKms, expected: string, url: string): void {
  const why =
    report.verdict !== "accepted"
      ? `its guest is ${report.verdict}: ${report.codes.join(", ")}`
      : key !== expected
        ? `it is the KMS ${key}, and this guest measured ${expected}`
        : undefined;
  if (why === undefined) return;
  throw new KmsError("kms/giver", `no root secret is taken from ${url}: ${why}`);
}
