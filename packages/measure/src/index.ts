/**
 * Measurement: from the bytes of firmware, kernel, command line and machine shape to the values that a confidential
 * guest's registers must hold, and from event logs back to those values. Pure: no I/O, no clock, no randomness; runs
 * in Node and in browsers (there: a secure context, for WebCrypto).
 */
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
