// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import { test } from "node:test";
import { config, enums } from "openpgp";
import { ImageError, type ImageErrorCode } from "../errors.ts";
import { clearsign, makeIndex, makeKey, makeRelease, sha256, type TestSuite } from "../testing/archive.ts";
import { listKeys, packagesIndex, parsePackages, readDebianKeyring, verifyRelease } from "./archive.ts";

const day = (text: string) => new Date(`${text}T00:00:00Z`);
const made = day("2026-01-01");
const now = day("2026-06-10");
const archiveKey = await makeKey("archive", made);
const stableKey = await makeKey("stable", made);
const strayKey = await makeKey("stray", made);
const expiredKey = await makeKey("expired", made, day("2026-06-09"));
const keyring = Buffer.concat([archiveKey.public, stableKey.public, expiredKey.public]);
const index = Buffer.from("the index");

const testing: TestSuite = {
  name: "forky",
  packages: [],
  date: day("2026-06-08"),
  validUntil: day("2026-06-15"),
};
const stable: TestSuite = { name: "trixie", packages: [], date: day("2026-03-01") };
const text = (suite: TestSuite) => makeRelease(suite, index);
const signed = (suite: TestSuite, keys = [archiveKey]) => clearsign(text(suite), keys, suite.date);

const trust = { keyring, fingerprints: [archiveKey.fingerprint], namedIn: "the test" };
const verify = (
  file: string,
  suite = "forky",
  { when = now, asOf }: { when?: Date; asOf?: Date } = {},
  by = trust,
) => verifyRelease(Buffer.from(file), suite, by, when, asOf);

test("a signed text says where its index is", async () => {
  const file = await signed(testing);
  const release = await verify(file);
  deepEqual(release.signedBy, [archiveKey.fingerprint]);
  equal(release.sha256, sha256(file));
  equal(release.validUntil?.toISOString(), "2026-06-15T00:00:00.000Z");
  deepEqual(packagesIndex(release), {
    path: `dists/forky/main/binary-amd64/by-hash/SHA256/${sha256(index)}`,
    size: index.length,
    sha256: sha256(index),
  });
});

test("a stable suite has no expiry, and says so in its signed name", async () => {
  const release = await verify(await signed(stable), "trixie");
  equal(release.validUntil, undefined);
});

test("other signatures beside a trusted one do no harm", async () => {
  const release = await verify(await signed(testing, [strayKey, stableKey, archiveKey]));
  deepEqual(release.signedBy, [archiveKey.fingerprint]);
});

test("an expired text is accepted as of a day on which it was valid, and says so", async () => {
  const file = await signed(testing);
  const release = await verify(file, "forky", { when: day("2026-07-01"), asOf: day("2026-06-12") });
  equal(release.asOf?.toISOString(), "2026-06-12T00:00:00.000Z");
  const fresh = await verify(file, "forky", { when: now, asOf: day("2026-06-12") });
  equal(fresh.asOf, undefined);
});

const edited = (edit: (text: string) => string) => signed({ ...testing, edit });

const cases: { name: string; run: () => Promise<unknown>; code: ImageErrorCode }[] = [
  {
    name: "one character changed",
    run: async () => verify((await signed(testing)).replace("Origin: Debian", "Origin: Debiam")),
    code: "lock/signature",
  },
  {
    name: "text before the message",
    run: async () => verify(`Codename: forky\n\n${await signed(testing)}`),
    code: "lock/signature",
  },
  {
    name: "text after the message",
    run: async () => verify(`${await signed(testing)}\nCodename: forky\n`),
    code: "lock/signature",
  },
  {
    name: "two messages",
    run: async () => verify(`${await signed(testing)}${await signed(testing)}`),
    code: "lock/signature",
  },
  { name: "no signature", run: () => verify(text(testing)), code: "lock/signature" },
  { name: "an empty file", run: () => verify(""), code: "lock/signature" },
  {
    name: "a file cut short",
    run: async () => verify((await signed(testing)).slice(0, -60)),
    code: "lock/signature",
  },
  {
    name: "a key that the keyring lacks",
    run: async () => verify(await signed(testing, [strayKey])),
    code: "lock/untrusted-key",
  },
  {
    name: "a key that is not named",
    run: async () => verify(await signed(testing, [stableKey])),
    code: "lock/untrusted-key",
  },
  {
    name: "a named key that the keyring lacks",
    run: async () =>
      verify(
        await signed(testing, [strayKey]),
        "forky",
        {},
        { ...trust, fingerprints: [strayKey.fingerprint] },
      ),
    code: "lock/untrusted-key",
  },
  {
    name: "a signature from the future",
    run: async () => verify(await clearsign(text(testing), [archiveKey], day("2026-06-20"))),
    code: "lock/signature",
  },
  {
    name: "a damaged keyring",
    run: async () =>
      verify(await signed(testing), "forky", {}, { ...trust, keyring: Buffer.from("no keys") }),
    code: "lock/keyring",
  },
  {
    name: "an expired text",
    run: async () => verify(await signed(testing), "forky", { when: day("2026-06-16") }),
    code: "lock/expired",
  },
  {
    name: "a text expired on the accepted day, too",
    run: async () =>
      verify(await signed(testing), "forky", { when: day("2026-07-01"), asOf: day("2026-06-20") }),
    code: "lock/expired",
  },
  {
    name: "an accepted day in the future",
    run: async () =>
      verify(await signed(testing), "forky", { when: day("2026-07-01"), asOf: day("2027-01-01") }),
    code: "lock/expired",
  },
  {
    name: "no expiry where one must be",
    run: () => edited((t) => t.replace(/^Valid-Until:.*\n/m, "")).then(verify),
    code: "lock/expired",
  },
  {
    name: "a text from the future",
    run: async () =>
      verify(await clearsign(text({ ...testing, date: day("2026-06-11") }), [archiveKey], day("2026-06-01"))),
    code: "lock/future",
  },
  {
    name: "another suite",
    run: async () => verify(await signed(testing), "trixie"),
    code: "lock/wrong-suite",
  },
  {
    name: "no codename",
    run: () => edited((t) => t.replace(/^Codename:.*\n/m, "")).then(verify),
    code: "lock/wrong-suite",
  },
  {
    name: "a field twice",
    run: () => edited((t) => t.replace("SHA256:", "Codename: trixie\nSHA256:")).then(verify),
    code: "lock/index",
  },
  {
    name: "a date without a zone",
    run: () => edited((t) => t.replace(/^(Date:.*) UTC$/m, "$1")).then(verify),
    code: "lock/index",
  },
  {
    name: "no date",
    run: () => edited((t) => t.replace(/^Date:.*\n/m, "")).then(verify),
    code: "lock/index",
  },
  {
    name: "a short hash",
    run: () => edited((t) => t.replace(/^ [0-9a-f]{64} /m, " abcd ")).then(verify),
    code: "lock/index",
  },
  {
    name: "only MD5 for the index",
    run: () =>
      edited((t) => t.replace("SHA256:", "MD5Sum:")).then(async (f) => packagesIndex(await verify(f))),
    code: "lock/index",
  },
];

