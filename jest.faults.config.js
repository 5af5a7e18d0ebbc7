import config from "./jest.config.js";

/** The long form of the fault suite: one file after another, for its faults are timed and its machines are real. */
export default {
  ...config,
  testMatch: ["<rootDir>/test/faults/**/*.faults.ts"],
  maxWorkers: 1,
  testTimeout: 120_000,
};
