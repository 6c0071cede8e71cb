// SPDX-License-Identifier: Apache-2.0
/**
 * What operators sign and send to a KMS: a DSSE envelope over canonical JSON that names the KMS, the version of what it
 * replaces and a time after which it is not taken.
 */
import {
  type Envelope,
  type PublicKey,
  payloadOf,
  publicKeySchema,
  readCanonical,
  writeCanonical,
} from "@caisson/releases";
import { messageOf } from "@caisson/vocabulary/failure";
import {
  hex,
  type Infer,
  integer,
  list,
  object,
  oneOf,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
import { get } from "./attestation.ts";
import { KmsError } from "./errors.ts";

const operatorPayloadType = "application/vnd.caisson.kms-request.v1+json";

/** Whose signatures count, and how many are needed. */
export interface Operators {
  keys: readonly PublicKey[];
  threshold: number;
}

const version = oneOf("caisson/kms-request/v1");
const number = integer(0, Number.MAX_SAFE_INTEGER);
/** A list of operators, as it is signed and stored. */
export const operatorList = object({ keys: list(publicKeySchema, 1, 64), threshold: integer(1, 64) });
const common = {
  version,
  /** The KMS's identity. */
  kms: hex(32),
  /** Not taken after it: milliseconds since 1970. */
  expires: number,
  /** The version of what is replaced: 0 where there is nothing. */
  replaces: number,
};
/** An application: the beginning of its compose hash, or its identity. */
const app = text("20 or 32 bytes in hexadecimal", /^([0-9a-f]{40}|[0-9a-f]{64})$/, 64);
const setPolicy = object({
  ...common,
  action: oneOf("policy/set"),
  app,
  policy: text("a policy file", /^[^]+$/, 40_000),
});
const removePolicy = object({ ...common, action: oneOf("policy/remove"), app });
const rotateRoot = object({
  ...common,
  action: oneOf("root/rotate"),
  /** When the new root begins, and the one before it ends: milliseconds since 1970. */
  from: number,
  until: number,
});
const operateVolume = object({
  ...common,
  action: oneOf("volume/operate"),
  volume: hex(32),
  operation: oneOf("allow", "suspect", "delete"),
});
const setOperators = object({ ...common, action: oneOf("operators/set"), operators: operatorList });
/** What operators sign. */
export type OperatorRequest =
  | Infer<typeof setPolicy>
  | Infer<typeof removePolicy>
  | Infer<typeof setOperators>
  | Infer<typeof rotateRoot>
  | Infer<typeof operateVolume>;

const actions: Record<OperatorRequest["action"], Schema<OperatorRequest>> = {
  "policy/set": setPolicy,
  "policy/remove": removePolicy,
  "operators/set": setOperators,
  "root/rotate": rotateRoot,
  "volume/operate": operateVolume,
};
const actionNames = Object.keys(actions) as OperatorRequest["action"][];
const request: Schema<OperatorRequest> = (value) => {
  const { action } = object({ action: oneOf(...actionNames) }, "loose")(value);
  return actions[action](value);
};

const requestLimit = 48 * 1024;

/** The bytes of a request that operators sign, as an envelope without signatures. Throws SchemaError. */
export function operatorEnvelope(document: OperatorRequest): Envelope {
  return { payload: writeCanonical(request(document)), payloadType: operatorPayloadType, signatures: [] };
}

/** What an envelope asks for. Throws ReleaseError "envelope/malformed". */
export const operatorRequest = (envelope: Envelope): OperatorRequest =>
  readCanonical(payloadOf(envelope, operatorPayloadType), request, "envelope/malformed", requestLimit);

const changedSchema = object({
  action: oneOf(...actionNames),
  /** What the row is now. */
  version: number,
  signers: list(text("a key in hexadecimal", /^[0-9a-f]+$/, 130), 1, 64),
});
/** What came of a request. */
export type Changed = Infer<typeof changedSchema>;

/** Where operators send what they signed. */
export const adminPath = "/v1/admin";

/** Sends what operators signed (an envelope as JSON) to the KMS at `url`. Throws KmsError "kms/unreachable", "kms/refused". */
export async function sendRequest(url: string, envelope: object): Promise<Changed> {
  const bytes = await get(url, adminPath, JSON.stringify(envelope));
  try {
    return changedSchema(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (error) {
    const message = `what answers at ${url} is not a KMS, or not of this version: ${messageOf(error)}`;
    throw new KmsError("kms/refused", message);
  }
}

/** A file of operators: { keys: [{ type, key }, …], threshold }. Throws KmsError "operators/malformed". */
export function readOperators(path: string, content: string): Operators {
  try {
    return operatorList(JSON.parse(content));
  } catch (error) {
    const where = error instanceof SchemaError && error.path !== "" ? `${error.path}: ` : "";
    throw new KmsError("operators/malformed", `${path}: ${where}${messageOf(error)}`);
  }
}
