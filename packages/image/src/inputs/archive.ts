// SPDX-License-Identifier: Apache-2.0
/**
 * A suite of the Debian archive, from the signature down to the list of its packages.
 *
 * Invariants: only text that a trusted key signed is parsed; a trusted key is in the Debian archive keyring *and*
 * named by fingerprint; an index is as long as, and hashes to, what the signed text says; an expired or future-dated
 * text is refused. SHA-256 is the only hash that counts (openpgp refuses signatures over MD5, RIPEMD-160 and SHA-1).
 * Formats: Debian wiki "DebianRepository/Format", deb822(5), RFC 9580 section 7.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { messageOf } from "@caisson/vocabulary/failure";
import { type PublicKey, readCleartextMessage, readKeys, verify } from "openpgp";
import { ImageError } from "../errors.ts";

/** The signed text of one suite. */
export interface Release {
  /** The signed `Codename`, which is the name under `dists/`. */
  suite: string;
  date: Date;
  validUntil: Date | undefined;
  /** Set when the text had expired and was judged by this day instead. */
  asOf: Date | undefined;
  /** Primary fingerprints of the trusted keys that signed it: upper-case hex, sorted. */
  signedBy: string[];
  /** SHA-256 of the whole InRelease file, hex. */
  sha256: string;
  /** Whether the archive serves indexes under their hash, too. */
  byHash: boolean;
  /** Index files by their path below `dists/SUITE/`. */
  indexes: Map<string, { size: number; sha256: string }>;
}

export interface Trust {
  /** The Debian archive keyring: binary OpenPGP keys. */
  keyring: Uint8Array;
  /** Fingerprints (primary or subkey, upper-case hex) of the keys that may sign. */
  fingerprints: readonly string[];
  /** Where these were named, for messages: "caisson.yaml, line 12". */
  namedIn: string;
}

/** Clocks differ: a text may be dated this far ahead. */
const skewMs = 10 * 60_000;
/** Debian gives these no Valid-Until, because they change at point releases only. The name is signed. */
const suitesWithoutExpiry = /^(?:old)*stable$/;

/** The keyring of the package debian-archive-keyring. Throws ImageError `lock/keyring`. */
export async function readDebianKeyring(directory = "/usr/share/keyrings"): Promise<Uint8Array> {
  for (const name of ["debian-archive-keyring.pgp", "debian-archive-keyring.gpg"]) {
    const bytes = await readFile(`${directory}/${name}`).catch(() => undefined);
    if (bytes !== undefined) return bytes;
  }
  throw new ImageError("lock/keyring", `the Debian archive keyring is not in ${directory}`, {
    kind: "unsupported",
    fix: "apt-get install debian-archive-keyring",
  });
}

export interface KeyInfo {
  /** Primary fingerprint, upper-case hex. */
  fingerprint: string;
  /** Fingerprints of the subkeys. */
  subkeys: string[];
  user: string;
}

