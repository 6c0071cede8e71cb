// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

const fragments = "/packages/image/src/build/kernel.test.ts";
const audit = "/packages/audit/src/catalogue/catalogue.test.ts";
const bootLog = "/test/integration/boot-log.test.ts";
const quotes = "/test/integration/quote-channel.test.ts";

export const kernel = within("kernel", [
  [
    "user namespaces are built in",
    "containers.config",
    "# CONFIG_USER_NS is not set",
    "CONFIG_USER_NS=y",
    fragments,
  ],
  [
    "bpf(2) is built in",
    "containers.config",
    "# CONFIG_BPF_SYSCALL is not set",
    "CONFIG_BPF_SYSCALL=y",
    fragments,
  ],
  [
    "no limit on processes is built in",
    "containers.config",
    "CONFIG_CGROUP_PIDS=y",
    "# CONFIG_CGROUP_PIDS is not set",
    fragments,
  ],
  [
    "an initrd is taken",
    "guest.config",
    "# CONFIG_BLK_DEV_INITRD is not set",
    "CONFIG_BLK_DEV_INITRD=y",
    fragments,
  ],
  [
    "the file system has a second parser",
    "guest.config",
    "# CONFIG_EROFS_FS_ZIP is not set",
    "CONFIG_EROFS_FS_ZIP=y",
    fragments,
  ],
  [
    "production asks a TPM",
    "production.config",
    "# CONFIG_TCG_TPM is not set",
    "CONFIG_TCG_TPM=y",
    fragments,
  ],
  [
    "the host's ACPI timer is a clock in production",
    "resolved-production.config",
    "# CONFIG_X86_PM_TIMER is not set",
    "CONFIG_X86_PM_TIMER=y",
    audit,
  ],
  [
    "the resolved kernel has modules",
    "resolved-production.config",
    "# CONFIG_MODULES is not set",
    "CONFIG_MODULES=y",
    audit,
  ],
  [
    "the resolved kernel is not locked down",
    "resolved-production.config",
    "CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY=y",
    "# CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY is not set",
    audit,
  ],
  [
    "PCR 7 is folded into RTMR1",
    "driver/boot-log.c",
    "[1] = RTMR0, [7] = RTMR0,",
    "[1] = RTMR0, [7] = RTMR1,",
    bootLog,
  ],
  [
    "the TPM's PCRs are not compared with the log",
    "driver/boot-log.c",
    "if (memcmp(held.digest, pcrs[i], TD_REGISTER_SIZE)) {",
    "if (0 && memcmp(held.digest, pcrs[i], TD_REGISTER_SIZE)) {",
    bootLog,
  ],
  [
    "a length of the log's is not minded",
    "driver/boot-log.c",
    "	if (len > log->left)",
    "	if (0 && len > log->left)",
    bootLog,
  ],
  [
    "a SHA-384 digest may have another size",
    "driver/boot-log.c",
    "if (id == TPM_ALG_SHA384 && size != SHA384_DIGEST_SIZE)",
    "if (0 && id == TPM_ALG_SHA384 && size != SHA384_DIGEST_SIZE)",
    bootLog,
  ],
  [
    "the startup locality does not count",
    "driver/boot-log.c",
    "pcr0[TD_REGISTER_SIZE - 1] = event->data[sizeof(STARTUP_LOCALITY)];",
    "pcr0[TD_REGISTER_SIZE - 1] = 0;",
    bootLog,
  ],
  [
    "an answer may be longer than its buffer",
    "driver/quote-channel.c",
    'if (memcmp(answer, "CQRS", 4) || len > MAX_QUOTE) {',
    'if (memcmp(answer, "CQRS", 4)) {',
    quotes,
  ],
  [
    "a late answer is the next one's",
    "driver/quote-channel.c",
    "ret = receive(jiffies + HZ / 10);",
    "ret = 0;",
    quotes,
  ],
  [
    "an answer without its magic is taken",
    "driver/quote-channel.c",
    'if (memcmp(answer, "CQRS", 4) || len',
    "if (len",
    quotes,
  ],
  [
    "a refusal is a quote",
    "driver/quote-channel.c",
    "if (get_unaligned_le32(answer + 4) != 0 || expected == HEADER)",
    "if (expected == HEADER)",
    quotes,
  ],
  [
    "no wait for the service ends",
    "driver/quote-channel.c",
    "			if (signal_pending(current))",
    "			if (0 && signal_pending(current))",
    quotes,
  ],
]);
