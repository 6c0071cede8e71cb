// SPDX-License-Identifier: Apache-2.0
import { equal, throws } from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { before, suite, test } from "node:test";
import type { Extension as AnyExtension } from "@peculiar/x509";
import { deferrable, parseRoots, verifyChain } from "./certificates.ts";

// Certificates come from @peculiar/x509, which shares no code with what is tested. Its dependency injection wants
// the decorator metadata API to exist; nothing here has decorators, so it may be empty.
Object.assign(Reflect, {
  getMetadata: () => undefined,
  getOwnMetadata: () => undefined,
  defineMetadata: () => {},
});
const {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} = await import("@peculiar/x509");
const ecdsa = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const rsa = (modulusLength: number, hash: string) => ({
  name: "RSASSA-PKCS1-v1_5",
  modulusLength,
  publicExponent: Uint8Array.of(1, 0, 1),
  hash,
});
type Keys = Awaited<ReturnType<typeof generate>>;
const generate = (algorithm: object = ecdsa) =>
  crypto.subtle.generateKey(algorithm as EcKeyGenParams, true, ["sign", "verify"]);
const from = new Date("2026-01-01");
const to = new Date("2027-01-01");

interface Party {
  name: string;
  keys: Keys;
  certificate: X509Certificate;
}

const caExtensions = (pathLength?: number) => [
  new BasicConstraintsExtension(true, pathLength, true),
  new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
];
const leafExtensions = (names = ["time.example"]) => [
  new BasicConstraintsExtension(false, undefined, true),
  new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
  new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
  new SubjectAlternativeNameExtension(names.map((value) => ({ type: "dns" as const, value }))),
];

async function issue(
  name: string,
  issuer: Pick<Party, "name" | "keys"> | undefined,
  extensions: AnyExtension[],
  options: {
    notBefore?: Date;
    notAfter?: Date;
    keys?: Keys;
    publicKey?: Uint8Array<ArrayBuffer>;
    hash?: string;
  } = {},
): Promise<Party> {
  const keys = options.keys ?? (await generate());
  const signer = issuer ?? { name, keys };
  const made = await X509CertificateGenerator.create({
    serialNumber: "01",
    subject: name === "" ? "" : `CN=${name}`,
    issuer: `CN=${signer.name}`,
    notBefore: options.notBefore ?? from,
    notAfter: options.notAfter ?? to,
    signingAlgorithm: {
      ...(signer.keys.privateKey.algorithm as EcKeyAlgorithm),
      hash: options.hash ?? "SHA-256",
    },
    publicKey: options.publicKey ?? keys.publicKey,
    signingKey: signer.keys.privateKey,
    extensions,
  });
  return { name, keys, certificate: new X509Certificate(Buffer.from(made.rawData)) };
}

