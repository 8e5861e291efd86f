/** One simulated host under random sequences about its services: carries the actions out, and ends what disturbs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { vi } from 'vitest';
import { CONTROL_QUEUE, SEARCH_ATTRIBUTES, serviceTenant } from '../../../src/contracts/names.js';
import { type AskedGoal, startOf } from '../../../src/contracts/start.js';
import type { GpuProcess } from '../../../src/simulator/gpuHost.js';
import { type ServiceTrace, watchForTwins } from '../../judge/services.js';
import { beginTrace, emptyTrace } from '../../judge/trace.js';
import type { Pipeline } from '../../judge/wantedServices.js';
import { livingServices } from '../../system/mediaPipeline.js';
import type { System } from '../../system/system.js';
import type { Action, Sequence } from './actions.js';

const AT_ONCE = 4;
/** A GPU in quarantine is free again by then. */
const RESET_MS = 60_000;
/** The wait before the next try is some seconds by then. */
const MANY_FAILURES = 3;
/** What the desktop may take meanwhile, MB. */
const MARGIN_MB = 700;

/** A program of somebody else: a real process, so that a signal to it would be seen. */
interface Stranger {
  child: ChildProcess;
  process: GpuProcess;
  gpu: string;
}

export class RandomServiceHost {
  private strangers: Stranger[] = [];
  private running = new Set<Promise<void>>();
  private handles: WorkflowHandle[] = [];
  private trace: ServiceTrace = { ...emptyTrace(), killed: new Set() };
  /** By service, since it stopped while it was well. */
  private readonly failures = new Map<string, number>();
  private readonly names: string[];
  private readonly phases: string[];

  constructor(
    readonly system: System,
    readonly pipeline: Pipeline,
  ) {
    this.names = Object.keys(pipeline.services);
    this.phases = Object.keys(pipeline.phases);
    watchForTwins(system, this.names, (what) => this.trace.seen.push(what));
  }

  /** From a known beginning, so that a seed says all: nothing runs and nothing is wanted. @throws when that cannot be had */
  async reset(): Promise<void> {
    this.handles = [];
    await this.must({ kind: 'phase', phase: 'none' });
    await this.forgetFailures();
  }

  /** A service that failed often waits ever longer before its next try (P8): one that stops while it is well begins anew. */
  private async forgetFailures(): Promise<void> {
    for (const { type, subject } of await this.system.journalAfter(this.trace.firstJournal)) {
      if (type !== 'service_failed' && type !== 'service_unhealthy') continue;
      this.failures.set(subject ?? '', (this.failures.get(subject ?? '') ?? 0) + 1);
    }
    for (const [tenant, count] of this.failures) {
      if (count < MANY_FAILURES) continue;
      await this.must({ kind: 'service', tenant, verb: 'start' });
      await this.must({ kind: 'phase', phase: 'none' });
      this.failures.delete(tenant);
    }
  }

  /** Again and again: what the former sequence left may take its time. */
  private must(goal: AskedGoal): Promise<void> {
    const once = (): Promise<void> =>
      this.operate(goal).catch((error: unknown) => {
        const cause = error instanceof WorkflowFailedError ? error.cause : error;
        throw new Error(`the host cannot be reset: ${cause instanceof Error ? cause.message : String(cause)}`);
      });
    return vi.waitFor(once, { timeout: RESET_MS, interval: 1_000 });
  }

  async play(sequence: Sequence): Promise<ServiceTrace> {
    this.trace = { ...(await beginTrace(this.system)), killed: new Set() };
    for (const { actions, next } of sequence) {
      for (const action of actions) {
        while (this.running.size >= AT_ONCE) await Promise.race(this.running);
        await this.begin(action);
      }
      if (next === 'wait-for-all') await Promise.all(this.running);
      if (next === 'wait-for-one' && this.running.size > 0) await Promise.race(this.running);
    }
    this.system.simulator.faults.clear();
    for (const stranger of this.strangers) await this.end(stranger);
    this.strangers = [];
    await Promise.all(this.running);
    return this.trace;
  }

