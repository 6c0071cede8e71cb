// SPDX-License-Identifier: Apache-2.0
/**
 * Runtime measurement registers: extend and replay.
 *
 * Invariants: a register is 48 bytes and starts at zero; extending is SHA-384(old ‖ digest) and nothing else
 * (Intel TDX Module ABI, TDG.MR.RTMR.EXTEND; TPM2_PCR_Extend does the same for a SHA-384 bank).
 */
import { sha384 } from "#sha";
import { MeasureError } from "../errors.ts";

/** Bytes of a SHA-384 register or digest. */
export const REGISTER_SIZE = 48;

/** The five measurement registers of a TD. On the emulated platform `mrtd` is a fold as well (of PCR 0's events). */
export const registerNames = ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"] as const;
export type RegisterName = (typeof registerNames)[number];

/** Values of 48 bytes. `mrtd` is absent where no event extends it: a TD's MRTD is not a fold but one hash (`mrtd.ts`). */
export type Registers = { mrtd?: Uint8Array } & Record<Exclude<RegisterName, "mrtd">, Uint8Array>;

/** A register before its first event: 48 zero bytes. */
export function initialRegister(): Uint8Array {
  return new Uint8Array(REGISTER_SIZE);
}

/** New value of a register after one event. Throws MeasureError "register/digest-size" unless both are 48 bytes. */
export async function extend(register: Uint8Array, digest: Uint8Array): Promise<Uint8Array> {
  if (register.length !== REGISTER_SIZE || digest.length !== REGISTER_SIZE) {
    throw new MeasureError(
      "register/digest-size",
      `a register and a digest have 48 bytes, not ${register.length} and ${digest.length}`,
    );
  }
  return sha384(register, digest);
}

/** Folds digests in order from 48 zero bytes. */
export async function fold(digests: Iterable<Uint8Array>): Promise<Uint8Array> {
  let register = initialRegister();
  for (const digest of digests) register = await extend(register, digest);
  return register;
}

/** What the registers hold after `events`, in order. Only digests count here; whether a payload is bound to its
 * digest is another question (`payloadBinding` in event-log.ts). */
export async function replay(
  events: Iterable<{ register: RegisterName; digest: Uint8Array }>,
): Promise<Registers> {
  const registers: Registers = {
    rtmr0: initialRegister(),
    rtmr1: initialRegister(),
    rtmr2: initialRegister(),
    rtmr3: initialRegister(),
  };
  for (const { register, digest } of events) {
    registers[register] = await extend(registers[register] ?? initialRegister(), digest);
  }
  return registers;
}
