import type { OperationInput, OperationOutcome } from '../contracts/operation.js';
import { runOperation } from './operation.js';

/** Makes room for a lease and reserves it: `lease/<host>/<id>/grant/<n>`. */
export async function leaseOperation(input: OperationInput): Promise<OperationOutcome> {
  return runOperation(input);
}
