/** The Web UI alone explains what happened: a finished operation in the server's words, and its page in a browser. */
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SEARCH_ATTRIBUTES } from '../../src/contracts/names.js';
import { onPath, requirePart } from '../parts/parts.js';
import type { Printed } from '../system/judge.js';
import { type System, startSystem } from '../system/system.js';

const browser = await onPath('chromium');
const chromium = requirePart('Chromium', browser === null ? { skip: 'no `chromium` on the PATH' } : { path: browser });

describe('what the Web UI shows of an operation that has ended', { timeout: 120_000 }, () => {
  let system: System;
  let printed: Printed;
  beforeAll(async () => {
    system = await startSystem();
    printed = await system.json<Printed>(['mode', 'recording']);
  });
  afterAll(() => system.stop());

  it('the server knows who asked for what, how it ended, and each step with its reason', async () => {
    const handle = system.client.workflow.getHandle(printed.workflow_id, printed.run_id);
    const { memo, searchAttributes } = await handle.describe();
    expect(memo).toMatchObject({
      request: 'mode recording',
      requestedBy: 'the command line',
      outcome: expect.stringMatching(/^done: mode recording: load model\/qwen3-vl:8b/),
    });
    expect(searchAttributes).toMatchObject({
      [SEARCH_ATTRIBUTES.host]: [system.host],
      [SEARCH_ATTRIBUTES.mode]: ['recording'],
      [SEARCH_ATTRIBUTES.outcome]: ['done'],
    });
    const { events = [] } = await handle.fetchHistory();
    const summaries = (events ?? []).flatMap(({ userMetadata }) => {
      const data = userMetadata?.summary?.data;
      return data == null ? [] : [JSON.parse(Buffer.from(data).toString('utf8')) as string];
    });
    expect(summaries).toContainEqual(expect.stringMatching(/^load model\/qwen3-vl:8b: mode recording/));
  });

  it('its page in a browser tells of the steps', async (context) => {
    if ('skip' in chromium) return context.skip(chromium.skip);
    const page = `${system.temporal.webUi}/namespaces/${system.temporal.namespace}/workflows/${encodeURIComponent(printed.workflow_id)}/${printed.run_id}/history`;
    const { stdout } = await execa(chromium.path, [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      `--user-data-dir=${system.folder}/browser`,
      '--virtual-time-budget=20000',
      '--dump-dom',
      page,
    ]);
    expect(stdout).toContain('loadTenant');
    expect(stdout).toContain('load model/qwen3-vl:8b');
  });
});
