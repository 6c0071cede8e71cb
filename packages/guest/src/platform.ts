/**
 * What a guest can ask of the machine it runs on. One interface, so that stages and the application's API do not
 * know which hardware is beneath them.
 */

/** The platforms that evidence names. `emulated` proves nothing about the hardware. */
export type PlatformName = "tdx" | "emulated";

export interface Platform {
  readonly name: PlatformName;
  /** RTMR3 = SHA-384(RTMR3 ‖ digest); `digest` is 48 bytes. */
  extend(digest: Uint8Array): Promise<void>;
  /** A quote over 64 bytes of report data. */
  quote(reportData: Uint8Array): Promise<Uint8Array>;
  /** The measured-boot log that firmware and kernel wrote (CCEL, or the TPM's log when emulated). */
  bootLog(): Promise<Uint8Array>;
}
