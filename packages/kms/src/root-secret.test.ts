// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notDeepEqual, throws } from "node:assert/strict";
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test, { type TestContext } from "node:test";
import { decryptBackup, encryptBackup } from "./backup.ts";
import {
  createRootSecret,
  openRecoveryKey,
  openRootSecret,
  refuseRootSecret,
  storeRootSecret,
} from "./root-secret.ts";

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "caisson-kms-secret-"));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

function created(t: TestContext): string {
  const data = directory(t);
  createRootSecret(data);
  return data;
}

/** Does something as a user who may not enter a directory: for root, whom modes do not stop, as nobody. */
function withoutAccess(path: string, work: () => void): void {
  const user = process.geteuid!();
  chmodSync(path, 0o000);
  if (user === 0) process.seteuid!(65_534);
  try {
    work();
  } finally {
    process.seteuid!(user);
    chmodSync(path, 0o700);
  }
}

test("the secret is made once, with mode 600, and read again", (t) => {
  const data = join(directory(t), "new");
  createRootSecret(data);
  const secret = openRootSecret(data);
  equal(secret.length, 32);
  equal(statSync(join(data, "root-secret")).mode & 0o777, 0o600);
  equal(statSync(data).mode & 0o777, 0o700);
  deepEqual(openRootSecret(data), secret);
  deepEqual(readdirSync(data), ["root-secret"]);
  notDeepEqual(openRootSecret(created(t)), secret);
});

test("the key of a recovery is made once, and nobody else can have made it", (t) => {
  const data = join(directory(t), "new");
  const key = openRecoveryKey(data);
  deepEqual(openRecoveryKey(data), key);
  const path = join(data, "recovery-key");
  equal(statSync(path).mode & 0o777, 0o600);
  // Whoever may write there can put a key of theirs in its place, to which keepers would seal their shares.
  chmodSync(data, 0o777);
  throws(() => openRecoveryKey(data), { code: "root-secret/permissions" });
  unlinkSync(path);
  throws(() => openRecoveryKey(data), { code: "root-secret/permissions" });
  deepEqual(readdirSync(data), []);
  chmodSync(data, 0o700);
  const theirs = join(directory(t), "theirs");
  writeFileSync(theirs, key, { mode: 0o600 });
  symlinkSync(theirs, path);
  throws(() => openRecoveryKey(data), { code: "root-secret/permissions" });
});

test("opening an empty place, or one that is not there, makes nothing", (t) => {
  const data = directory(t);
  for (const path of [data, join(data, "typo")]) {
    throws(() => openRootSecret(path), { code: "root-secret/missing" });
  }
  deepEqual(readdirSync(data), []);
});

test("a directory that cannot be looked into is not one without a secret", (t) => {
  const data = created(t);
  withoutAccess(data, () => {
    for (const each of [openRootSecret, createRootSecret, refuseRootSecret, openRecoveryKey]) {
      throws(() => each(data), { code: "root-secret/permissions", message: /cannot be looked into/ });
    }
  });
});

test("a secret that is there is not overwritten, and nothing is left behind", (t) => {
  const data = created(t);
  const secret = openRootSecret(data);
  throws(() => createRootSecret(data), { code: "root-secret/exists" });
  throws(() => storeRootSecret(data, new Uint8Array(32)), { code: "root-secret/exists" });
  deepEqual(openRootSecret(data), secret);
  deepEqual(readdirSync(data), ["root-secret"]);
});

const faults: { name: string; make: (path: string) => void; code: string }[] = [
  { name: "readable by the group", make: (path) => chmodSync(path, 0o640), code: "root-secret/permissions" },
  { name: "readable by all", make: (path) => chmodSync(path, 0o604), code: "root-secret/permissions" },
  {
    name: "a symbolic link",
    make: (path) => {
      writeFileSync(`${path}.real`, new Uint8Array(32), { mode: 0o600 });
      unlinkSync(path);
      symlinkSync(`${path}.real`, path);
    },
    code: "root-secret/permissions",
  },
  {
    name: "in a directory in which others may write",
    make: (path) => chmodSync(dirname(path), 0o777),
    code: "root-secret/permissions",
  },
  { name: "too short", make: (path) => truncateSync(path, 31), code: "root-secret/malformed" },
  { name: "too long", make: (path) => truncateSync(path, 33), code: "root-secret/malformed" },
  {
    name: "lost beside a release log",
    make: (path) => {
      unlinkSync(path);
      writeFileSync(path.replace("root-secret", "release-log.sqlite"), "");
    },
    code: "root-secret/missing",
  },
];
for (const { name, make, code } of faults) {
  test(`refused: ${name}`, (t) => {
    const data = created(t);
    make(join(data, "root-secret"));
    throws(() => openRootSecret(data), { code });
  });
}

test("no new secret is made beside the release log of a lost one", (t) => {
  const data = directory(t);
  writeFileSync(join(data, "release-log.sqlite"), "");
  throws(() => createRootSecret(data), { code: "root-secret/missing" });
});

test("a new secret is made only where nobody else can put another in its place", (t) => {
  const above = directory(t);
  chmodSync(above, 0o777);
  throws(() => createRootSecret(join(above, "data")), { code: "root-secret/permissions" });
  createRootSecret(join(above, "development"), { development: true });
  throws(() => openRootSecret(join(above, "development")), { code: "root-secret/permissions" });
  equal(openRootSecret(join(above, "development"), { development: true }).length, 32);
});

const secret = new Uint8Array(32).map((_, i) => i);
const passphrase = "correct horse battery";
const backup = encryptBackup(secret, passphrase);

test("a backup restores the secret and does not contain it", () => {
  deepEqual(new Uint8Array(decryptBackup(backup, passphrase)), secret);
  equal(backup.includes(secret.toHex()), false);
});

test("a backup into a new directory opens there", (t) => {
  const data = join(directory(t), "restored");
  storeRootSecret(data, decryptBackup(backup, passphrase));
  deepEqual(new Uint8Array(readFileSync(join(data, "root-secret"))), secret);
  deepEqual(openRootSecret(data), secret);
});

const document = JSON.parse(backup) as Record<string, string>;
const flip = (hex: string) => (hex.startsWith("0") ? "1" : "0") + hex.slice(1);
for (const [name, text, code] of [
  ["another passphrase", backup, "backup/passphrase"],
  ["no JSON", backup.slice(1), "backup/malformed"],
  ["an unknown field", JSON.stringify({ ...document, n: 2 ** 40 }), "backup/malformed"],
  ["a short salt", JSON.stringify({ ...document, salt: "00" }), "backup/malformed"],
  [
    "a changed ciphertext",
    JSON.stringify({ ...document, ciphertext: flip(document.ciphertext!) }),
    "backup/passphrase",
  ],
  [
    "a changed identity",
    JSON.stringify({ ...document, identityKey: flip(document.identityKey!) }),
    "backup/passphrase",
  ],
] as const) {
  test(`a backup is refused: ${name}`, () => {
    throws(() => decryptBackup(text, name === "another passphrase" ? "wrong horse battery" : passphrase), {
      code,
    });
  });
}

test("a short passphrase is refused", () => {
  throws(() => encryptBackup(secret, "short"), { code: "backup/passphrase" });
});
