// SPDX-License-Identifier: Apache-2.0
/**
 * Who this machine is: the application, as measured in the image, and the instance, as the host names it.
 *
 * The instance document comes from a raw block device, bounded and length-prefixed; what follows from it is measured
 * here (instance id) or by the stage that uses it (time sources, KMS). A machine without the device is an instance
 * with an all-zero seed.
 */

import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { applicationId, description, persistentVolumes } from "@caisson/protocol/guest-config";
import { composeHash, ID_SIZE, instanceId } from "@caisson/protocol/identity";
import { decodeInstance, type Instance, instanceLimit } from "@caisson/protocol/instance";
import { volumesPayload } from "@caisson/protocol/volumes";
import { diskPath } from "@caisson/vocabulary/disks";
import { messageOf } from "@caisson/vocabulary/failure";
import { type Stage, StageFailure } from "../stage.ts";

const device = diskPath("instance");

/** Read in a thread of its own: a disk that never answers stops nothing else. */
async function readInstance(): Promise<Instance> {
  if (!existsSync(device)) return { version: "caisson/instance/v1", seed: "00".repeat(ID_SIZE) };
  const file = await open(device);
  try {
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(instanceLimit + 512) });
    return decodeInstance(buffer.subarray(0, bytesRead));
  } catch (error) {
    throw new StageFailure("identity/instance", messageOf(error));
  } finally {
    await file.close();
  }
}

export const identity: Stage = {
  name: "identity",
  limitMs: 60_000,
  async run(context) {
    context.instance = await readInstance();
    context.appId = applicationId(context.config);
    context.instanceId = instanceId(context.appId, Buffer.from(context.instance.seed, "hex"));
    await context.measure("app-id", context.appId);
    await context.measure("compose-hash", composeHash(description(context.config)));
    await context.measure("instance-id", context.instanceId);
    const volumes = persistentVolumes(context.config.app);
    if (volumes.length > 0) await context.measure("volumes", volumesPayload(context.instance.seed, volumes));
    return `app ${Buffer.from(context.appId).toString("hex")}`;
  },
};
