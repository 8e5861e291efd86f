/** When the host starts a reconciliation: what is wanted is not what is, and nothing else is under way. */
import { workflowInfo } from '@temporalio/workflow';
import { workflowId } from '../contracts/names.js';
import type { Intents, OperationRef } from '../contracts/operation.js';
import type { HostPolicy } from '../contracts/policy.js';
import type { HostObservation } from '../contracts/residency.js';
import { planResidency } from '../domain/planResidency.js';
import { resolveTarget } from '../domain/resolveTarget.js';
import { reconciliation } from './reconciliation.js';
import { startOperation } from './starts.js';

/** After a reconciliation that failed, the next waits this long, doubled up to five minutes (pain 2). */
const PAUSE_MS = 10_000;
const PAUSE_MAX_MS = 300_000;

/** From its start until it has asked for its turn, at the most. */
const SILENT_MS = 120_000;

/** Plain data: it travels over continue-as-new. */
export interface Reconciling {
  /** Started so far. */
  count: number;
  /** In a row. */
  failures: number;
  /** The one under way. */
  underWay: { workflowId: string; sinceMs: number } | null;
  /** Epoch ms. */
  notBeforeMs: number;
}

export const noReconciliations = (): Reconciling => ({ count: 0, failures: 0, underWay: null, notBeforeMs: 0 });

/** What is wanted is not what is, and can be. */
export function needsRestoring(
  observed: HostObservation,
  intents: Intents,
  policy: HostPolicy,
  reason: string,
): boolean {
  const target = resolveTarget({ kind: 'reconcile', reason }, intents, policy, observed);
  const plan = planResidency(observed, target, policy);
  return plan.kind === 'plan' && plan.steps.length > 0;
}

export class Reconciliations {
  constructor(
    private readonly host: string,
    public state: Reconciling,
  ) {}

  isUnderWay({ workflowId: id }: OperationRef): boolean {
    return id === this.state.underWay?.workflowId;
  }

  /** @returns its start, or null when nothing is to be done, or not yet */
  startIfNeeded(observed: HostObservation, intents: Intents, policy: HostPolicy, reason: string): Promise<void> | null {
    if (this.state.underWay !== null || Date.now() < this.state.notBeforeMs) return null;
    if (!needsRestoring(observed, intents, policy, reason)) return null;
    const count = this.state.count + 1;
    const run = workflowInfo().firstExecutionRunId.slice(0, 8);
    const id = workflowId.reconciliation(this.host, `${run}-${count}`);
    this.state = { ...this.state, count, underWay: { workflowId: id, sinceMs: Date.now() } };
    const start = startOperation(reconciliation, id, {
      host: this.host,
      goal: { kind: 'reconcile', reason },
      requestedBy: 'the host',
      priority: 10,
    });
    return start.catch((error: unknown) => {
      this.ended(false);
      throw error;
    });
  }

  /** One that neither holds nor waits for a turn long after its start has ended without a word. */
  forgetSilent(isKnown: (workflowId: string) => boolean): void {
    const { underWay } = this.state;
    if (underWay === null || Date.now() - underWay.sinceMs < SILENT_MS || isKnown(underWay.workflowId)) return;
    this.ended(false);
  }

  /** @returns when the next may start, epoch ms; null: at once */
  ended(well: boolean): number | null {
    const failures = well ? 0 : this.state.failures + 1;
    const pauseMs = well ? 0 : Math.min(PAUSE_MS * 2 ** (failures - 1), PAUSE_MAX_MS);
    this.state = { ...this.state, failures, underWay: null, notBeforeMs: Date.now() + pauseMs };
    return well ? null : this.state.notBeforeMs;
  }
}
