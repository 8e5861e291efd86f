import type { Edge } from '../contracts/messages.js';
import { EMBEDDER, tenantName } from '../contracts/names.js';
import type { GpuEdge } from '../domain/gpuEdges.js';
import type { Agent } from './agent.js';
import type { OllamaChange } from './ollamaWatch.js';

type News = Omit<Edge, 'observation'>;

const RETRY_MS = 2_000;

/**
 * Turns what the agent sees into journal entries and, for the host's workflow, into edges: few, the newest of a kind
 * and subject only (law 9). While an operation holds a turn they wait: it looks for itself, and the host afterwards.
 */
export class EdgeReporter {
  private readonly waiting = new Map<string, News>();
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
        this.report({ kind: 'vram-changed', subject: edge.uuid, details });
        return;
      }
      case 'foreign-process': {
        const details = `${edge.name} (pid ${edge.pid}) ${edge.came ? 'came' : 'went'}`;
        journal.append({ type: 'foreign_process', subject: edge.uuid, message: details, details: { ...edge } });
        this.report({ kind: 'foreign-process', subject: edge.uuid, details });
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

  embedderDied(details: string): void {
    this.agent.journal.append({ type: 'tenant_died', subject: EMBEDDER, message: `CLIP: ${details}` });
    this.report({ kind: 'tenant-died', subject: EMBEDDER, details });
  }

  /** Sends what waited for the operation's end. */
  flush(): void {
    if (this.sending || this.stopped || this.agent.fence.isHeld()) return;
    // What left or died first: the host must know it before it looks at anything else, or it restores what was taken away.
    const next = [...this.waiting].find(([, { kind }]) => kind.startsWith('tenant')) ?? [...this.waiting][0];
    if (next === undefined) return;
    const [key, news] = next;
    this.waiting.delete(key);
    this.sending = true;
    this.send({ ...news, observation: this.agent.observation() }).then(
      () => {
        this.sending = false;
        this.flush();
      },
      (error: unknown) => {
        this.sending = false;
        this.onFailure(error);
        // Newer news of the same kind has the better right.
        if (!this.waiting.has(key)) this.waiting.set(key, news);
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

  private report(news: News): void {
    this.waiting.set(`${news.kind} ${news.subject}`, news);
    this.flush();
  }
}

function goneWhy(change: { died: boolean; expired: boolean }): string {
  if (change.died) return 'it died with its server';
  return change.expired
    ? 'its keep-alive ran out: a direct request had shortened it'
    : 'a direct request, or Ollama itself, unloaded it';
}
