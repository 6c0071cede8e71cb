/**
 * The measured configuration of a guest: `/etc/caisson/guest.json` in the verity root. The image builder writes it,
 * PID 1 reads it. The root hash on the kernel command line covers it, so RTMR2 does.
 */
import * as z from "zod/mini";

const hex = (bytes: number) => z.string().check(z.regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`)));
const count = (least: number, most: number) => z.int().check(z.gte(least), z.lte(most));

/** The application as it is measured: `compose-hash` is the SHA-256 of its canonical JSON. */
export const appSchema = z.strictObject({
  name: z.string().check(z.regex(/^[a-z0-9][a-z0-9-]{0,62}$/)),
  /** SHA-256 of the OCI image manifest. */
  image: hex(32),
  /** Argument vector; the first is an absolute path inside the application's root. */
  arguments: z.array(z.string()).check(z.minLength(1), z.maxLength(64)),
  environment: z.record(z.string(), z.string()),
  workingDirectory: z.string(),
  /** Numeric user and group inside the sandbox; never 0. */
  user: count(1, 65_533),
  group: count(1, 65_533),
  /** TCP port that the application serves. */
  port: count(1, 65_535),
  /** Limits: bytes of memory, number of processes. */
  memory: count(16 * 1024 * 1024, 2 ** 40),
  pids: count(1, 32_768),
});

const schema = z.strictObject({
  version: z.literal("caisson/guest/v1"),
  flavour: z.enum(["production", "development"]),
  /** Seconds since 1970: no clock of the guest may be below this. */
  epoch: z.int(),
  /**
   * The kernel command line as tokens, in order. The one token that cannot be here with its value, because it holds
   * the hash of the root that holds this file, is named without it: `dm-mod.create=`.
   */
  commandLine: z.array(z.string()),
  app: appSchema,
  time: z.strictObject({
    secure_time: z.boolean(),
    /** Sources and limits; their schema is `@caisson/nts`'s. Missing: the built-in list. */
    sources: z.optional(z.unknown()),
  }),
  /** The KMS whose identity this image pins; missing: the host names one and it is measured. */
  kms: z.optional(z.strictObject({ identity: hex(32) })),
});

export type AppConfig = z.infer<typeof appSchema>;
export type GuestConfig = z.infer<typeof schema>;

/** Checks parsed JSON. Throws a ZodError: the file is ours and measured, so this is a build fault. */
export function parseGuestConfig(value: unknown): GuestConfig {
  return schema.parse(value);
}
