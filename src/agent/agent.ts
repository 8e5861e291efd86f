/** What lives beside the hardware of one host: the parts, and the state that they share. */
import { join } from 'node:path';
import type { Ollama } from '../adapters/ollama/ollama.js';
import type { Reservation } from '../contracts/lease.js';
import { EMBEDDER, isReservation, isService, tenantName } from '../contracts/names.js';
import type { AgentView, Epochs, OperationRef } from '../contracts/operation.js';
import type { HostPolicy } from '../contracts/policy.js';
import type { HostObservation } from '../contracts/residency.js';
import { isRunner } from '../domain/attribution.js';
import type { Displacements } from '../domain/displacement.js';
import { isNested, serverOfOllama } from '../domain/planner/nesting.js';
import type { EmbedderSwitch } from './embedderSwitch.js';
import { Fence } from './fence.js';
import { CUT_SHORT, followProof } from './followProof.js';
import { Gates } from './gates.js';
import { Journal } from './journal.js';
import { learnPeaks } from './learn.js';
import { type Footprint, Learned } from './learned.js';
import { observeHost, pidsOf } from './observe.js';
import { ollamaServer } from './ollamaServer.js';
import { type OllamaChange, OllamaWatch } from './ollamaWatch.js';
import { Reclaims } from './reclaims.js';
import { Reservations } from './reservations.js';
import { resumeUnfinished } from './resume.js';
import type { Sampler } from './sampler.js';
import type { Services } from './services.js';
import { StateFile } from './stateFile.js';
import { type Begun, Unfinished } from './unfinished.js';
import { Uses } from './uses.js';

export interface AgentOptions {
  policy: HostPolicy;
  simulated: boolean;
  /** The host's folder: journal, epochs, uses. */
  folder: string;
  instance: string;
  ollama: Ollama;
  embedder: EmbedderSwitch;
  sampler: Sampler;
  services: Services;
  readerKind: 'nvidia-smi' | 'none' | 'declared';
  /** Why there is no GPU reader, or null. */
  readerReason: string | null;
  /** Monotonic, ms. */
  now: () => number;
  /** A process and its descendants, as last seen. */
  descendants: (pid: number) => number[];
  onOllamaChange: (change: OllamaChange) => void;
  /** The last operation has left. */
  onIdle: () => void;
}

interface Remembered {
  mode: string;
  /** Absent in what earlier versions wrote. */
  phase?: string | null;
  /** Tenants in state error, and why (M19). */
  errors: Record<string, string>;
  /** Absent in what earlier versions wrote. */
  displaced?: Displacements;
}

export class Agent {
  readonly policy: HostPolicy;
  readonly ollama: Ollama;
  readonly embedder: EmbedderSwitch;
  readonly sampler: Sampler;
  readonly services: Services;
  readonly fence: Fence;
  readonly gates = new Gates();
  readonly uses: Uses;
  readonly journal: Journal;
  readonly learned: Learned;
  readonly reclaims: Reclaims;
  readonly reservations: Reservations;
  readonly unfinished: Unfinished;
  readonly watch: OllamaWatch;
  readonly now: () => number;
  private readonly working = new Map<string, 'loading' | 'unloading'>();
  /** Gates that an operation closed, by tenant: the run that did. */
  private readonly closedBy = new Map<string, string>();
  /** GPUs in quarantine, and why, as last told. */
  private readonly quarantined = new Map<string, string>();
  private readonly file: StateFile<Remembered>;
  private remembered: Remembered;
  private writeProblem: string | null = null;

  constructor(readonly options: AgentOptions) {
    const { folder, policy, ollama, embedder, sampler, services, now } = options;
    const file = (name: string) => join(folder, name);
    this.policy = policy;
    this.ollama = ollama;
    this.embedder = embedder;
    this.sampler = sampler;
    this.services = services;
    this.now = now;
    this.file = new StateFile<Remembered>(file('state.json'), { mode: 'idle', errors: {} });
    this.remembered = this.file.get();
    this.fence = new Fence(new StateFile<Epochs>(file('epochs.json'), {}), now, options.onIdle);
    this.uses = new Uses(new StateFile<Record<string, number>>(file('uses.json'), {}), Date.now);
    this.journal = new Journal(folder);
    this.learned = new Learned(new StateFile<Record<string, Footprint>>(file('learned.json'), {}));
    this.reclaims = new Reclaims(now);
    this.reservations = new Reservations(
      new StateFile<Record<string, Reservation>>(file('reservations.json'), {}),
      () => Date.now(),
      options.descendants,
    );
    // A power cut empties the GPUs too.
    this.unfinished = new Unfinished(new StateFile<Record<string, Begun>>(file('unfinished.json'), {}, false));
    const server = () => ollamaServer(policy, services);
    this.watch = new OllamaWatch(ollama, 'observed', (change) => this.onOllama(change), Date.now, server);
    sampler.onSample((sample) => {
      this.followLateStops();
      this.reclaims.take(sample);
      learnPeaks(this);
      this.noteQuarantine(sample.gpus.map((gpu) => gpu.uuid));
    });
  }

