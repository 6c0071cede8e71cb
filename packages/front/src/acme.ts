// SPDX-License-Identifier: Apache-2.0
import type { KeyObject } from "node:crypto";
import type { Front } from "./server.ts";
import type { FrontSetup } from "./setup.ts";

export async function keepCertificate(
  _front: Front,
  _key: KeyObject,
  _names: readonly string[],
  _acme: NonNullable<FrontSetup["acme"]>,
  _say: (line: string) => void,
): Promise<void> {}
