/** `npm run bench`: every benchmark, its results as ratios within one run. Nothing here is a test. */

import { benchDocuments } from "./documents.js";
import { benchLogin } from "./login.js";
import { benchVerifier } from "./verifier.js";

await benchDocuments();
await benchLogin();
await benchVerifier();
process.exit();
