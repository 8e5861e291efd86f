/** The lease's workflow and its host's, with an operation that ends as a test says: lease.test.ts bundles them. */
import { ApplicationFailure, condition, defineSignal, setHandler } from '@temporalio/workflow';
import type { OperationOutcome } from '../../src/contracts/operation.js';

export { gpuHost } from '../../src/workflows/gpuHost.js';
export { lease } from '../../src/workflows/lease.js';

export const endWith = defineSignal<[OperationOutcome]>('endWith');

export async function leaseOperation(): Promise<OperationOutcome> {
  let outcome: OperationOutcome | null = null;
  setHandler(endWith, (told) => {
    outcome = told;
  });
  await condition(() => outcome !== null);
  const { status, summary } = outcome as unknown as OperationOutcome;
  if (status !== 'done') throw ApplicationFailure.nonRetryable(summary, status, outcome);
  return outcome as unknown as OperationOutcome;
}
