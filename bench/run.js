/** `npm run bench`: every benchmark, its results as ratios within one run. Nothing here is a test. */

import { benchDocuments } from "./documents.js";
import { benchLoans } from "./loans.js";
import { benchLogin } from "./login.js";
import { benchVerifier } from "./verifier.js";

await benchDocuments();
await benchLogin();
await benchLoans();
await benchVerifier();
process.exit();
