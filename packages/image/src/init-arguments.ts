/** What the kernel passes to PID 1 (Node) after `--`: flags of Node, then the bundle. */
export const initArguments: readonly string[] = ["/usr/lib/caisson/init.mjs"];
