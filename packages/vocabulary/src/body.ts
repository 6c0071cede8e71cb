// SPDX-License-Identifier: Apache-2.0
/** Bodies of answers whose length somebody else decides. */

/** What is used of a ReadableStream. */
interface WebStream {
  getReader(): {
    read(): Promise<{ done: boolean; value?: Uint8Array<ArrayBuffer> | undefined }>;
    cancel(): Promise<void>;
  };
}

/** The pieces of a stream of the web: Safari's cannot be iterated. Leaving the loop cancels it. */
export async function* piecesOf(stream: WebStream | null): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  if (stream === null) return;
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value!;
    }
  } finally {
    // Of one that ended or failed there is nothing to cancel.
    reader.cancel().catch(() => undefined);
  }
}

/** The first `limit` bytes of a stream, and whether it has more; the rest is not read. */
export async function firstBytes(
  body: AsyncIterable<Uint8Array> | null,
  limit: number,
): Promise<{ bytes: Uint8Array; more: boolean }> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body ?? []) {
    chunks.push(chunk);
    size += chunk.length;
    // Leaving the loop cancels the stream.
    if (size > limit) break;
  }
  const all = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return { bytes: all.subarray(0, limit), more: size > limit };
}
