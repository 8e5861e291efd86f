import type { OperationInput, OperationOutcome } from '../contracts/operation.js';
import { runOperation } from './operation.js';

/** Ensures that one model is loaded or unloaded, or moves the embedder: `model/<host>/<name>/<verb>/<request>`. */
export async function modelOperation(input: OperationInput): Promise<OperationOutcome> {
  return runOperation(input);
}