async function openKeyring(keyring: Uint8Array): Promise<PublicKey[]> {
  try {
    return (await readKeys({ binaryKeys: keyring })) as PublicKey[];
  } catch (error) {
    throw new ImageError("lock/keyring", `the archive keyring is damaged: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function describe(key: PublicKey): KeyInfo {
  return {
    fingerprint: key.getFingerprint().toUpperCase(),
    subkeys: key.getSubkeys().map((subkey) => subkey.getFingerprint().toUpperCase()),
    user: key.getUserIDs()[0] ?? "",
  };
}

/** The keys of a keyring, for a person to choose from. */
export async function listKeys(keyring: Uint8Array): Promise<KeyInfo[]> {
  return (await openKeyring(keyring)).map(describe);
}

/** A trusted key whose signature is good. */
interface Signer {
  fingerprint: string;
  user: string;
  /** Throws when the key that signed is expired or revoked on that day. */
  check: (day: Date) => Promise<unknown>;
}

/**
 * The text that a trusted key signed, with the trusted keys whose signature is good. The file must be one clearsigned
 * message and nothing else: what stands around it would not be signed. The library judges a key by the day that its
 * signature states, which whoever has the key chooses: that a key was good on another day is for `checkKeys`.
 */
async function signedText(file: string, suite: string, trust: Trust, now: Date) {
  const framed = /^-----BEGIN PGP SIGNED MESSAGE-----\r?\n[^]*\n-----END PGP SIGNATURE-----\s*$/.test(file);
  if (!framed || file.indexOf("-----BEGIN PGP SIGNED MESSAGE-----", 1) !== -1) {
    throw new ImageError("lock/signature", `the InRelease file of ${suite} is not one clearsigned message`);
  }
  const keys = await openKeyring(trust.keyring);
  const message = await readCleartextMessage({ cleartextMessage: file });
  const { data, signatures } = await verify({ message, verificationKeys: keys, date: now });
  const signers: Signer[] = [];
  const others: string[] = [];
  for (const { keyID, verified } of signatures) {
    const key = keys.find((candidate) => candidate.getKeys(keyID).length > 0);
    if (key === undefined) {
      others.push(`${keyID.toHex().toUpperCase()} (not in the keyring)`);
      continue;
    }
    const { fingerprint, user } = describe(key);
    const signer = key.getKeys(keyID)[0]!.getFingerprint().toUpperCase();
    try {
      await verified;
    } catch (error) {
      throw new ImageError("lock/signature", `the signature of ${suite} is bad: ${messageOf(error)}`, {
        facts: [["key", `${fingerprint} ${user}`]],
        cause: error,
      });
    }
    const named = trust.fingerprints.includes(fingerprint) || trust.fingerprints.includes(signer);
    if (named) signers.push({ fingerprint, user, check: (day) => key.getSigningKey(keyID, day) });
    else others.push(`${fingerprint} ${user}`);
  }
  if (signers.length === 0) {
    throw new ImageError("lock/untrusted-key", `${suite} is signed, but by no key that is named`, {
      facts: [
        ...others.map((key) => ["signed by", key] as const),
        ...trust.fingerprints.map((key) => ["expected", `${key} (${trust.namedIn})`] as const),
      ],
      fix: "caisson lock --show-keys, then add the fingerprint to archive.keys if you trust it; newer keys come with a newer debian-archive-keyring",
    });
  }
  return { text: data, signers };
}

/**
 * Fingerprints of the keys that were good on the day by which the text is judged, sorted. Throws ImageError
 * `lock/untrusted-key` when none was.
 */
async function checkKeys(suite: string, signers: readonly Signer[], day: Date): Promise<string[]> {
  const good = new Set<string>();
  const bad: (readonly [string, string])[] = [];
  for (const { fingerprint, user, check } of signers) {
    await check(day).then(
      () => good.add(fingerprint),
      (error: Error) => bad.push(["signed by", `${fingerprint} ${user} (${error.message})`]),
    );
  }
  if (good.size > 0) return [...good].sort();
  throw new ImageError("lock/untrusted-key", `${suite} is signed, but by no key that is still good`, {
    facts: [...bad, ["judged on", dayText(day)]],
    fix: "a newer debian-archive-keyring, if the archive has newer keys; or another mirror",
  });
}

/** What the library throws at a damaged message is not for people; bugs of ours keep their stack as the cause. */
function damaged(suite: string, error: unknown): ImageError {
  if (error instanceof ImageError) return error;
  return new ImageError("lock/signature", `the InRelease file of ${suite} is damaged: ${messageOf(error)}`, {
    cause: error,
  });
}

/** One deb822 paragraph. A field that stands twice is refused. */
function parseFields(paragraph: string, where: string): Map<string, string> {
  const fields = new Map<string, string>();
  let current: string | undefined;
  for (const line of paragraph.split("\n")) {
    if (/^[ \t]/.test(line) && current !== undefined) {
      fields.set(current, `${fields.get(current)!}\n${line.trim()}`);
      continue;
    }
    const match = /^([!-9;-~]+):(.*)$/.exec(line);
    if (match === null || fields.has(match[1]!)) {
      throw new ImageError(
        "lock/index",
        `${where} has a malformed or repeated field: '${line.slice(0, 80)}'`,
      );
    }
    current = match[1]!;
    fields.set(current, match[2]!.trim());
  }
  return fields;
}

function parseDate(text: string | undefined, field: string, suite: string): Date | undefined {
  if (text === undefined) return undefined;
  const date = new Date(text);
  if (!/ (?:UTC|GMT|\+0000)$/.test(text) || Number.isNaN(date.getTime())) {
    throw new ImageError("lock/index", `${suite}: ${field} '${text.slice(0, 40)}' is not a date in UTC`);
  }
  return date;
}

const dayText = (date: Date) => date.toISOString().replace(/\.000Z$/, "Z");

/** Refuses what is expired or from the future; returns the day by which an expired text was accepted. */
function checkDates(
  suite: string,
  signedName: string,
  date: Date,
  validUntil: Date | undefined,
  now: Date,
  asOf: Date | undefined,
): Date | undefined {
  if (date.getTime() > now.getTime() + skewMs) {
    throw new ImageError("lock/future", `${suite} is dated ${dayText(date)}, which is in the future`, {
      facts: [["now", dayText(now)]],
      fix: "set this machine's clock; or use another mirror",
    });
  }
  if (validUntil === undefined) {
    if (suitesWithoutExpiry.test(signedName)) return undefined;
    throw new ImageError(
      "lock/expired",
      `${suite} has no Valid-Until, which only a released stable suite may lack`,
    );
  }
  if (validUntil >= now) return undefined;
  if (asOf !== undefined && validUntil >= asOf && asOf <= now) return asOf;
  throw new ImageError(
    "lock/expired",
    `the index of ${suite} has expired: the mirror withholds updates, or is stale`,
    {
      facts: [
        ["dated", dayText(date)],
        ["valid until", dayText(validUntil)],
        ["now", dayText(now)],
        ...(asOf === undefined ? [] : [["archive.as_of", dayText(asOf)] as const]),
      ],
      fix: `another mirror (--mirror or CAISSON_MIRROR); or accept this age in the spec: archive.as_of.${suite}: ${dayText(validUntil).slice(0, 10)}`,
    },
  );
}

/**
 * Checks an InRelease file and returns what it says. `suite` is a codename ("trixie-backports"); `now` is the clock;
 * `asOf` is the day by which an expired text, and the keys that signed it, are judged instead. Errors: ImageError
 * `lock/signature`, `lock/untrusted-key`, `lock/expired`, `lock/future`, `lock/wrong-suite`, `lock/index`.
 */
export async function verifyRelease(
  inRelease: Uint8Array,
  suite: string,
  trust: Trust,
  now: Date,
  asOf?: Date,
): Promise<Release> {
  const file = Buffer.from(inRelease).toString("utf8");
  const { text, signers } = await signedText(file, suite, trust, now).catch((error: unknown) => {
    throw damaged(suite, error);
  });
  const fields = parseFields(text.trim(), `InRelease of ${suite}`);
  if (fields.get("Codename") !== suite) {
    throw new ImageError(
      "lock/wrong-suite",
      `the mirror's ${suite} says that it is ${fields.get("Codename") ?? "nameless"}`,
      {
        fix: "another mirror, with --mirror or CAISSON_MIRROR",
      },
    );
  }
  const date = parseDate(fields.get("Date"), "Date", suite);
  if (date === undefined) throw new ImageError("lock/index", `${suite} has no Date`);
  const validUntil = parseDate(fields.get("Valid-Until"), "Valid-Until", suite);
  const accepted = checkDates(suite, fields.get("Suite") ?? "", date, validUntil, now, asOf);
  const signedBy = await checkKeys(suite, signers, accepted ?? now);
  const indexes = new Map<string, { size: number; sha256: string }>();
  for (const line of (fields.get("SHA256") ?? "").split("\n").slice(1)) {
    const match = /^([0-9a-f]{64}) +(\d{1,12}) (\S+)$/.exec(line);
    if (match === null)
      throw new ImageError("lock/index", `${suite}: malformed line under SHA256: '${line.slice(0, 100)}'`);
    indexes.set(match[3]!, { sha256: match[1]!, size: Number(match[2]) });
  }
  return {
    suite,
    date,
    validUntil,
    asOf: accepted,
    signedBy,
    sha256: createHash("sha256").update(inRelease).digest("hex"),
    byHash: fields.get("Acquire-By-Hash") === "yes",
    indexes,
  };
}