suite("certificate chains", () => {
  let root: Party;
  let intermediate: Party;
  let leaf: Party;
  const verify = (chain: Party[], name = "time.example", roots = [root]) =>
    verifyChain(
      chain.map((party) => party.certificate),
      roots.map((party) => party.certificate),
      name,
    );

  before(async () => {
    root = await issue("root", undefined, caExtensions());
    intermediate = await issue("intermediate", root, caExtensions(0));
    leaf = await issue("leaf", intermediate, leafExtensions());
  });

  test("leaf, intermediate, root: the validity is the intersection", async () => {
    const notAfter = new Date("2026-03-01");
    const short = await issue("leaf", intermediate, leafExtensions(), { notAfter });
    const chain = verify([short, intermediate]);
    equal(chain.subject, "CN=leaf");
    equal(chain.notBefore, from.getTime());
    equal(chain.notAfter, notAfter.getTime());
  });
  test("the root may be sent along, and the order of the rest does not matter", () => {
    verify([leaf, root, intermediate]);
  });
  test("dates decide nothing here, not even absurd ones", async () => {
    const old = { notBefore: new Date("1999-01-01"), notAfter: new Date("1999-02-01") };
    equal(verify([await issue("leaf", root, leafExtensions(), old)]).notAfter, old.notAfter.getTime());
  });
  test("a leaf may have no subject, as some authorities issue them; its alternative names stand for it", async () => {
    equal(verify([await issue("", root, leafExtensions())]).subject, "DNS:time.example");
  });
  test("only the two date errors of OpenSSL can be put off", () => {
    equal([...deferrable].sort().join(), "CERT_HAS_EXPIRED,CERT_NOT_YET_VALID");
  });
  test("an intermediate may be the configured root", () => {
    verify([leaf, intermediate], "time.example", [intermediate]);
  });

  const cases: [name: string, code: string, chain: () => Promise<Party[]> | Party[], host?: string][] = [
    ["no certificate", "certificate/untrusted", () => []],
    ["a missing intermediate", "certificate/untrusted", () => [leaf]],
    [
      "another root of the same name",
      "certificate/untrusted",
      async () => {
        const other = await issue("root", undefined, caExtensions());
        return [await issue("leaf", other, leafExtensions()), other];
      },
    ],
    [
      "an expired leaf of an unknown issuer",
      "certificate/untrusted",
      async () => {
        const other = await issue("other", undefined, caExtensions());
        return [await issue("leaf", other, leafExtensions(), { notAfter: new Date("2026-01-02") }), other];
      },
    ],
    [
      "a self-signed leaf",
      "certificate/untrusted",
      async () => [await issue("leaf", undefined, leafExtensions())],
    ],
    ["another name", "certificate/name", () => [leaf, intermediate], "other.example"],
    [
      "a name in the subject only",
      "certificate/name",
      async () => [await issue("time.example", root, leafExtensions().slice(0, 3))],
    ],
    [
      "a leaf that signed another leaf",
      "certificate/untrusted",
      async () => {
        const signer = await issue("signer", root, leafExtensions());
        return [await issue("leaf", signer, leafExtensions()), signer];
      },
    ],
    [
      "a leaf without key usage that signed another leaf",
      "certificate/purpose",
      async () => {
        const signer = await issue("signer", root, leafExtensions().toSpliced(1, 1));
        return [await issue("leaf", signer, leafExtensions()), signer];
      },
    ],
    [
      "a CA that may not sign certificates",
      "certificate/untrusted",
      async () => {
        const usage = new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true);
        const ca = await issue("ca", root, [new BasicConstraintsExtension(true, undefined, true), usage]);
        return [await issue("leaf", ca, leafExtensions()), ca];
      },
    ],
    [
      "an intermediate below a path length of 0",
      "certificate/purpose",
      async () => {
        const deeper = await issue("deeper", intermediate, caExtensions());
        return [await issue("leaf", deeper, leafExtensions()), deeper, intermediate];
      },
    ],
    [
      "a CA for e-mail",
      "certificate/purpose",
      async () => {
        const mail = new ExtendedKeyUsageExtension([ExtendedKeyUsage.emailProtection]);
        const ca = await issue("ca", root, [...caExtensions(), mail]);
        return [await issue("leaf", ca, leafExtensions()), ca];
      },
    ],
    [
      "a client certificate",
      "certificate/purpose",
      async () => {
        const client = new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth]);
        return [await issue("leaf", root, [...leafExtensions().toSpliced(2, 1), client])];
      },
    ],
    [
      "a leaf whose key may not sign",
      "certificate/purpose",
      async () => {
        const usage = new KeyUsagesExtension(KeyUsageFlags.keyEncipherment, true);
        return [await issue("leaf", root, leafExtensions().toSpliced(1, 1, usage))];
      },
    ],
    [
      "an unknown critical extension",
      "certificate/purpose",
      async () => [
        await issue("leaf", root, [...leafExtensions(), new Extension("1.2.3.4", true, Uint8Array.of(5, 0))]),
      ],
    ],
    [
      "name constraints, even if not critical",
      "certificate/purpose",
      async () => {
        const constraints = new Extension("2.5.29.30", false, Uint8Array.of(0x30, 0));
        const ca = await issue("ca", root, [...caExtensions(), constraints]);
        return [await issue("leaf", ca, leafExtensions()), ca];
      },
    ],
    [
      "SHA-1",
      "certificate/weak",
      async () => [await issue("leaf", root, leafExtensions(), { hash: "SHA-1" })],
    ],
    [
      "RSA with 1024 bits",
      "certificate/weak",
      async () => [
        await issue("leaf", root, leafExtensions(), { keys: await generate(rsa(1024, "SHA-256")) }),
      ],
    ],
    [
      "a key that cannot be decoded",
      "certificate/malformed",
      async () => {
        const key = Buffer.from(await crypto.subtle.exportKey("spki", (await generate()).publicKey));
        key[key.indexOf(Buffer.from("2a8648ce3d0201", "hex")) + 6] = 0x7f; // no such algorithm
        return [await issue("leaf", root, leafExtensions(), { publicKey: key })];
      },
    ],
    [
      "a leaf without subject of an unknown issuer",
      "certificate/untrusted",
      async () => [await issue("", await issue("other", undefined, caExtensions()), leafExtensions())],
    ],
    [
      "six intermediates",
      "certificate/untrusted",
      async () => {
        const chain = [await issue("ca0", root, caExtensions())];
        for (let i = 1; i < 6; i++) chain.push(await issue(`ca${i}`, chain[i - 1], caExtensions()));
        return [await issue("leaf", chain[5], leafExtensions()), ...chain.reverse()];
      },
    ],
  ];
  for (const [name, code, chain, host] of cases) {
    test(`refused: ${name}`, async () => {
      const given = await chain();
      throws(() => verify(given, host), { code });
    });
  }
  test("refused: a changed byte anywhere in the leaf", () => {
    const { raw } = leaf.certificate;
    for (let at = 0; at < raw.length; at += 3) {
      const changed = Buffer.from(raw);
      changed[at]! ^= 1;
      let certificate: X509Certificate;
      try {
        certificate = new X509Certificate(changed);
      } catch {
        continue;
      }
      throws(() => verify([{ ...leaf, certificate }, intermediate]), { name: "NtsError" }, `byte ${at}`);
    }
  });
});

test("roots: several in one text; none or a broken one is refused", async () => {
  const one = await issue("one", undefined, caExtensions());
  const pem = one.certificate.toString();
  equal(parseRoots(`first\n${pem}\nsecond\n${pem}`).length, 2);
  throws(() => parseRoots(""), { code: "nts/configuration" });
  throws(() => parseRoots(pem.replace("MII", "AAA")), { code: "nts/configuration" });
});
