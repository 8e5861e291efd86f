/** Of both workers. The reasons are in FACTS: measured on the dev server, and on what a killed worker costs. */
export const WORKER_TUNING = {
  // A worker that dies leaves its sticky queue behind for so long.
  stickyQueueScheduleToStartTimeout: '1s',
  // Cancellations reach an activity with a heartbeat.
  maxHeartbeatThrottleInterval: '500ms',
  defaultHeartbeatThrottleInterval: '500ms',
  shutdownGraceTime: '2s',
  maxCachedWorkflows: 200,
} as const;
