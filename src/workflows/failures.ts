import { ActivityFailure, ApplicationFailure, TimeoutFailure } from '@temporalio/workflow';

/** A failure that an activity ended with, by its stable type; type null: a worker died or nobody took the work. */
export interface StepFailure {
  type: string | null;
  message: string;
  remedy: string | null;
  details: unknown[];
}

/** Null when the error is no activity's failure. Activities put `{ remedy }` last in their details. */
export function failureOf(error: unknown): StepFailure | null {
  if (!(error instanceof ActivityFailure)) return null;
  const { cause } = error;
  if (cause instanceof ApplicationFailure) {
    const details = cause.details ?? [];
    return { type: cause.type ?? null, message: cause.message, remedy: remedyIn(details.at(-1)), details };
  }
  if (cause instanceof TimeoutFailure) {
    const message = `the agent did not answer (${cause.timeoutType}) during ${error.activityType}`;
    return { type: null, message, remedy: 'see that the agent runs: vramflow doctor', details: [] };
  }
  return { type: null, message: cause?.message ?? error.message, remedy: null, details: [] };
}

function remedyIn(detail: unknown): string | null {
  return typeof detail === 'object' && detail !== null && 'remedy' in detail && typeof detail.remedy === 'string'
    ? detail.remedy
    : null;
}
