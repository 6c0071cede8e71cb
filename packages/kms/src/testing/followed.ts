// SPDX-License-Identifier: Apache-2.0
/** What a KMS reads of a log, for benchmarks of how that grows. */
export { FollowedLog } from "../followed-log.ts";
export { followingRows } from "../following-rows.ts";
