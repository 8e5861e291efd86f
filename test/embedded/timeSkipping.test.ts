/** The parts of the other tests: time that can be skipped, with vramflow's search attributes in place. */
import { Client } from '@temporalio/client';
import { describe, expect, it } from 'vitest';

import { SEARCH_ATTRIBUTES } from '../../src/contracts/names.js';
import { startTimeSkipping } from '../parts/temporal.js';

describe('the time-skipping server', () => {
  it('skips a month at once and takes the search attributes', async ({ skip }) => {
    const env = await startTimeSkipping();
    if ('skip' in env) return skip(env.skip);
    try {
      const before = await env.currentTimeMs();
      await env.sleep('30 days');
      expect((await env.currentTimeMs()) - before).toBeGreaterThanOrEqual(30 * 24 * 3600 * 1000);
      const client = new Client({ connection: env.connection });
      const handle = await client.workflow.start('none', {
        taskQueue: 'none',
        workflowId: 'with-attributes',
        searchAttributes: { [SEARCH_ATTRIBUTES.host]: ['here'] },
      });
      expect((await handle.describe()).searchAttributes[SEARCH_ATTRIBUTES.host]).toEqual(['here']);
    } finally {
      await env.teardown();
    }
  });
});
