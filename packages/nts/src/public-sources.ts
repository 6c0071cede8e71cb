// SPDX-License-Identifier: Apache-2.0
/**
 * Public NTS servers, for images whose specification names none: one of each of seven operators in six countries,
 * so that the quorum is four and three may fail or lie.
 *
 * The roots are Node's own (Mozilla's program), narrowed for each operator to the authorities that it is known or
 * likely to use, so that no other authority can vouch for a time server; a root is found by its fingerprint.
 *
 * The list follows the operators' public documentation. It could not be tried where it was written, for want of
 * Internet, and operators change authorities: `caisson time` shows what each source does today. Most of them use
 * Let's Encrypt, which is thereby a common point of trust: whoever makes it issue certificates for four of these
 * names and holds the network chooses the time, down to the build epoch. Where that matters, name other sources.
 */
import { X509Certificate } from "node:crypto";
import { rootCertificates } from "node:tls";
import {
  defaultKePort,
  defaultLimits,
  defaultMinOperators,
  type TimeConfiguration,
  type TimeSource,
} from "./configuration.ts";
import { NtsError } from "./errors.ts";

/** SHA-256 fingerprints of roots. */
const letsEncrypt = [
  "96bcec06264976f37460779acf28c5a7cfe8a3c0aae11a8ffcee05c0bddf08c6", // ISRG Root X1
  "69729b8e15a86efc177a57afb7171dfc64add28c2fca8cf1507e34453ccb1470", // ISRG Root X2
];
const googleTrustServices = [
  "d947432abde7b7fa90fc2e6b59101b1280e0e1c7e4e40fa3c6887fff57a7f4cf", // GTS Root R1
  "349dfa4058c5e263123b398ae795573c4e1313c83fe68f93556cd5e8031b3c7d", // GTS Root R4
];
const sslCom = [
  "8faf7d2e2cb4709bb8e0b33666bf75a5dd45b5de480f8ea8d4bfe6bebc17f2ed", // SSL.com TLS RSA Root CA 2022
  "c32ffd9f46f936d16c3673990959434b9ad60aafbb9e7cf33654f144cc1ba143", // SSL.com TLS ECC Root CA 2022
];
const sectigo = [
  "e793c9b02fd8aa13e21c31228accb08119643b749c898964b1746d46c3d4cbd2", // USERTrust RSA
  "4ff460d54b9c86dabfbcfc5712e0400d2bed3fbc4d4fbdaa86e06adcd2a9ad7a", // USERTrust ECC
  "7bb647a62aeeac88bf257aa522d01ffea395e0ab45c73f93f65654ec38f25a06", // Sectigo Root R46
  "c90f26f0fb1b4018b22227519b5ca2b53e2ca5b3be5cf18efe1bef47380c5383", // Sectigo Root E46
];
const harica = [
  "d95d0e8eda79525bf9beb11b14d2100d3294985f0c62d9fabd9cd999eccb7b1d", // HARICA TLS RSA Root CA 2021
  "3f99cc474acfce4dfed58794665e478d1547739f2e780f1bb4ca9b133097d401", // HARICA TLS ECC Root CA 2021
];
const telesec = ["91e2f5788d5810eba7ba58737de1548a8ecacd014598bc0b143e041b17052552"]; // GlobalRoot Class 2

/** German research institutions get their certificates through GÉANT, from whoever holds its contract. */
const research = [...harica, ...sectigo, ...telesec, ...letsEncrypt];

const servers: { name: string; operator: string; authorities: string[] }[] = [
  {
    name: "time.cloudflare.com",
    operator: "cloudflare",
    authorities: [...letsEncrypt, ...googleTrustServices, ...sslCom],
  },
  { name: "nts.netnod.se", operator: "netnod", authorities: letsEncrypt },
  { name: "ptbtime1.ptb.de", operator: "ptb", authorities: research },
  { name: "ntp3.fau.de", operator: "fau", authorities: research },
  { name: "ntppool1.time.nl", operator: "sidn-labs", authorities: [...letsEncrypt, ...sectigo] },
  { name: "a.st1.ntp.br", operator: "nic-br", authorities: letsEncrypt },
  { name: "virginia.time.system76.com", operator: "system76", authorities: letsEncrypt },
];

/** The built-in list with the default limits. Throws `nts/configuration` when this Node lacks one of the roots. */
export function publicConfiguration(): TimeConfiguration {
  const bundled = new Map(
    rootCertificates.map((pem) => [
      new X509Certificate(pem).fingerprint256.replaceAll(":", "").toLowerCase(),
      pem,
    ]),
  );
  const sources = servers.map(({ name, operator, authorities }): TimeSource => {
    const roots = authorities.map((fingerprint) => {
      const pem = bundled.get(fingerprint);
      if (pem === undefined) {
        throw new NtsError("nts/configuration", `this Node lacks the CA root ${fingerprint} for ${name}`, {
          fix: "name time sources with their CA roots in the specification",
        });
      }
      return pem;
    });
    return { name, operator, kePort: defaultKePort, ca: `${roots.join("\n")}\n` };
  });
  return { sources, minOperators: defaultMinOperators, limits: defaultLimits };
}
