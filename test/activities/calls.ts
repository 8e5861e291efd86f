/** Calls of activities as workflows make them, and the environment of `@temporalio/testing` to run them in. */
import { ApplicationFailure } from '@temporalio/activity';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import type { StepCall } from '../../src/contracts/activities.js';
import { CPU, EMBEDDER } from '../../src/contracts/names.js';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import type { PlanStep } from '../../src/contracts/plan.js';
import type { HostPolicy } from '../../src/contracts/policy.js';
import { CARD } from '../agent/pieces.js';
import { policy } from '../domain/planner/hosts.js';

export const NAME = 'qwen3-vl:8b';
export const VLM = `model/${NAME}`;

const base = { id: 's1', after: [], expectedMs: 1_000, peakMb: {}, why: 'a test' };
export const load = (
  change: { needsMb?: number; allowCpu?: boolean; devices?: string[]; confirms?: boolean } = {},
): PlanStep => ({
  ...base,
  kind: 'load',
  tenant: VLM,
  devices: [CARD],
  needsMb: 11_000,
  allowCpu: false,
  confirms: false,
  ...change,
});
export const unload: PlanStep = { ...base, kind: 'unload', tenant: VLM, devices: [CARD], freesMb: {} };
export const move = (to: string): PlanStep => ({
  ...base,
  kind: 'move',
  tenant: EMBEDDER,
  devices: [CARD, CPU],
  to,
  freesMb: {},
});

/** Of one run; the epoch counts for every device. */
export const call = (step: PlanStep, change: { run?: string; epoch?: number; round?: number } = {}): StepCall => {
  const { run = 'run-1', epoch = 1, round = 1 } = change;
  const goal = { kind: 'reconcile' as const, reason: 'a test' };
  const operation = { workflowId: `w/${run}`, runId: run };
  return { operation, epochs: { [CARD]: epoch, [CPU]: epoch }, step, round, goal };
};

/** Short times for attempts, so that a timeout is a matter of moments. */
export const hasty = (change: { load?: number; unload?: number; move?: number }): Partial<HostPolicy> => ({
  models: policy().models.map((model) => ({
    ...model,
    loadTimeoutSeconds: change.load ?? model.loadTimeoutSeconds,
    unloadTimeoutSeconds: change.unload ?? model.unloadTimeoutSeconds,
  })),
  embedder: { ...policy().embedder, moveTimeoutSeconds: change.move ?? 10 },
});

/** Failures are expected here, and not worth a line in the log. */
export const environment = () => new MockActivityEnvironment({}, { logger: new DefaultLogger('ERROR', () => {}) });

/** Runs an activity as a worker does. */
export const run = <P extends unknown[], R>(activity: (...args: P) => Promise<R>, ...args: P): Promise<R> =>
  environment().run<P, R, (...args: P) => Promise<R>>(activity, ...args);

/** The type of the failure that it ends with, after checking that the server would not repeat it by itself. */
export async function failureOf(work: Promise<unknown>): Promise<ApplicationFailure> {
  const error = await work.then(
    (value) => new Error(`It did not fail: ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );
  if (!(error instanceof ApplicationFailure)) throw error;
  if (error.nonRetryable !== true) throw new Error(`${error.type} would be repeated by the server`);
  return error;
}

export const outcome = (change: Partial<OperationOutcome> = {}): OperationOutcome => ({
  status: 'done',
  goal: { kind: 'mode', mode: 'recording' },
  summary: 'mode recording: load model',
  steps: [],
  failure: null,
  failedTenant: null,
  refusal: null,
  supersededBy: null,
  compensation: null,
  displaced: [],
  residency: {},
  epochs: {},
  totalMs: 1,
  ...change,
});
