import { DefaultLogger, makeTelemetryFilterString, Runtime } from '@temporalio/worker';
import type { Logger } from 'pino';

/** An agent has activities only: of that the SDK warns at every start. */
const EXPECTED = 'No workflows registered';

/** The SDK's own lines join ours: one structured log a process (P10). To be called before any connection is made. */
export function logThrough(log: Logger): void {
  const quiet = { TRACE: 'trace', DEBUG: 'debug', INFO: 'debug', WARN: 'warn', ERROR: 'error' } as const;
  Runtime.install({
    logger: new DefaultLogger('INFO', ({ level, message, meta }) =>
      log[message.startsWith(EXPECTED) ? 'debug' : quiet[level]]({ ...meta, from: 'temporal' }, message),
    ),
    telemetryOptions: {
      logging: { filter: makeTelemetryFilterString({ core: 'WARN', other: 'ERROR' }), forward: {} },
    },
  });
}
