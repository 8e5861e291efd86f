import { normalName, type Ollama, type ResidentModel } from '../adapters/ollama/ollama.js';
import { modelTenant } from '../contracts/names.js';
import type { DriverObservation } from '../contracts/residency.js';
import { withRunnerOf } from '../domain/ollamaRunners.js';
import type { OllamaServer } from './ollamaServer.js';

/** What changed between two looks at Ollama. */
export type OllamaChange =
  | { kind: 'away'; reason: string }
  | { kind: 'back' }
  | { kind: 'appeared'; tenant: string }
  /**
   * `died`: the server had been away in between, or its service died; `stopped`: its service was stopped; else something
   * outside vramflow took it away, or it expired.
   */
  | { kind: 'gone'; tenant: string; died: boolean; expired: boolean; stopped?: true }
  /** Its expiry moved: somebody used it, through vramflow or directly. */
  | { kind: 'used'; tenant: string };

export interface ListedModel {
  id: string;
  model: ResidentModel;
  residentForMs: number;
  /** It has answered since it was listed. */
  proven: boolean;
  /** The pid of its runner, once that is known for certain; it may have ended since. */
  runner: number | null;
}

const CHECK_TIMEOUT_MS = 2_000;
/** The expiry stands still between uses; this much is rounding. */
const JITTER_MS = 50;

/** Looks at Ollama once a second: which models are there, which were used, whether it answers (M16). */
export class OllamaWatch {
  private models: ResidentModel[] = [];
  private expiries = new Map<string, number>();
  private since = new Map<string, number>();
  private readonly proven = new Set<string>();
  private runners = new Map<string, number>();
  private version: string | null = null;
  private reason: string | null = 'not asked yet';
  /** It did not answer, or had no reason to, when it was last looked at. */
  private wasAway = false;
  /** That it is away has been told. */
  private told = false;
  /** What it holds has never been known: what the first answer lists may have been there before. */
  private first = true;
  private looking: Promise<void> | null = null;
  private timer: NodeJS.Timeout | null = null;
  private stopped = false;

  constructor(
    private readonly ollama: Ollama,
    private readonly placement: 'chosen' | 'observed',
    private readonly onChange: (change: OllamaChange) => void,
    private readonly now: () => number,
    /** What the service that it runs in does while Ollama need not answer. */
    private readonly server: () => OllamaServer | null = () => null,
  ) {}

  start(periodMs: number): void {
    const again = () => {
      void this.look().finally(() => {
        if (!this.stopped) this.timer = setTimeout(again, periodMs);
      });
    };
    again();
  }

  stop(): void {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  driver(): DriverObservation {
    const { reason, placement, version } = this;
    const server = this.server();
    const driver = { id: 'ollama' as const, placement, version };
    if (server === null || (reason === null && !this.isOff())) return { ...driver, available: reason === null, reason };
    const { service, state } = server;
    const said = `its service ${service} ${state === 'failed' ? 'has failed' : `is ${state}`}`;
    return { ...driver, available: false, reason: said, ...(state === 'failed' ? {} : { resting: true }) };
  }

  /** The service that it runs in does not run: no model is there. */
  isOff(): boolean {
    return ['stopped', 'failed'].includes(this.server()?.state ?? '');
  }

  resident(): ListedModel[] {
    if (this.isOff()) return [];
    return this.models.map((model) => {
      const id = modelTenant(model.name);
      const residentForMs = this.now() - (this.since.get(id) ?? this.now());
      return { id, model, residentForMs, proven: this.proven.has(id), runner: this.runners.get(id) ?? null };
    });
  }

  /**
   * The model has answered: from now on it has arrived for certain.
   * @param runners the pids of the runners that the driver lists
   */
  markProven(tenant: string, runners: number[]): void {
    this.proven.add(tenant);
    const onGpus = this.resident().filter(({ model }) => model.vramMb > 0);
    const listed = onGpus.map(({ id }) => id);
    if (listed.includes(tenant)) this.runners = withRunnerOf(tenant, this.runners, listed, runners);
  }

  /** Whether it works is open again: somebody may have asked Ollama to drop it. */
  unprove(tenant: string): void {
    this.proven.delete(tenant);
  }

  /** Looks now. Callers at the same time share a look that began after the first of them asked. */
  async look(): Promise<void> {
    if (this.looking !== null) await this.looking;
    this.looking ??= this.lookOnce().finally(() => {
      this.looking = null;
    });
    await this.looking;
  }

  private async lookOnce(): Promise<void> {
    if (this.isOff()) return this.ended();
    let models: ResidentModel[];
    try {
      const signal = AbortSignal.timeout(CHECK_TIMEOUT_MS);
      models = await this.ollama.resident(signal);
      if (this.version === null || this.reason !== null) this.version = await this.ollama.version(signal);
    } catch (error) {
      if (!this.stopped) this.away(error instanceof Error ? error.message : String(error));
      return;
    }
    // What a listener throws is no word of Ollama; and after the stop nobody listens.
    if (!this.stopped) this.take(models.map((model) => ({ ...model, name: normalName(model.name) })));
  }

  private take(models: ResidentModel[]): void {
    const { wasAway, first } = this;
    const before = new Set(this.models.map((model) => modelTenant(model.name)));
    const now = new Set(models.map((model) => modelTenant(model.name)));
    const expiries = new Map(models.map((model) => [modelTenant(model.name), model.expiresAt]));
    const formerExpiries = this.expiries;
    this.models = models;
    this.expiries = expiries;
    this.reason = null;
    this.wasAway = false;
    this.told = false;
    this.first = false;
    for (const tenant of now) if (!before.has(tenant)) this.since.set(tenant, this.now());
    // A server that was away may list the same model and be loading it anew.
    if (wasAway) this.forgetProofs();
    if (wasAway) this.onChange({ kind: 'back' });
    for (const tenant of before) {
      if (now.has(tenant)) continue;
      this.proven.delete(tenant);
      this.runners.delete(tenant);
      const expired = (formerExpiries.get(tenant) ?? Number.POSITIVE_INFINITY) <= this.now();
      this.onChange({ kind: 'gone', tenant, died: wasAway, expired });
    }
    for (const [tenant, expiry] of expiries) {
      const former = formerExpiries.get(tenant);
      if (!before.has(tenant) && !first) this.onChange({ kind: 'appeared', tenant });
      else if (former !== undefined && Math.abs(expiry - former) > JITTER_MS) this.onChange({ kind: 'used', tenant });
    }
  }

  /** The models end with the service that they are inside. */
  private ended(): void {
    const died = this.server()?.state === 'failed';
    const { models } = this;
    this.models = [];
    this.expiries = new Map();
    this.forgetProofs();
    this.reason = 'its service does not run';
    this.wasAway = true;
    this.told = false;
    this.first = false;
    for (const { name } of models) {
      const how = died ? { died } : { died, stopped: true as const };
      this.onChange({ kind: 'gone', tenant: modelTenant(name), expired: false, ...how });
    }
  }

  private forgetProofs(): void {
    this.proven.clear();
    this.runners.clear();
  }

  /** What was resident is kept, to know what died once the server answers again. */
  private away(reason: string): void {
    // While its service comes or goes, that it does not answer is no news.
    const isNews = !this.told && this.server() === null;
    this.reason = reason;
    this.wasAway = true;
    this.told ||= isNews;
    if (isNews) this.onChange({ kind: 'away', reason });
  }
}
