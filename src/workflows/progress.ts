/** What a run of an operation's steps ended with, before it is concluded. */
import { FAILURE } from '../contracts/failures.js';
import type { OperationOutcome } from '../contracts/operation.js';

export interface Progress {
  status: OperationOutcome['status'];
  summary: string;
  failure: OperationOutcome['failure'];
  failedTenant?: string;
  refusal: OperationOutcome['refusal'];
}

export const clean = { failure: null, refusal: null };

export const failed = (
  what: string,
  failure: { type: string | null; message: string; remedy: string | null },
): Progress => ({
  status: 'failed',
  summary: `${what}: ${failure.message}`,
  failure: { type: failure.type ?? FAILURE.agentAway, message: failure.message, remedy: failure.remedy },
  refusal: null,
});

/** A paragraph of Markdown; nothing for no lines. */
export const asList = (lines: string[]): string =>
  lines.length === 0 ? '' : `\n\n${lines.map((line) => `- ${line}`).join('\n')}`;
