/** The command line of the embedded server. Pure. */

export interface Ports {
  /** gRPC, on loopback. */
  port: number;
  /** Web UI, on loopback. */
  uiPort: number;
}

/**
 * Settings that make the dev server fit for small, frequent operations; measured in one run, medians:
 * an operation takes 91 ms with all of them and 750 ms with none. The keys are those of server 1.29
 * (common/dynamicconfig/constants.go).
 */
const TUNING = {
  pragmas: {
    journal_mode: 'WAL',
    // With WAL a power cut may take the last moments, never the database.
    synchronous: 'NORMAL',
  },
  dynamic: {
    // Tasks are picked up by polls that these cap; the default of 20 a second adds ~80 ms to each activity.
    'history.transferProcessorMaxPollRPS': 2000,
    'history.timerProcessorMaxPollRPS': 2000,
    // One partition: half the work on one machine, and priorities are strict within it only.
    'matching.numTaskqueueReadPartitions': 1,
    'matching.numTaskqueueWritePartitions': 1,
  },
} as const;

/** @param options.tuned false: the stock settings, to measure against */
export function serverArguments(options: Ports & { database: string; namespace: string; tuned?: boolean }): string[] {
  const { port, uiPort, database, namespace, tuned = true } = options;
  const flags = [
    ['--ip', '127.0.0.1'],
    ['--port', String(port)],
    ['--ui-port', String(uiPort)],
    ['--db-filename', database],
    ['--log-level', 'warn'],
    // `default` is there anyway; to name it again does no harm.
    ['--namespace', namespace],
  ];
  if (tuned) {
    for (const [key, value] of Object.entries(TUNING.pragmas)) flags.push(['--sqlite-pragma', `${key}=${value}`]);
    for (const [key, value] of Object.entries(TUNING.dynamic))
      flags.push(['--dynamic-config-value', `${key}=${value}`]);
  }
  return ['server', 'start-dev', ...flags.flat()];
}
