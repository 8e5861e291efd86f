import type { Edge } from '../contracts/messages.js';
import { EMBEDDER, serviceTenant, tenantName } from '../contracts/names.js';
import type { GpuEdge } from '../domain/gpuEdges.js';
import type { Agent } from './agent.js';
import type { OllamaChange } from './ollamaWatch.js';
import type { ServiceNews } from './services.js';

type News = Omit<Edge, 'observation'>;

const RETRY_MS = 2_000;
/** Memory that moves all the time makes a history no longer than this allows (law 9). */
const MEMORY_NEWS_EVERY_MS = 5_000;

/** What a later word on the same subject takes the place of. */
const TOPICS: Record<Edge['kind'], string> = {
  'vram-changed': 'memory',
  'foreign-process': 'memory',
  'gpu-lost': 'gpu',
  'gpu-back': 'gpu',
  'driver-away': 'driver',
  'driver-back': 'driver',
  'tenant-appeared': 'tenant',
  'tenant-left': 'tenant',
  'tenant-died': 'tenant',
};

/**
 * Turns what the agent sees into journal entries and, for the host's workflow, into edges: few, the newest of a kind
 * and subject only (law 9). While an operation holds a turn they wait: it looks for itself, and the host afterwards.
 */
export class EdgeReporter {
  /** By topic and subject: the newest word on each. */
  private waiting = new Map<string, News>();
  private readonly sentAt = new Map<string, number>();
  private sending = false;
  private stopped = false;
  private retry: NodeJS.Timeout | null = null;

  constructor(
    private readonly agent: Agent,
    private readonly send: (edge: Edge) => Promise<void>,
    private readonly onFailure: (error: unknown) => void,
    /** The tenants that an operation works at: what happens to them is its doing. */
    private readonly isWorkedAt: (tenant: string) => boolean,
  ) {}

  ollama(change: OllamaChange): void {
    const { journal, uses } = this.agent;
    switch (change.kind) {
      case 'used':
        // An operation's own calls move the expiry too; what it counts as a use it says itself.
        if (!this.isWorkedAt(change.tenant)) uses.touch(change.tenant);
        return;
      case 'away':
        journal.append({
          type: 'driver_away',
          subject: 'ollama',
          message: `Ollama is not available: ${change.reason}`,
        });
        this.report({ kind: 'driver-away', subject: 'ollama', details: change.reason });
        return;
      case 'back':
        journal.append({ type: 'driver_back', subject: 'ollama', message: 'Ollama answers again' });
        this.report({ kind: 'driver-back', subject: 'ollama', details: 'it answers again' });
        return;
      case 'appeared': {
        uses.touch(change.tenant);
        if (this.isWorkedAt(change.tenant)) return;
        const details = 'a direct request made Ollama load it';
        journal.append({
          type: 'tenant_appeared',
          subject: change.tenant,
          message: `${tenantName(change.tenant)}: ${details}`,
        });
        this.report({ kind: 'tenant-appeared', subject: change.tenant, details });
        return;
      }
      case 'gone': {
        if (this.isWorkedAt(change.tenant)) return;
        const details = goneWhy(change);
        const type = change.died ? 'tenant_died' : 'tenant_left';
        journal.append({ type, subject: change.tenant, message: `${tenantName(change.tenant)}: ${details}` });
        this.report({ kind: change.died ? 'tenant-died' : 'tenant-left', subject: change.tenant, details });
      }
    }
  }

  gpu(edge: GpuEdge): void {
    const { journal } = this.agent;
    switch (edge.kind) {
      case 'vram-changed': {
        const details = `used VRAM ${edge.fromMb} → ${edge.toMb} MB`;
        const { fromMb, toMb } = edge;
        journal.append({ type: 'vram_changed', subject: edge.uuid, message: details, details: { fromMb, toMb } });
        this.report({ kind: 'vram-changed', subject: edge.uuid, details, fell: toMb < fromMb });
        return;
      }
      case 'foreign-process': {
        const details = `${edge.name} (pid ${edge.pid}) ${edge.came ? 'came' : 'went'}`;
        journal.append({ type: 'foreign_process', subject: edge.uuid, message: details, details: { ...edge } });
        this.report({ kind: 'foreign-process', subject: edge.uuid, details, fell: !edge.came });
        return;
      }
      case 'gpu-lost':
      case 'gpu-back': {
        const details = edge.problem ?? 'its readings are back';
        const type = edge.kind === 'gpu-lost' ? 'gpu_lost' : 'gpu_back';
        journal.append({ type, subject: edge.uuid, message: details });
        this.report({ kind: edge.kind, subject: edge.uuid, details });
      }
    }
  }

