import { ApplicationFailure, WorkflowFailedError } from '@temporalio/client';
import { modelTenant } from '../contracts/names.js';
import type { OperationOutcome } from '../contracts/operation.js';
import { isWhole } from '../domain/attribution.js';
import type { Agent } from './agent.js';
import type { Use } from './gates.js';

/** Starts the operation that loads a tenant and answers with its outcome. */
export type LoadOnDemand = (tenant: string) => Promise<{ workflowId: string; outcome: Promise<OperationOutcome> }>;

export interface LoadProgress {
  state: 'loading' | 'ready';
  message: string;
  workflowId: string | null;
}

/** How often a request may find the model gone again before it gives up (pain 2: no loop for ever). */
const MAX_LOADS = 3;

/** So long a request waits while the memory that it needs is in use by other requests (pain 7); then it is refused. */
const IN_USE_PATIENCE_MS = 30_000;
/** It looks again when a tenant is not used any more, and after so long. */
const LOOK_AGAIN_MS = 5_000;

/**
 * Requests for models (M13): a resident model is used at once, through its gate; for another one an operation makes
 * room and loads it, and simultaneous requests share that operation.
 */
export class OnDemand {
  private readonly loads = new Map<string, Promise<{ workflowId: string; outcome: Promise<OperationOutcome> }>>();

  constructor(
    private readonly agent: Agent,
    private readonly load: LoadOnDemand,
  ) {}

  /** @returns the counted use; the caller ends it. @throws what the load ended with */
  async acquire(model: string, signal: AbortSignal, onProgress: (progress: LoadProgress) => void): Promise<Use> {
    const tenant = modelTenant(model);
    const settled = this.agent.gates.expect(tenant);
    try {
      return await this.untilReady({ model, tenant }, signal, onProgress);
    } finally {
      settled();
    }
  }

  private async untilReady(
    { model, tenant }: { model: string; tenant: string },
    signal: AbortSignal,
    onProgress: (progress: LoadProgress) => void,
  ): Promise<Use> {
    this.agent.uses.touch(tenant);
    const patientUntil = this.agent.now() + IN_USE_PATIENCE_MS;
    for (let loads = 0; ; ) {
      const use = this.isReady(tenant) ? this.agent.gates.use(tenant) : null;
      if (use !== null) {
        onProgress({ state: 'ready', message: `${model} is ready`, workflowId: null });
        return use;
      }
      if (loads === MAX_LOADS) {
        throw new Error(`${model} was unloaded again ${MAX_LOADS} times before it could be used: see vramflow history`);
      }
      const { workflowId, outcome } = await this.shared(tenant);
      onProgress({ state: 'loading', message: `${model} is not loaded: making room and loading it`, workflowId });
      try {
        await withAbort(outcome, signal);
        loads += 1;
      } catch (error) {
        const inUse = whatIsInUse(error);
        if (inUse === null || this.agent.now() >= patientUntil) throw error;
        onProgress({ state: 'loading', message: `${model} waits for room: ${inUse}`, workflowId });
        await this.agent.gates.unused.next(LOOK_AGAIN_MS, signal);
      }
      this.agent.uses.touch(tenant);
    }
  }

  private isReady(tenant: string): boolean {
    const model = this.agent.watch.resident().find((one) => one.id === tenant)?.model;
    const observed = this.agent.observation().tenants.find((one) => one.id === tenant);
    return (
      model !== undefined &&
      observed?.state === 'resident' &&
      (observed.allowCpu || isWhole(model) || !hasGpu(this.agent))
    );
  }

  private shared(tenant: string) {
    const running = this.loads.get(tenant);
    if (running) return running;
    const started = this.load(tenant);
    this.loads.set(tenant, started);
    const forget = () => this.loads.delete(tenant);
    started.then(({ outcome }) => outcome.then(forget, forget), forget);
    return started;
  }
}

/** Of a refusal for nothing but requests in flight: what it says. */
function whatIsInUse(error: unknown): string | null {
  if (!(error instanceof WorkflowFailedError) || !(error.cause instanceof ApplicationFailure)) return null;
  const [outcome] = error.cause.details ?? [];
  const refusal = (outcome as OperationOutcome | undefined)?.refusal;
  return refusal?.code === 'in-use' ? refusal.message : null;
}

const hasGpu = (agent: Agent): boolean => agent.sampler.latest().gpus.length > 0;

/** The shared load goes on for the others when one caller leaves. */
function withAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const aborted = () => reject(signal.reason);
    if (signal.aborted) aborted();
    signal.addEventListener('abort', aborted, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted));
  });
}
