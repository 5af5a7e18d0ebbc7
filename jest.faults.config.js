import config from "./jest.config.js";

/**
 * The long form of the fault suite: one file after another, for its faults are timed and its machines are real. Some
 * tests of the quick form are among them, which do much more here.
 */
export default {
  ...config,
  testMatch: [
    "<rootDir>/test/**/*.faults.ts",
    "<rootDir>/test/fleet/{in-flight,revocation-order,session-model}.test.ts",
    "<rootDir>/test/keys/key-life.property.test.ts",
    "<rootDir>/test/revocation/revocation-store.test.ts",
    "<rootDir>/test/verifier/{fleet,flood,properties}.test.ts",
  ],
  maxWorkers: 1,
  testTimeout: 120_000,
};
