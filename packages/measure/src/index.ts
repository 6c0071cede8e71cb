/**
 * Measurement: from the bytes of firmware, kernel, command line and machine shape to the values that a confidential
 * guest's registers must hold, and from event logs back to those values. Pure: no I/O, no clock, no randomness; runs
 * in Node and in browsers (there: a secure context, for WebCrypto).
 */
export { ACPI_LOADER, ACPI_RSDP, ACPI_TABLES, ACPI_TPM_LOG, type AcpiFiles } from "./acpi-tables.ts";
export { authenticode } from "./authenticode.ts";
export { type DstackEvent, parseDstackLog } from "./dstack-log.ts";
export { MeasureError, type MeasureErrorCode } from "./errors.ts";
export {
  type EventLog,
  guessIndexing,
  type Indexing,
  type LogEvent,
  type MeasuredEvent,
  measuredEvents,
  type PayloadBinding,
  parseCcelTable,
  parseEventLog,
  parseVariable,
  payloadBinding,
  pcrRegister,
  replayPcrs,
} from "./event-log.ts";
export { eventTypeName } from "./event-types.ts";
export { type Comparison, type Difference, explain, matchPageOrder } from "./explain.ts";
export { mrtd, type PageOrder } from "./mrtd.ts";
export {
  type DirectBoot,
  type EventSource,
  type MachineShape,
  type PredictedEvent,
  type PredictedRegister,
  type PredictInput,
  type Prediction,
  predict,
  predictEach,
  type UkiBoot,
} from "./predict.ts";
export { firmwareProfiles, type Platform } from "./profiles.ts";
export {
  extend,
  fold,
  initialRegister,
  type RegisterName,
  type Registers,
  registerNames,
  replay,
} from "./rtmr.ts";
export { RUNTIME_EVENT_TYPE, runtimeEventDigest, runtimeEventDigestV2 } from "./runtime-events.ts";
export type { FirmwareIdentity } from "./smbios.ts";
export { type HobStyle, tdHob } from "./td-hob.ts";
export { parseTdxMetadata, type Section, type TdxMetadata } from "./tdvf.ts";
