/** Imported first: the example is built, so that toolchain, sources and kernels are in the cache whichever test comes first. */
import { image } from "../image.ts";

await image();