  /** The model has answered: it works, and the runner that came with it is its own. */
  markProven(tenant: string): void {
    const runners = (this.sampler.latest().processes ?? []).filter(isRunner);
    this.watch.markProven(
      tenant,
      runners.map(({ pid }) => pid),
    );
  }

  get mode(): string {
    return this.remembered.mode;
  }

  get errors(): ReadonlyMap<string, string> {
    return new Map(Object.entries(this.remembered.errors));
  }

  observation(): HostObservation {
    return observeHost({ ...this.observedParts(), policy: this.policy, simulated: this.options.simulated });
  }

  view(): AgentView {
    return {
      observation: this.observation(),
      policy: this.policy,
      mode: this.mode,
      phase: this.phase,
      epochs: this.fence.highest(),
      instance: this.options.instance,
    };
  }

  /** The processes that hold a tenant, as the driver's list shows them. */
  pids(tenant: string): number[] {
    const embedder = this.embedder.process();
    if (tenant === EMBEDDER) return embedder ? [embedder.pid] : [];
    if (isReservation(tenant)) return this.reservations.pids(tenant);
    const models = { sample: this.sampler.latest(), watch: this.watch };
    if (!isService(tenant)) return pidsOf(models, tenant);
    const own = this.services.view(tenantName(tenant)).sight.pids;
    if (tenantName(tenant) !== serverOfOllama(this.policy)?.name) return own;
    return [...new Set([...own, ...this.watch.resident().flatMap(({ id }) => pidsOf(models, id))])];
  }

  /** The processes of every other tenant that is there, where they are known; what is nested is the same memory. */
  pidsOfOthers(tenant: string): number[] {
    const { tenants } = this.observation();
    const itself = tenants.find(({ id }) => id === tenant) ?? { id: tenant };
    const others = tenants.filter((one) => one.id !== tenant && one.holdings.length > 0 && !isNested(one, itself));
    return others.flatMap(({ id }) => this.pids(id));
  }

  setWorking(tenant: string, what: 'loading' | 'unloading' | null): void {
    if (what === null) this.working.delete(tenant);
    else this.working.set(tenant, what);
  }

  /** An operation changes this tenant: what is seen of it is that operation's doing. */
  isWorkedAt(tenant: string): boolean {
    return this.working.has(tenant) || this.closedBy.has(tenant);
  }

  /** An operation starts or loads something: processes may come that are not known as its yet. */
  isStarting(): boolean {
    return [...this.working.values()].includes('loading');
  }

  setMode(mode: string): void {
    if (mode !== this.mode) this.remember({ mode });
  }

  /** The phase prepared last (P3); null before the first. */
  get phase(): string | null {
    return this.remembered.phase ?? null;
  }

  setPhase(phase: string): void {
    if (phase !== this.phase) this.remember({ phase });
  }

  /** What was pushed out and is not back; by what. */
  get displaced(): Displacements {
    return this.remembered.displaced ?? {};
  }

  setDisplaced(displaced: Displacements): void {
    if (JSON.stringify(displaced) === JSON.stringify(this.displaced)) return;
    this.remember({ displaced });
  }

  setError(tenant: string, reason: string | null): void {
    const { [tenant]: former, ...others } = this.remembered.errors;
    if (reason === null && former === undefined) return;
    const errors = reason === null ? others : { ...others, [tenant]: reason };
    this.remember({ errors });
  }

  /** Why mode, phase, errors and displacements are not on disk, or null; they are written again with the next change. */
  problem(): string | null {
    return this.writeProblem;
  }