/** Where a suite's package index is and what it hashes to. Throws ImageError `lock/index` when the suite lists none. */
export function packagesIndex(release: Release): { path: string; size: number; sha256: string } {
  const name = "main/binary-amd64/Packages.xz";
  const index = release.indexes.get(name);
  if (index === undefined) throw new ImageError("lock/index", `${release.suite} lists no ${name}`);
  const directory = `dists/${release.suite}/main/binary-amd64`;
  return {
    ...index,
    path: release.byHash ? `${directory}/by-hash/SHA256/${index.sha256}` : `${directory}/Packages.xz`,
  };
}

/** One package of an index; the fields are as in the index, not yet parsed. */
export interface PackageStanza {
  name: string;
  suite: string;
  provides: string;
  /** All fields; parsed on demand, because an index has tens of thousands of packages and an image needs dozens. */
  fields(): Map<string, string>;
}

/** The packages of a decompressed `Packages` file. Errors: ImageError `lock/index`, for a broken package when used. */
export function parsePackages(index: Uint8Array, suite: string): PackageStanza[] {
  const text = Buffer.from(index.buffer, index.byteOffset, index.length).toString("utf8");
  const stanzas: PackageStanza[] = [];
  for (let start = 0; start < text.length; ) {
    const blank = text.indexOf("\n\n", start);
    const end = blank === -1 ? text.length : blank;
    const paragraph = text.slice(start, end);
    start = end + 2;
    if (paragraph.trim() === "") continue;
    const name = /^Package: ?([a-z0-9][a-z0-9.+-]*)$/m.exec(paragraph)?.[1];
    if (name === undefined) throw new ImageError("lock/index", `${suite} lists a package without a name`);
    stanzas.push({
      name,
      suite,
      provides: /^Provides: ?(.*)$/m.exec(paragraph)?.[1] ?? "",
      fields: () => parseFields(paragraph.trimEnd(), `${name} in ${suite}`),
    });
  }
  return stanzas;
}
