// SPDX-License-Identifier: Apache-2.0
/** Documents on their way into a log: where they lie, how the journal records them, what they make of an application. */
import {
  type Application,
  advance,
  beginApplication,
  type EntryKind,
  type Envelope,
  ReleaseError,
  readEnvelope,
  writeEnvelope,
} from "@caisson/releases";

/** A document on its way into the log. */
export interface Addition {
  kind: EntryKind;
  app: string;
  envelope: Envelope;
}

/** Where a document's envelope lies; of a first identity document the payload has no signature. */
export const envelopePath = (documentHash: string): string => `envelope/${documentHash}`;

/** A record of the journal: documents that came together, and the signed tree after them. */
export function writeRecord(added: readonly Addition[], note: string): Uint8Array {
  const documents = added.map(({ kind, app, envelope }) => ({
    kind,
    app,
    envelope: writeEnvelope(envelope),
  }));
  return new TextEncoder().encode(JSON.stringify({ added: documents, note }));
}

/** Reads what `writeRecord` wrote; the journal has compared its hash. */
export function readRecord(record: Uint8Array): { added: Addition[]; note: string } {
  const { added, note } = JSON.parse(new TextDecoder().decode(record)) as {
    added: { kind: EntryKind; app: string; envelope: unknown }[];
    note: string;
  };
  return { added: added.map((one) => ({ ...one, envelope: readEnvelope(one.envelope) })), note };
}

/** An application after one more document, or from its first. Throws ReleaseError. */
export async function further(
  application: Application | undefined,
  kind: EntryKind,
  app: string,
  envelope: Envelope,
): Promise<Application> {
  if (application !== undefined) return advance(application, kind, envelope);
  if (kind !== "identity") {
    throw new ReleaseError(
      "identity/chain",
      `the log does not have the first document of application ${app}`,
    );
  }
  const begun = await beginApplication(envelope.payload);
  if (begun.id === app) return begun;
  throw new ReleaseError(
    "identity/hash",
    "this is not the document that the application's id is the hash of",
    {
      expected: app,
      actual: begun.id,
    },
  );
}
