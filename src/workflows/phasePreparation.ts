import type { OperationInput, OperationOutcome } from '../contracts/operation.js';
import { runOperation } from './operation.js';

/** Prepares a phase (P3): what it lists runs, every other service is stopped; `phase/<host>/<phase>/<request>`. */
export async function phasePreparation(input: OperationInput): Promise<OperationOutcome> {
  return runOperation(input);
}