  service(news: ServiceNews): void {
    const { journal } = this.agent;
    if (news.kind === 'driver-away' || news.kind === 'driver-back') {
      const away = news.kind === 'driver-away';
      const message = away ? `${news.driver} cannot be asked: ${news.reason}` : `${news.driver} answers again`;
      journal.append({ type: away ? 'driver_away' : 'driver_back', subject: news.driver, message });
      // The status is degraded by what the driver says itself. To the host only Ollama's absence matters, for it moves CLIP
      // (M16); that a service's driver is back calls for a look.
      if (!away) this.report({ kind: 'tenant-died', subject: news.driver, details: message });
      return;
    }
    const subject = serviceTenant(news.service);
    if (this.isWorkedAt(subject)) return;
    switch (news.kind) {
      case 'died':
        journal.append({ type: 'service_failed', subject, message: `${news.service} died: ${news.reason}` });
        break;
      case 'unhealthy':
        journal.append({ type: 'service_unhealthy', subject, message: `${news.service} is unhealthy: ${news.reason}` });
        this.report({ kind: 'tenant-died', subject, details: news.reason });
        break;
      case 'healthy':
        journal.append({ type: 'service_started', subject, message: `${news.service} is healthy again` });
        break;
      case 'appeared':
        // A former agent was killed while it started it: that is told when it is ready.
        if (this.agent.unfinished.of(subject)?.kind === 'start') return;
        journal.append({ type: 'tenant_appeared', subject, message: `${news.service} was started by someone else` });
        this.report({ kind: 'tenant-appeared', subject, details: 'it was started by someone else' });
        break;
      case 'released':
        this.report({ kind: 'tenant-died', subject, details: 'it died, and may be started again' });
    }
  }

  /** Its start took longer than the agent waited for it: only now can it be moved to where it belongs. */
  embedderCame(): void {
    const details = 'it is there now';
    this.agent.journal.append({ type: 'tenant_appeared', subject: EMBEDDER, message: `CLIP: ${details}` });
    this.report({ kind: 'tenant-appeared', subject: EMBEDDER, details });
  }

  embedderDied(details: string): void {
    this.agent.journal.append({ type: 'tenant_died', subject: EMBEDDER, message: `CLIP: ${details}` });
    this.report({ kind: 'tenant-died', subject: EMBEDDER, details });
  }

  /** Sends what waited for the operation's end. */
  flush(): void {
    if (this.sending || this.stopped || this.agent.fence.isHeld()) return;
    // What left or died first: the host must know it before it looks at anything else, or it restores what was taken away.
    const due = [...this.waiting].filter(([key, { kind }]) => this.isDue(key, kind));
    const next = due.find(([, { kind }]) => kind.startsWith('tenant')) ?? due[0];
    if (next === undefined) return;
    const [key, news] = next;
    this.waiting.delete(key);
    this.sending = true;
    this.sentAt.set(key, this.agent.now());
    this.send({ ...news, observation: this.agent.observation() }).then(
      () => {
        this.sending = false;
        this.flush();
      },
      (error: unknown) => {
        this.sending = false;
        this.onFailure(error);
        // Newer news of the same kind has the better right.
        const newer = this.waiting.get(key);
        if (newer === undefined) this.waiting = new Map([[key, news], ...this.waiting]);
        else this.waiting.set(key, afterWaiting(news, newer));
        this.sentAt.delete(key);
        if (this.stopped) return;
        if (this.retry !== null) clearTimeout(this.retry);
        this.retry = setTimeout(() => this.flush(), RETRY_MS);
      },
    );
  }

  stop(): void {
    this.stopped = true;
    if (this.retry !== null) clearTimeout(this.retry);
  }

  /** Called again by the agent's own clock, so that what waits is sent when its time has come. */
  private isDue(key: string, kind: Edge['kind']): boolean {
    const sentAt = this.sentAt.get(key);
    return TOPICS[kind] !== 'memory' || sentAt === undefined || this.agent.now() - sentAt >= MEMORY_NEWS_EVERY_MS;
  }

  private report(news: News): void {
    const key = `${TOPICS[news.kind]} ${news.subject}`;
    const next = afterWaiting(this.waiting.get(key), news);
    // Last in the row: the order of what happened stays.
    this.waiting.delete(key);
    this.waiting.set(key, next);
    this.flush();
  }
}

/** What fell before the host heard of it has fallen, though it grew again since. */
const afterWaiting = (earlier: News | undefined, news: News): News =>
  earlier?.fell && news.fell === false ? { ...news, fell: true } : news;

function goneWhy(change: { died: boolean; expired: boolean; stopped?: true }): string {
  if (change.stopped) return 'it ended with its service';
  if (change.died) return 'it died with its server';
  return change.expired
    ? 'its keep-alive ran out: a direct request had shortened it'
    : 'a direct request, or Ollama itself, unloaded it';
}
