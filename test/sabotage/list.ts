// SPDX-License-Identifier: Apache-2.0
/** Every sabotage, folder by folder. */
import { audit } from "./list/audit.ts";
import { cli } from "./list/cli.ts";
import { client } from "./list/client.ts";
import { front } from "./list/front.ts";
import { guest } from "./list/guest.ts";
import { host } from "./list/host.ts";
import { image } from "./list/image.ts";
import { kernel } from "./list/kernel.ts";
import { kms } from "./list/kms.ts";
import { log } from "./list/log.ts";
import { machine } from "./list/machine.ts";
import { measure } from "./list/measure.ts";
import { nts } from "./list/nts.ts";
import { page } from "./list/page.ts";
import { protocol } from "./list/protocol.ts";
import { provenance } from "./list/provenance.ts";
import { releases } from "./list/releases.ts";
import { simulated } from "./list/simulated.ts";
import { verify } from "./list/verify.ts";
import { vocabulary } from "./list/vocabulary.ts";
import type { Sabotage } from "./sabotage.ts";

export const sabotages: readonly Sabotage[] = [
  ...audit,
  ...cli,
  ...client,
  ...front,
  ...guest,
  ...host,
  ...image,
  ...kernel,
  ...kms,
  ...log,
  ...machine,
  ...measure,
  ...nts,
  ...page,
  ...protocol,
  ...provenance,
  ...releases,
  ...simulated,
  ...verify,
  ...vocabulary,
];