  private async begin(action: Action): Promise<void> {
    const { faults } = this.system.simulator;
    switch (action.do) {
      case 'phase':
        return this.call({ kind: 'phase', phase: this.phases[action.phase % this.phases.length] ?? '' });
      case 'service':
        return this.call({ kind: 'service', tenant: serviceTenant(this.name(action.service)), verb: action.verb });
      case 'cancel':
        await this.handles.at(-1)?.cancel();
        return;
      case 'kill':
        for (const { pid } of livingServices(this.system, this.name(action.service))) {
          this.trace.killed.add(pid);
          process.kill(pid, 'SIGKILL');
        }
        return;
      case 'fault':
        faults.set(action.name, { ...action.params, service: this.name(action.service) });
        return;
      case 'slow-reclaim':
        faults.set('reclaim-slow', { ms: 6_000, durationMs: 20_000 });
        return;
      case 'stranger':
        await this.stranger(action);
    }
  }

  /** Takes, at the most, what is free beyond what services under way still need: its own memory is its own. */
  private async stranger({ what, share }: Action & { do: 'stranger' }): Promise<void> {
    const { gpuHost } = this.system.simulator;
    const [card] = gpuHost.cards;
    if (card === undefined) return;
    const gpu = card.spec.uuid;
    const [known] = this.strangers;
    if (what === 'go') {
      this.strangers = this.strangers.slice(1);
      if (known) await this.end(known);
      return;
    }
    const owedMb = livingServices(this.system)
      .map(({ name, holder }) => (this.pipeline.services[name]?.vramMb ?? 0) - gpuHost.heldMb(holder, gpu))
      .reduce((sum, mb) => sum + Math.max(0, mb), 0);
    const mayTakeMb = Math.floor((gpuHost.freeMb(card) - owedMb - MARGIN_MB) * share);
    if (mayTakeMb <= 0) return;
    const one = what === 'grow' && known ? known : this.newStranger(gpu);
    gpuHost.resize(one.process, gpu, gpuHost.heldMb(one.process.holder, gpu) + mayTakeMb);
  }

  private newStranger(gpu: string): Stranger {
    const child = spawn('sleep', ['3600'], { stdio: 'ignore' });
    const process = this.system.simulator.gpuHost.startProcess('compute', '/usr/bin/sleep', child.pid);
    const stranger = { child, process, gpu };
    this.strangers.push(stranger);
    return stranger;
  }

  /** Law 5: until the test ends it, it lives. */
  private async end({ child, process }: Stranger): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) {
      this.trace.seen.push(`law 5: a stranger (${child.pid}) was ended by somebody: ${child.signalCode}`);
    } else {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    void this.system.simulator.gpuHost.end(process);
  }

  private call(goal: AskedGoal): void {
    const work = this.operate(goal).catch((error: unknown) => {
      // How it ended is in the journal; a caller that is told nothing else got no answer.
      if (!(error instanceof WorkflowFailedError)) this.trace.seen.push(`a caller got no answer: ${String(error)}`);
    });
    const tracked: Promise<void> = work.finally(() => this.running.delete(tracked));
    this.running.add(tracked);
  }

  private async operate(goal: AskedGoal): Promise<void> {
    const { workflow, workflowId } = startOf(this.system.host, goal, randomUUID().slice(0, 8));
    const handle = await this.system.client.workflow.start(workflow, this.startOptions(workflowId, goal));
    this.handles.push(handle);
    await handle.result();
  }

  private startOptions(workflowId: string, goal: AskedGoal) {
    const { host } = this.system;
    return {
      workflowId,
      taskQueue: CONTROL_QUEUE,
      args: [{ host, goal, requestedBy: 'a random sequence', priority: 50 }],
      searchAttributes: { [SEARCH_ATTRIBUTES.host]: [host] },
    };
  }

  private name(service: number): string {
    return this.names[service % this.names.length] ?? '';
  }
}
