import { describe, expect, it } from 'vitest';

import { serverArguments } from '../../src/embedded/serverArguments.js';

const options = { port: 7233, uiPort: 8233, database: '/data/temporal.db', namespace: 'default' };

describe('serverArguments', () => {
  it('binds to loopback and tunes; stock settings differ by the tuning only', () => {
    const tuned = serverArguments(options).join(' ');
    const stock = serverArguments({ ...options, tuned: false }).join(' ');
    expect(tuned.startsWith(stock)).toBe(true);
    expect(stock).toBe(
      'server start-dev --ip 127.0.0.1 --port 7233 --ui-port 8233 --db-filename /data/temporal.db --log-level warn --namespace default',
    );
    for (const setting of [
      '--sqlite-pragma journal_mode=WAL',
      '--sqlite-pragma synchronous=NORMAL',
      '--dynamic-config-value history.transferProcessorMaxPollRPS=2000',
      '--dynamic-config-value history.timerProcessorMaxPollRPS=2000',
      '--dynamic-config-value matching.numTaskqueueReadPartitions=1',
      '--dynamic-config-value matching.numTaskqueueWritePartitions=1',
    ]) {
      expect(tuned).toContain(setting);
    }
  });
});
