/**
 * The storm's times as short as they may be. I9 with everything in seconds: consumers go by what they have read for one,
 * in place of 30 s, 60 s, 5 min and 10 min, and the delay is longer by two sync intervals and what a busy machine may
 * take to answer. No shared cache stands between, whose 70 s the default has.
 */

export const shortPace = {
  propagationDelayMs: 4000,
  staleMs: 1000,
  settings: {
    KEY_ROTATION_SCHEDULE: "*/6 * * * * *",
    ACCESS_TOKEN_TTL: "12s",
    VERIFY_GRACE: "2s",
    FLEET_SYNC_INTERVAL: "100ms",
    SHUTDOWN_LINGER: "4s",
    MAX_SIGNERS: "4",
  },
};
