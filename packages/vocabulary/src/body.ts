// SPDX-License-Identifier: Apache-2.0
/** Bodies of answers whose length somebody else decides. */

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
