// SPDX-License-Identifier: Apache-2.0
/** How much there is: what a comparison of two systems counts beside controls. The application is left out. */
import type { Facts } from "./control.ts";

export interface Inventory {
  static?: {
    /** Symbols of the kernel's configuration that are `y`, and those that are `m`. */
    builtIn: number;
    modules: number;
    packages: number;
    files: number;
    /** Of files and kernel. */
    bytes: number;
    /** Files with an execute bit. */
    executables: number;
    /** Files with a setuid or setgid bit. */
    setuid: number;
  };
  live?: {
    /** Kernel threads and the application's processes are none. */
    processes: number;
    /** Sockets that wait for peers, of any family; the application's are none. */
    listening: number;
  };
}

/** Pure. */
export function inventory({ static: image, live }: Partial<Facts>): Inventory {
  const result: Inventory = {};
  if (image !== undefined) {
    const { kernel, packages } = image;
    const symbols = [...kernel.config.values()];
    const files = [...image.files]
      .filter(([path, { kind }]) => kind === "file" && !path.startsWith("/app/"))
      .map(([, file]) => file);
    result.static = {
      builtIn: symbols.filter((value) => value === "y").length,
      modules: symbols.filter((value) => value === "m").length,
      packages: packages.length,
      files: files.length,
      bytes: files.reduce((sum, { size }) => sum + size, kernel.size),
      executables: files.filter(({ mode }) => (mode & 0o111) !== 0).length,
      setuid: files.filter(({ mode }) => (mode & 0o6000) !== 0).length,
    };
  }
  if (live !== undefined) {
    result.live = {
      processes: live.processes.filter(({ kernelThread, uid }) => !kernelThread && uid === 0).length,
      listening: live.sockets.filter(({ listening, uid }) => listening && uid === 0).length,
    };
  }
  return result;
}
