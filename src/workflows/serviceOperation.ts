import type { OperationInput, OperationOutcome } from '../contracts/operation.js';
import { runOperation } from './operation.js';

/** Starts, stops or restarts one service: `service/<host>/<name>/<verb>/<request>`. */
export async function serviceOperation(input: OperationInput): Promise<OperationOutcome> {
  return runOperation(input);
}
