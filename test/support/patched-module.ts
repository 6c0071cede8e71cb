// SPDX-License-Identifier: Apache-2.0
/** Modules of a command that a test alters for one process: `node --import` a file that calls this. */
import { registerHooks } from "node:module";

/** Alters the source of the module whose address ends so. Throws when that changes nothing: the line has moved. */
export function patchModule(module: string, alter: (source: string) => string): void {
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      if (!url.endsWith(module)) return loaded;
      const source = Buffer.from(loaded.source as Uint8Array).toString("utf8");
      const altered = alter(source);
      if (altered === source) throw new Error(`what is altered of ${module} is not where it was`);
      return { ...loaded, source: altered };
    },
  });
}
