// SPDX-License-Identifier: Apache-2.0
/**
 * Measurement: from the bytes of firmware, kernel, command line and machine shape to the values that a confidential
 * guest's registers must hold, and from event logs back to those values. Pure: no I/O, no clock, no randomness; runs
 * in Node and in browsers (there: a secure context, for WebCrypto).
 */

export { MeasureError, type MeasureErrorCode } from "./errors.ts";
export { ACPI_LOADER, ACPI_RSDP, ACPI_TABLES, ACPI_TPM_LOG, type AcpiFiles } from "./formats/acpi-tables.ts";
export { authenticode } from "./formats/authenticode.ts";
export type { FirmwareIdentity } from "./formats/smbios.ts";
export { type HobStyle, tdHob } from "./formats/td-hob.ts";
export { parseTdxMetadata, type Section, type TdxMetadata } from "./formats/tdvf.ts";
export {
  type EventLog,
  type Indexing,
  type LogEvent,
  type MeasuredEvent,
  measuredEvents,
  type PayloadBinding,
  parseEventLog,
  parseVariable,
  payloadBinding,
  pcrRegister,
} from "./logs/event-log.ts";
export { eventTypeName } from "./logs/event-types.ts";
export {
  extend,
  fold,
  initialRegister,
  type RegisterName,
  type Registers,
  registerNames,
  replay,
} from "./logs/rtmr.ts";
export { RUNTIME_EVENT_TYPE, runtimeEventDigest, runtimeEventDigestV2 } from "./logs/runtime-events.ts";
export { type Comparison, type Difference, explainLog } from "./predict/explain.ts";
export { mrtd, type PageOrder } from "./predict/mrtd.ts";
export { predict, predictEach } from "./predict/predict.ts";
export type {
  DirectBoot,
  EventSource,
  MachineShape,
  PredictedEvent,
  PredictedRegister,
  PredictInput,
  Prediction,
  UkiBoot,
} from "./predict/prediction.ts";
export { firmwareProfiles } from "./predict/profiles.ts";