  private remember(change: Partial<Remembered>): void {
    this.remembered = { ...this.remembered, ...change };
    try {
      this.file.set(this.remembered);
      this.writeProblem = null;
    } catch (error) {
      // A full disk must neither end the agent nor leave an operation without its end.
      this.writeProblem = `the mode and what goes with it cannot be written: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  closeGate(tenant: string, runId: string): void {
    this.gates.close(tenant);
    this.closedBy.set(tenant, runId);
  }

  /** Why a GPU takes nothing new, or null: its memory did not come back, or an effect on it does not end. */
  quarantine(gpu: string): string | null {
    return this.reclaims.quarantine(gpu) ?? this.fence.quarantine(gpu);
  }

  private onOllama(change: OllamaChange): void {
    if (change.kind === 'gone') this.followLateUnload(change.tenant);
    if (change.kind === 'appeared') {
      const { [change.tenant]: _, ...others } = this.displaced;
      this.setDisplaced(others);
    }
    if (change.kind === 'back') void resumeUnfinished(this);
    this.options.onOllamaChange(change);
  }

  /** Ollama drops a model when its requests have ended, maybe long after the unload that asked for it was cut short. */
  private followLateUnload(tenant: string): void {
    const begun = this.unfinished.of(tenant);
    if (begun?.kind !== 'unload' || this.working.has(tenant) || !this.reclaims.has(tenant)) return;
    this.reclaims.gone(tenant);
    followProof(this, tenant, begun, CUT_SHORT);
  }

  /** A service that was killed and did not die may end long after; one whose stop was given up stays. */
  private followLateStops(): void {
    for (const tenant of this.reclaims.tenants()) {
      if (!isService(tenant) || !this.reclaims.isStuck(tenant) || this.working.has(tenant)) continue;
      const begun = this.unfinished.of(tenant);
      if (['starting', 'ready', 'unhealthy'].includes(this.services.view(tenantName(tenant)).health.state)) {
        this.reclaims.cancel(tenant);
        if (begun?.kind === 'stop') this.unfinished.end(tenant, begun);
      }
      if (!this.services.hasEnded(tenantName(tenant))) continue;
      if (begun?.kind === 'stop') followProof(this, tenant, begun, CUT_SHORT);
      else this.reclaims.gone(tenant);
    }
  }

  /** An operation was terminated, and will not conclude: what it still does ends, what it closed opens. */
  abandon(operation: OperationRef): void {
    this.fence.abandon(operation);
    this.openGates({ of: operation.runId });
  }

  /** Law 8: that a GPU takes nothing new is an event, and so is its end. */
  private noteQuarantine(gpus: string[]): void {
    for (const gpu of gpus) {
      const reason = this.quarantine(gpu);
      const known = this.quarantined.get(gpu) ?? null;
      if (reason !== null && known === null) {
        this.quarantined.set(gpu, reason);
        this.journal.append({ type: 'quarantined', subject: gpu, message: `${gpu} takes nothing new: ${reason}` });
      }
      if (reason === null && known !== null) {
        this.quarantined.delete(gpu);
        this.journal.append({ type: 'quarantine_ended', subject: gpu, message: `${gpu} takes work again` });
      }
    }
  }

  /** Opens what an operation closed; without one, what every other operation than `except` left closed. */
  openGates(which: { of: string } | { except: string }): void {
    for (const [tenant, runId] of this.closedBy) {
      const open = 'of' in which ? runId === which.of : runId !== which.except;
      if (!open) continue;
      this.closedBy.delete(tenant);
      this.gates.open(tenant);
    }
  }

  /** Nothing of the host stops: models, the embedder and the record on disk stay for the successor (law 6). */
  async stop(): Promise<void> {
    this.watch.stop();
    await this.services.close();
    this.uses.flush();
    await this.sampler.stop();
    this.journal.close();
  }

  private observedParts() {
    const { watch, embedder, reclaims, gates, uses, learned, working, errors } = this;
    const measured = this.options.readerKind !== 'declared';
    return {
      watch,
      embedder,
      reclaims,
      gates,
      uses,
      learned,
      working,
      errors,
      measured,
      quarantine: (gpu: string) => this.quarantine(gpu),
      services: this.services.views(),
      serviceDrivers: (['docker', 'native'] as const)
        .filter((id) => this.services.uses(id))
        .map((id) => ({ id, problem: this.services.problem(id) })),
      reservations: this.reservations.observe(this.sampler.latest()),
      sample: this.sampler.latest(),
    };
  }
}
