/** One line on stderr that says how far fetching is: rewritten in place on a terminal, a plain line at the end elsewhere. */
import type { FetchProgress } from "@caisson/image/fetch";

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);

/** `update` is for `fetchAll`'s `onProgress`; `end` must be called once, whatever happened. */
export function fetchLine(what: string): { update: (progress: FetchProgress) => void; end: () => void } {
  const terminal = process.stderr.isTTY;
  let last: FetchProgress | undefined;
  const text = ({ doneBytes, totalBytes, doneFiles, totalFiles, bytesPerSecond }: FetchProgress) =>
    `${what}: ${megabytes(doneBytes)} of ${megabytes(totalBytes)} MB, ${doneFiles} of ${totalFiles} files, ${megabytes(bytesPerSecond)} MB/s`;
  return {
    update: (progress) => {
      last = progress;
      if (terminal) process.stderr.write(`\r\x1b[K${text(progress)}`);
    },
    end: () => {
      if (last === undefined) return;
      process.stderr.write(terminal ? "\r\x1b[K" : `${text(last)}\n`);
    },
  };
}
