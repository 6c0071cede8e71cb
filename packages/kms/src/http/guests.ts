// SPDX-License-Identifier: Apache-2.0
/** For guests, replicas, and those who seal secrets for them: keys, this KMS's sealing keys and root, anchors of volumes. */
import { IDENTITY_SIZE } from "@caisson/protocol/identity";
import {
  helloRequestSchema,
  helloTranscript,
  keyReleasePaths,
  keyReleaseVersion,
  releaseRequestSchema,
  sealingKeyPath,
} from "@caisson/protocol/key-release";
import { anchorPath, anchorRequestSchema } from "@caisson/protocol/volumes";
import { attestationPath, attest as attestTo } from "../attestation.ts";
import type { Configuration } from "../configuration.ts";
import { releaseKeys } from "../release.ts";
import { rootPath, sealRoot } from "../root-handover.ts";
import { rootFaults } from "../roots.ts";
import { publishSealingKey } from "../secrets.ts";
import type { Service } from "../service.ts";
import { publishedShares, sharesPath } from "../shares.ts";
import type { Requests } from "./requests.ts";
import { Answer, json, type Request, type Table } from "./table.ts";

export interface ReplicaOptions {
  /** The application (id, hexadecimal) that this KMS's replicas are: they get its root secret (root-handover.ts). */
  ownApp?: string;
  /** Evidence of the guest that this KMS runs in, over 32 bytes (attestation.ts). Missing on an ordinary machine. */
  attest?: (nonce: Uint8Array) => Promise<unknown>;
}

export function guestRoutes(service: Service, requests: Requests, { ownApp, attest }: ReplicaOptions): Table {
  return {
    ...publishedRoutes(service, requests, ownApp),
    ...attestationRoute(service, requests, attest),
    ...exchangeRoutes(service, requests),
  };
}

/** What anybody may read: sealing keys, the root secret sealed to replicas, the shares of keepers. */
function publishedRoutes(service: Service, requests: Requests, ownApp: string | undefined): Table {
  const { context } = service;
  return {
    [`GET ${sealingKeyPath}/*`]: (asked) => {
      const id = asked.last;
      const policy = service.configuration.policies.get(id);
      if (policy === undefined || id.length !== 2 * IDENTITY_SIZE) {
        const message = "this KMS has no policy for an application with this identity";
        return requests.refuse(asked, 404, "app/unknown", message);
      }
      const root = context.roots.at(policy.root, context.now());
      if (typeof root === "string") return requests.refuse(asked, 404, root, rootFaults[root]);
      return json(publishSealingKey(root, context.identity, Uint8Array.fromHex(id), policy.keyVersion));
    },

    [`GET ${rootPath}`]: (asked) => {
      const own = ownApp === undefined ? undefined : service.configuration.policies.get(ownApp);
      if (ownApp === undefined || own === undefined) {
        const message = "this KMS has no application of replicas, or no policy for it";
        return requests.refuse(asked, 404, "http/not-found", message);
      }
      const root = context.roots.at(own.root, context.now());
      if (typeof root === "string") return requests.refuse(asked, 404, root, rootFaults[root]);
      return json(sealRoot(context.roots.first, ownApp, own.keyVersion, root));
    },

    [`GET ${sharesPath}`]: async (asked) => {
      const document = await publishedShares(service.store);
      return document === undefined
        ? requests.refuse(asked, 404, "http/not-found", "this KMS's root secret was not split into shares")
        : json(document);
    },
  };
}

/** Evidence of the guest that this KMS runs in. */
function attestationRoute({ context }: Service, requests: Requests, attest: ReplicaOptions["attest"]): Table {
  const { publicKey } = context.identity;
  const evidence =
    attest &&
    atMost(4, (nonce: Uint8Array) => attestTo("caisson/kms-attestation/v1", nonce, publicKey, attest));
  return {
    [`GET ${attestationPath}`]: async (asked) => {
      if (evidence === undefined) {
        const message = "this KMS does not run in a guest that could attest to it";
        return requests.refuse(asked, 404, "http/not-found", message);
      }
      const nonce = requests.nonce(asked);
      if (nonce instanceof Answer) return nonce;
      const made = evidence(nonce);
      if (made !== undefined) return json(await made);
      const message = "others are asking for evidence; ask again in a second";
      return requests.refuse(asked, 503, "http/busy", message, { "retry-after": "1" });
    },
  };
}

