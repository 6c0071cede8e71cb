// SPDX-License-Identifier: Apache-2.0
/**
 * The application's keys: the KMS is named and measured first, then asked, then believed only as far as its
 * signature under the measured identity goes. Without a KMS the event says so and there are no keys.
 */
import { persistentVolumes, secretNames } from "@caisson/protocol/guest-config";
import { keyProvider } from "@caisson/protocol/identity";
import { checkOwner, checkVolumes, httpPost, KeyError, requestKeys } from "../key-client.ts";
import { withPatience } from "../patience.ts";
import { type Context, type Stage, StageFailure } from "../stage.ts";
import { findDisks } from "../volumes/disks.ts";
import { VolumeError } from "../volumes/errors.ts";

/** How far the KMS's signed time may lie from ours, after both were agreed with several operators. */
const toleranceMs = 2_000;
const requestLimitMs = 60_000;

/** The KMS's address from the host, and its identity: pinned by the image, or named by the host. */
function chooseKms({ config, instance }: Context): { url: URL; identityKey: Uint8Array } | undefined {
  const pinned = config.kms?.identity;
  const named = instance?.kms;
  if (named === undefined) {
    if (pinned === undefined) return undefined;
    throw new StageFailure(
      "keys/no-address",
      "this image pins a KMS, but the instance document names no address",
    );
  }
  if (pinned !== undefined && named.identity !== undefined && named.identity !== pinned) {
    throw new StageFailure(
      "keys/other-identity",
      `this image pins KMS ${pinned}, the host names ${named.identity}`,
    );
  }
  const identity = pinned ?? named.identity;
  if (identity === undefined)
    throw new StageFailure("keys/no-identity", "neither image nor host names the KMS's identity");
  if (!URL.canParse(named.url)) throw new StageFailure("keys/address", `'${named.url}' is not a URL`);
  return { url: new URL(named.url), identityKey: Buffer.from(identity, "hex") };
}

export const keys: Stage = {
  name: "keys",
  limitMs: 240_000,
  async run(context) {
    const kms = chooseKms(context);
    await context.measure("key-provider", keyProvider(kms?.identityKey));
    if (kms === undefined) return "no key provider";
    const names = persistentVolumes(context.config.app);
    context.disks = await findDisks(context.config.app, kms.identityKey).catch((error: unknown) => {
      throw error instanceof VolumeError ? new StageFailure(error.code, error.message) : error;
    });
    const tickets = context.disks.flatMap(({ name: disk, ticket }) =>
      ticket === undefined ? [] : { disk, ticket },
    );
    const post = httpPost(kms.url.href, requestLimitMs);
    try {
      const released = await withPatience(() =>
        requestKeys({
          post,
          ...(names.length > 0 && { tickets }),
          identityKey: kms.identityKey,
          evidence: (reportData) =>
            context.attest(reportData, {
              scheme: "raw",
              fields: { data: Buffer.from(reportData).toString("hex") },
            }),
          ...(secretNames(context.config.app).length > 0 && { secrets: context.instance?.secrets }),
          now: Date.now,
          toleranceMs,
        }),
      );
      checkOwner(released, context.appId!, context.instanceId!);
      checkVolumes(released, names);
      context.released = { volumes: released.volumes, kms: { post, identity: kms.identityKey } };
      if (released.secrets !== undefined) context.secrets = released.secrets;
      context.keys = { root: released.applicationKey, kms: Buffer.from(kms.identityKey).toString("hex") };
      return `released by KMS ${context.keys.kms.slice(0, 16)}…, key version ${released.keyVersion}`;
    } catch (error) {
      if (!(error instanceof KeyError)) throw error;
      throw new StageFailure(
        error.denial === undefined ? error.code : `keys/denied/${error.denial}`,
        error.message,
      );
    }
  },
};
