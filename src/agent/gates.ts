import { timeLimit } from '../adapters/timeLimit.js';
import { Waiters } from './waiters.js';

/**
 * A gate per tenant (law 10): `use` counts a request and checks in one step that the tenant may be used; an unload
 * first closes the gate, so that no request begins on a tenant that is about to go (pain 1).
 */
export interface Use {
  /** Aborted when the grace before an unload has passed. */
  signal: AbortSignal;
  end(): void;
}

interface Gate {
  closed: boolean;
  uses: Set<AbortController>;
  waiters: (() => void)[];
}

export class Gates {
  /** Woken when the last request to a tenant has ended: what had to wait for that may look again. */
  readonly unused = new Waiters();
  private readonly gates = new Map<string, Gate>();
  private readonly expected = new Map<string, number>();

  /** Counts a request; null while the gate is closed. */
  use(tenant: string): Use | null {
    const gate = this.gate(tenant);
    if (gate.closed) return null;
    const abort = new AbortController();
    gate.uses.add(abort);
    return {
      signal: abort.signal,
      end: () => {
        gate.uses.delete(abort);
        this.wake(gate);
        if (gate.uses.size === 0) this.unused.wake();
      },
    };
  }

  uses(tenant: string): number {
    return this.gate(tenant).uses.size;
  }

  /**
   * A request waits until the tenant is there for it. From the end of the load to the request's first step nobody who
   * makes room takes the tenant away again, or two that take turns would reload for ever (pain 7).
   * @returns how it ends
   */
  expect(tenant: string): () => void {
    const change = (by: number) => this.expected.set(tenant, (this.expected.get(tenant) ?? 0) + by);
    change(1);
    return () => void change(-1);
  }

  /** Requests in flight, and those that are about to begin; while the gate is closed the latter wait for a new load. */
  claims(tenant: string): number {
    return this.uses(tenant) + (this.isClosed(tenant) ? 0 : (this.expected.get(tenant) ?? 0));
  }

  isClosed(tenant: string): boolean {
    return this.gate(tenant).closed;
  }

  close(tenant: string): void {
    this.gate(tenant).closed = true;
  }

  open(tenant: string): void {
    this.gate(tenant).closed = false;
  }

  /** Waits for the requests in flight; aborts those that outlast the grace. @returns how many were cut off */
  async drain(tenant: string, graceMs: number, signal: AbortSignal): Promise<number> {
    const gate = this.gate(tenant);
    const grace = AbortSignal.any([signal, timeLimit(graceMs)]);
    try {
      while (gate.uses.size > 0) await this.change(gate, grace);
      return 0;
    } catch (error) {
      if (signal.aborted) throw error;
    }
    const cut = [...gate.uses];
    for (const use of cut) use.abort(new Error(`${tenant} is unloaded: the grace for requests in flight has passed`));
    while (gate.uses.size > 0) await this.change(gate, signal);
    return cut.length;
  }

  private gate(tenant: string): Gate {
    let gate = this.gates.get(tenant);
    if (!gate) {
      gate = { closed: false, uses: new Set(), waiters: [] };
      this.gates.set(tenant, gate);
    }
    return gate;
  }

  private wake(gate: Gate): void {
    for (const waiter of gate.waiters.splice(0)) waiter();
  }

  private change(gate: Gate, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const woken = () => {
        signal.removeEventListener('abort', aborted);
        resolve();
      };
      const aborted = () => {
        gate.waiters = gate.waiters.filter((waiter) => waiter !== woken);
        reject(signal.reason);
      };
      signal.addEventListener('abort', aborted, { once: true });
      gate.waiters.push(woken);
    });
  }
}
