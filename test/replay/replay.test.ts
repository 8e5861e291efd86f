/** The workflows as they are now, on histories that were recorded before: what runs must go on after an update. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger, type ReplayWorkerOptions, Runtime, Worker } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Recorded, recordedHistories } from './histories.js';
import { recordHistories } from './record.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const RECORD_MS = 240_000;

if (process.env['VRAMFLOW_RECORD_HISTORIES'] === '1') {
  console.log('recorded:', (await recordHistories()).join(', '));
}
const histories = recordedHistories();

describe('replay', () => {
  let options: ReplayWorkerOptions;
  beforeAll(async () => {
    const logger = new DefaultLogger('ERROR');
    Runtime.install({ logger });
    const workflowsPath = `${ROOT}dist/workflows/index.js`;
    options = { workflowBundle: await bundleWorkflowCode({ workflowsPath, logger }) };
  }, RECORD_MS);

  const replay = ({ history, workflowId }: Recorded) => Worker.runReplayHistory(options, history, workflowId);

  it.each(histories.map((recorded) => [recorded.name, recorded] as const))('%s', async (_name, recorded) => {
    await replay(recorded);
  });

  it('has a history of every workflow', () => {
    const index = readFileSync(`${ROOT}src/workflows/index.ts`, 'utf8');
    const types = [...index.matchAll(/export \{ (\w+) \}/g)].map(([, type]) => type);
    expect(types.length).toBeGreaterThan(0);
    const recorded = new Set(histories.map(({ history }) => startedOf(history)?.workflowType?.name));
    expect(types.filter((type) => !recorded.has(type))).toEqual([]);
  });

  it('has a host that continues as new, and one that goes on from there', () => {
    const runs = histories.filter(({ history }) => startedOf(history)?.workflowType?.name === 'gpuHost');
    expect(
      runs.some(({ history }) => history.events?.some((e) => e.workflowExecutionContinuedAsNewEventAttributes)),
    ).toBe(true);
    expect(runs.some(({ history }) => startedOf(history)?.continuedExecutionRunId)).toBe(true);
  });

  it('fails where a workflow does something else than it did', async () => {
    const recorded = histories.find(({ name }) => name === 'modeTransition-loads');
    const altered = structuredClone(recorded);
    const load = altered?.history.events?.find(
      (event) => event.activityTaskScheduledEventAttributes?.activityType?.name === 'loadTenant',
    )?.activityTaskScheduledEventAttributes?.activityType;
    if (altered === undefined || load == null) throw new Error('the history of a load has no load');
    load.name = 'unloadTenant';
    await expect(replay(altered)).rejects.toThrow(DeterminismViolationError);
  });
});

const startedOf = (history: Recorded['history']) => history.events?.[0]?.workflowExecutionStartedEventAttributes;
