/**
 * An agent in process whose life a test scripts: it dies before, during or after any of its activities, and is rebuilt
 * from its disk. A death looks to the server as a kill does: no answer and no heartbeat any more. Its fence and its
 * journal are the real ones; the hardware is a model that outlives it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { CompleteAsyncError } from '@temporalio/activity';
import { type NativeConnection, Worker } from '@temporalio/worker';
import { failure, toFailure } from '../../src/activities/failures.js';
import { Fence, NotEntered, StaleEpoch } from '../../src/agent/fence.js';
import { StateFile } from '../../src/agent/stateFile.js';
import type {
  AgentActivities,
  Conclusion,
  FencedCall,
  IdentityActivities,
  StepCall,
} from '../../src/contracts/activities.js';
import { FAILURE } from '../../src/contracts/failures.js';
import { EMBEDDER, hostQueue } from '../../src/contracts/names.js';
import type { AgentView, Epochs, StepOutcome } from '../../src/contracts/operation.js';
import { effectOf } from './effects.js';
import { GPU, Hardware, IDLE_SECONDS, policyOf, VLM } from './hardware.js';

/** Called at each point, named `observe#2 before`, `loadTenant#1 during`, …; what it returns happens there. */
export type Script = (point: string) => 'go-on' | 'die' | Error | Promise<'go-on'>;

interface Disk {
  mode: string;
  phase: string | null;
  /** By run: what `conclude` wrote. */
  concluded: Record<string, string>;
  lastUseMs: number;
}

/** The agent is killed; the machine goes on. */
const OUTLIVES_POWER = false;

/** An effect takes this long, so that others can come between. */
const EFFECT_MS = 5;

export class ScriptedAgent {
  readonly hardware = new Hardware();
  /** Every point that was passed, in order. */
  readonly points: string[] = [];
  script: Script = () => 'go-on';
  deaths = 0;
  private readonly folder = mkdtempSync(join(tmpdir(), 'vramflow-scripted-'));
  private readonly counts = new Map<string, number>();
  private fence = this.fenceFromDisk();
  private startedMs = 0;
  private worker: { run: Promise<void>; worker: Worker } | null = null;

  constructor(
    readonly host: string,
    private readonly connection: NativeConnection,
  ) {}

  get disk(): Disk {
    return this.diskFile().get();
  }

  get epochs(): Epochs {
    return this.fence.highest();
  }

  async start(): Promise<void> {
    this.startedMs = Date.now();
    const worker = await Worker.create({
      connection: this.connection,
      taskQueue: hostQueue(this.host),
      activities: this.activities(),
      // Many hosts live on one server; each has an activity or two at a time.
      maxConcurrentActivityTaskPolls: 2,
      maxHeartbeatThrottleInterval: '500ms',
      defaultHeartbeatThrottleInterval: '500ms',
    });
    this.worker = { worker, run: worker.run() };
  }

  async stop(): Promise<void> {
    this.worker?.worker.shutdown();
    await this.worker?.run;
    this.worker = null;
  }

