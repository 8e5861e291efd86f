/** When the tasks of a workflow fail for good, and not because a worker starts, ends or is slow. */

/** The newest task of a workflow, as the server tells of it. */
export interface PendingTask {
  /** 1 at first; one more for each failure and each time limit that passed. */
  attempt: number;
  /** What the history has of its first failure; null where a time limit passed. */
  failure: string | null;
}

/** A task that has failed is tried at once, then every 10 s (its time limit): this is some 20 s after the failure. */
const TRIES_AFTER_FAILURE = 3;
/** A worker that is killed in a task costs 10 s and one try: this is 50 s of it. */
const TRIES_WITHOUT_WORD = 6;

export const isWedged = ({ attempt, failure }: PendingTask): boolean =>
  attempt >= (failure === null ? TRIES_WITHOUT_WORD : TRIES_AFTER_FAILURE);
