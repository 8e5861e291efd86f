import type { OperationInput, OperationOutcome } from '../contracts/operation.js';
import { runOperation } from './operation.js';

/** A mode switch: `mode/<host>/<request>`. Started by a client, or by the host at a `switchMode` signal. */
export async function modeTransition(input: OperationInput): Promise<OperationOutcome> {
  return runOperation(input);
}