/** The exchange of a guest that boots, and the anchors of one that runs. */
function exchangeRoutes(service: Service, requests: Requests): Table {
  const { context, metrics } = service;
  return {
    [`POST ${keyReleasePaths.hello}`]: async (asked: Request) => {
      const request = await requests.receive(asked, helloRequestSchema);
      if (request instanceof Answer) return request;
      const hello = {
        version: keyReleaseVersion,
        nonce: context.nonces.issue(context.now()).toHex(),
        time: context.now(),
        identityKey: context.identity.publicKey.toHex(),
      } as const;
      metrics.count("hellos");
      return json({ ...hello, ...(await context.signer.sign(helloTranscript(hello))) });
    },

    [`POST ${keyReleasePaths.release}`]: (asked: Request) => release(asked, service, requests),

    [`POST ${anchorPath}`]: async (asked) => {
      const request = await requests.receive(asked, anchorRequestSchema);
      if (request instanceof Answer) return request;
      if (!context.volumes.isAuthentic(request)) {
        const message = "this is not a message of the opening that it names";
        return requests.refuse(asked, 400, "volume/mac", message);
      }
      const answer = await context.volumes.anchor(request);
      if ("code" in answer) return requests.refuse(asked, 409, answer.code, answer.message);
      metrics.count("anchors");
      return json(answer);
    },
  };
}

/** `ask`, with at most `count` under way: undefined where there are as many already. A quote takes a while. */
function atMost<A, T>(count: number, ask: (about: A) => Promise<T>): (about: A) => Promise<T> | undefined {
  let under = 0;
  return (about) => {
    if (under === count) return undefined;
    under += 1;
    return ask(about).finally(() => {
      under -= 1;
    });
  };
}

async function release(asked: Request, service: Service, requests: Requests): Promise<Answer> {
  const request = await requests.receive(asked, releaseRequestSchema);
  if (request instanceof Answer) return request;
  const started = performance.now();
  const { configuration, metrics } = service;
  const current = () => service.configuration.policies;
  const context = { ...service.context, ...configuration, current };
  const { answer, entry, logged } = await releaseKeys(context, request);
  const ms = performance.now() - started;
  // Who asks again finds what another replica was told.
  const changed = answer.outcome === "denied" && answer.code === "policy/changed";
  if (changed && service.configuration === configuration) void service.follow();
  metrics.observe(ms / 1000);
  metrics.count(answer.outcome, answer.outcome === "denied" ? `code="${answer.code}"` : "");
  if (answer.outcome === "denied" && !logged) metrics.count("unlogged");
  (logged ? service.write : requests.writeSome)(answer.outcome, {
    ...(answer.outcome === "denied" && { code: answer.code, message: answer.message }),
    ...(answer.outcome === "released" && { reference: entry.reason, keyVersion: answer.keyVersion }),
    ...(answer.outcome === "released" && warned(configuration, answer.app)),
    app: entry.app.toHex(),
    instance: entry.instance.toHex(),
    address: requests.address(asked),
    ms: Number(ms.toFixed(2)),
  });
  // The exchange is over. Guests would keep the connection, and many that are idle take the place of who comes.
  return json(answer, answer.outcome === "denied" ? 403 : 200, { connection: "close" });
}

/** The codes of what an application's policy was warned about, where there are some. */
function warned({ policies }: Configuration, app: string): { warnings?: string } {
  const codes = policies.get(app)?.warnings.map(({ code }) => code) ?? [];
  return codes.length === 0 ? {} : { warnings: codes.join(" ") };
}
