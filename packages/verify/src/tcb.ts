/** TCB levels: how good Intel says a platform's firmware, TDX module and quoting enclave are. */

/** Statuses that a policy may accept; "Revoked" is refused before any policy is asked. */
export const tcbStatuses = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "TDRelaunchAdvised",
  "TDRelaunchAdvisedConfigurationNeeded",
] as const;
export type TcbStatus = (typeof tcbStatuses)[number];
