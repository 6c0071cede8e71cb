/** What is known of a firmware image. */

export interface FirmwareModule {
  /** Lower-case GUID of the FFS file. */
  guid: string;
  /** From its user interface section. */
  name?: string;
  /** "driver", "application", "SEC core", … */
  type: string;
  /** Bytes, unpacked. */
  size: number;
}

export interface FirmwareFacts {
  size: number;
  /** Hex. */
  sha256: string;
  /** Sections of its TDX metadata; empty when it has none. */
  sections: { type: string; size: number; measured: boolean }[];
  /** Modules in its volumes; undefined when they could not be listed. */
  modules?: FirmwareModule[];
}
