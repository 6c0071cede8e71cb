/** Imports OCI images: verified layer by layer, into a tree. */
import type { DirectoryNode } from "./tree.ts";

export interface OciConfig {
  entrypoint: string[];
  command: string[];
  environment: Record<string, string>;
  workingDirectory: string;
  /** As in the image: "" (root), "uid", "uid:gid" or names. */
  user: string;
}

export interface OciImage {
  /** "sha256:…" of the manifest. */
  digest: string;
  tree: DirectoryNode;
  config: OciConfig;
  /** Paths whose setuid, setgid or sticky bit was dropped. */
  droppedBits: string[];
}
