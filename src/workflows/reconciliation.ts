import type { OperationInput, OperationOutcome } from '../contracts/operation.js';
import { runOperation } from './operation.js';

/** Brings back what died while wanted, and looks again where the embedder belongs: `reconcile/<host>/<n>`. */
export async function reconciliation(input: OperationInput): Promise<OperationOutcome> {
  return runOperation(input);
}