for (const { name, run, code } of cases) {
  test(`refused: ${name}`, async () => {
    await rejects(run(), { name: "ImageError", code });
  });
}

test("a stray key is shown beside those that were expected, with where these are named", async () => {
  await rejects(verify(await signed(testing, [stableKey])), (error) => {
    const { facts, fix } = error as ImageError;
    deepEqual(facts, [
      ["signed by", `${stableKey.fingerprint} stable`],
      ["expected", `${archiveKey.fingerprint} (the test)`],
    ]);
    match(fix!, /--show-keys/);
    return true;
  });
});

const withExpired = { ...trust, fingerprints: [expiredKey.fingerprint] };

test("a key is judged by the day by which the text is, not by the day that its signature states", async () => {
  const file = await clearsign(text(testing), [expiredKey], day("2026-06-08"));
  await rejects(verify(file, "forky", {}, withExpired), {
    code: "lock/untrusted-key",
    message: /no key that is still good/,
  });
  const yesterday = await verify(file, "forky", { when: day("2026-06-08") }, withExpired);
  deepEqual(yesterday.signedBy, [expiredKey.fingerprint]);
  const both = { ...trust, fingerprints: [expiredKey.fingerprint, archiveKey.fingerprint] };
  const twice = await clearsign(text(testing), [expiredKey, archiveKey], day("2026-06-08"));
  deepEqual((await verify(twice, "forky", {}, both)).signedBy, [archiveKey.fingerprint]);
});

test("an expired text that is accepted as of a day has its key judged on that day", async () => {
  const old = { ...testing, validUntil: day("2026-06-09") };
  const file = await clearsign(text(old), [expiredKey], day("2026-06-08"));
  const when = day("2026-07-01");
  const release = await verify(file, "forky", { when, asOf: day("2026-06-08") }, withExpired);
  deepEqual(release.signedBy, [expiredKey.fingerprint]);
  await rejects(verify(file, "forky", { when, asOf: day("2026-06-09") }, withExpired), {
    code: "lock/untrusted-key",
  });
});

test("no changed bit of a signed file changes what it says, and every one that is refused has a reason", async () => {
  const file = Buffer.from(await signed(testing));
  const { sha256: _, ...said } = await verify(file.toString());
  for (let bit = 0; bit < file.length * 8; bit++) {
    const copy = Buffer.from(file);
    copy[bit >> 3]! ^= 1 << (bit & 7);
    try {
      const { sha256: __, ...rest } = await verifyRelease(copy, "forky", trust, now);
      deepEqual(rest, said); // an armor header or the end of a line, which are not signed
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
    }
  }
});

test("the library refuses signatures over weak hashes, which archive.ts relies on", () => {
  for (const weak of [enums.hash.md5, enums.hash.ripemd, enums.hash.sha1]) {
    equal(config.rejectMessageHashAlgorithms.has(weak), true);
  }
});

test("an index becomes packages; their fields are parsed when asked for", () => {
  const packages = parsePackages(
    Buffer.from(
      makeIndex([
        { name: "a", version: "1", fields: { Provides: "b (= 2), c" } },
        { name: "d", version: "2" },
      ]),
    ),
    "forky",
  );
  deepEqual(
    packages.map(({ name, suite, provides }) => [name, suite, provides]),
    [
      ["a", "forky", "b (= 2), c"],
      ["d", "forky", ""],
    ],
  );
  equal(packages[0]!.fields().get("Version"), "1");
});

test("a broken index is refused", () => {
  throws(() => parsePackages(Buffer.from("Version: 1\n"), "forky"), { code: "lock/index" });
  throws(() => parsePackages(Buffer.from("Package: ../x\n"), "forky"), { code: "lock/index" });
  const [twice] = parsePackages(Buffer.from("Package: a\nVersion: 1\nVersion: 2\n"), "forky");
  throws(() => twice!.fields(), { code: "lock/index" });
});

test("the keyring of this machine has the keys that are trusted by default", async () => {
  const keyring = await readDebianKeyring();
  const { debianKeys } = await import("./spec.ts");
  const found = (await listKeys(keyring)).map(({ fingerprint }) => fingerprint);
  for (const key of debianKeys) equal(found.includes(key), true, key);
});

test("a machine without the keyring", async () => {
  await rejects(readDebianKeyring("/nowhere"), { code: "lock/keyring", kind: "unsupported" });
});