  async dispose(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private activities(): AgentActivities & IdentityActivities {
    return {
      observe: (call) =>
        this.alive('observe', async () => {
          await this.entered(call);
          return this.view();
        }),
      describeAgent: () => this.alive('describeAgent', () => this.view()),
      loadTenant: (call) => this.step('loadTenant', call),
      unloadTenant: (call) => this.step('unloadTenant', call),
      moveEmbedder: (call) => this.step('moveEmbedder', call),
      grantReservation: noLeases,
      endReservation: noLeases,
      releaseReservation: noLeases,
      readReservation: noLeases,
      renewReservation: noLeases,
      startService: (call) => this.step('startService', call),
      stopService: (call) => this.step('stopService', call),
      idleRemaining: (tenant) => this.alive('idleRemaining', () => this.remaining(tenant)),
      closeIfIdle: (call) =>
        this.alive('closeIfIdle', async () => {
          if (!this.fence.hasEntered(call)) throw toFailure(new NotEntered(), NOTHING_ELSE);
          const remainingMs = await this.remaining(call.tenant);
          return { closed: remainingMs === 0, remainingMs };
        }),
      conclude: (call) => this.alive('conclude', () => this.conclude(call)),
      abandonOperation: async (operation) => this.fence.abandon(operation),
      identifyAgent: () => Promise.resolve({ instance: `life-${this.deaths}`, lockDomain: this.folder }),
    };
  }

  /** Runs an activity of this life. One that the agent's death overtakes never answers. */
  private async alive<T>(name: string, work: (during: () => Promise<void>) => Promise<T>): Promise<T> {
    const life = this.deaths;
    const count = (this.counts.get(name) ?? 0) + 1;
    this.counts.set(name, count);
    const at = async (when: string): Promise<void> => {
      if (this.deaths !== life) throw new CompleteAsyncError();
      const point = `${name}#${count} ${when}`;
      this.points.push(point);
      const what = await this.script(point);
      if (what instanceof Error) throw what;
      if (what === 'go-on') return;
      this.die();
      throw new CompleteAsyncError();
    };
    try {
      await at('before');
      const result = await work(() => at('during'));
      await at('after');
      return result;
    } catch (error) {
      if (this.deaths !== life) throw new CompleteAsyncError();
      throw error;
    }
  }

  /** The process is gone: what it had in memory is lost, a load that it had asked for is broken off by Ollama. Services go on. */
  private die(): void {
    this.deaths += 1;
    this.fence = this.fenceFromDisk();
    if (this.hardware.vlm === 'loading') this.hardware.vlm = 'absent';
    // The successor adopts the embedder that callers had, and ends a second one.
    this.hardware.embedders.length = 1;
  }

  private step(name: string, call: StepCall): Promise<StepOutcome> {
    const { step, round } = call;
    const context = { otherwise: FAILURE.loadFailed, timeout: FAILURE.loadTimeout, timeoutMs: 30_000 };
    return this.alive(name, async (during) => {
      try {
        const acted = await this.fence.run(
          call,
          { key: `${round}.${step.id}`, name: `${step.kind} ${step.tenant}`, devices: step.devices },
          new AbortController().signal,
          (signal) => this.effect(call, during, signal),
        );
        return { step: step.id, kind: step.kind, tenant: step.tenant, ms: EFFECT_MS, attempts: 1, proof: PROOF, acted };
      } catch (error) {
        throw error instanceof CompleteAsyncError ? error : toFailure(error, context);
      }
    });
  }

  /** Looks, then acts (law 4), and waits until it is true. */
  private async effect(
    { step, operation, epochs }: StepCall,
    during: () => Promise<void>,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { hardware } = this;
    const effect = effectOf(hardware, step);
    const { kind } = effect;
    if ((kind === 'load' || kind === 'unload') && !hardware.ollamaAnswers) {
      throw failure(FAILURE.driverUnavailable, 'connection refused', 'start Ollama');
    }
    if (effect.isTrue()) return false;
    const entry = { kind, tenant: step.tenant, runId: operation.runId, epoch: epochs[GPU] ?? 0 };
    const life = this.deaths;
    hardware.record.push({ ...entry, what: 'begin' });
    effect.begin();
    hardware.weigh();
    try {
      await pause(EFFECT_MS, undefined, { signal });
      await during();
      signal.throwIfAborted();
      for (effect.goOn(); !effect.isTrue(); effect.goOn()) await pause(EFFECT_MS, undefined, { signal });
    } catch (error) {
      effect.breakOff(this.deaths !== life);
      hardware.record.push({ ...entry, what: 'broken-off' });
      throw error;
    }
    if (kind === 'load') this.write({ lastUseMs: Date.now() });
    hardware.record.push({ ...entry, what: 'end' });
    return true;
  }

  private async entered(call: FencedCall): Promise<void> {
    try {
      await this.fence.enter(call);
    } catch (error) {
      if (!(error instanceof StaleEpoch)) throw error;
      throw toFailure(error, NOTHING_ELSE);
    }
  }

  private async conclude({ operation, outcome, mode, phase }: Conclusion): Promise<void> {
    const { concluded } = this.disk;
    this.write({
      concluded: { ...concluded, [operation.runId]: outcome.summary },
      ...(mode === null ? {} : { mode }),
      ...(phase === null ? {} : { phase }),
    });
    this.fence.leave(operation);
    return Promise.resolve();
  }

  private async remaining(tenant: string): Promise<number | null> {
    if (tenant !== VLM || this.hardware.vlm !== 'loaded') return null;
    return Math.max(0, IDLE_SECONDS * 1_000 - this.idleForMs());
  }

  /** Law 10: since the last use or the agent's first start, whichever is later. */
  private idleForMs(): number {
    return Math.max(0, Date.now() - Math.max(this.disk.lastUseMs, this.startedMs));
  }

  private async view(): Promise<AgentView> {
    return {
      observation: this.hardware.observation(this.host, this.idleForMs()),
      policy: policyOf(this.host),
      mode: this.disk.mode,
      phase: this.disk.phase,
      epochs: this.epochs,
      instance: `life-${this.deaths}`,
    };
  }

  private fenceFromDisk(): Fence {
    return new Fence(this.epochsFile(), () => performance.now());
  }

  private epochsFile(): StateFile<Epochs> {
    return new StateFile<Epochs>(join(this.folder, 'epochs.json'), {}, OUTLIVES_POWER);
  }

  private diskFile(): StateFile<Disk> {
    return new StateFile<Disk>(join(this.folder, 'disk.json'), {
      mode: 'idle',
      phase: null,
      concluded: {},
      lastUseMs: 0,
    });
  }

  private write(change: Partial<Disk>): void {
    this.diskFile().set({ ...this.disk, ...change });
  }
}

const noLeases = (): never => {
  throw failure(FAILURE.unknownTenant, 'the scripted host has no leases');
};

const NOTHING_ELSE = { otherwise: FAILURE.agentAway, timeout: FAILURE.agentAway, timeoutMs: 0 };

const PROOF = { beforeMb: {}, afterMb: {}, reclaimMs: null, by: `scripted, for ${EMBEDDER} and ${VLM}` };
