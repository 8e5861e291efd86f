import type { EmbedDevice, EmbedderLauncher, EmbedderProcess } from '../adapters/clip/embedder.js';
import { timeLimit } from '../adapters/timeLimit.js';
import { embeddingsOfProbe, ProbeFailed, probe } from './embedderProbe.js';

const END_GRACE_MS = 2_000;
const END_MS = 10_000;
const REMEMBERED_PIDS = 8;
/** A start may have to fetch its model first: 600 MB. */
const START_MS = 30 * 60_000;
/** One that computes a large batch answers late; what it is asked must not be cut off (law 10). */
const BUSY_MS = 30_000;
/** Of a move's time; the rest is to end the old process and to prove its memory free. */
const COMPARISON_SHARE = 0.5;
/** The agent calls every 5 s: five minutes between two tries at the most. */
const MOST_PASSING = 60;

const VALID = 'embeddings are valid';
const AGREE = ' and agree with the old device';
const NOT_COMPARED = '; the old device did not answer, so they were not compared';

/** `missing`: the optional part is not installed. */
export type EmbedderPart = 'ready' | 'starting' | 'missing' | 'stopped' | `failed: ${string}`;

/**
 * The embedder of the host: one process in charge, at the most one more during a move. A move starts the other one,
 * warms and probes it, switches the callers and then ends the old one, so that embeddings never stop (M8).
 */
export class EmbedderSwitch {
  private current: EmbedderProcess | null = null;
  private inFlight = new Map<EmbedderProcess, number>();
  private drained: (() => void)[] = [];
  private state: EmbedderPart = 'stopped';
  private proven: string | null = null;
  /** The last few processes in charge: the driver lists one a while after it has ended. */
  private readonly pids: number[] = [];
  private readonly closing = new AbortController();
  private changing: Promise<unknown> = Promise.resolve();
  private failures = 0;
  private passing = 0;
  private reviving = false;
  /** The newest line of the log of one that starts. */
  private said: string | null = null;

  constructor(
    private readonly launcher: EmbedderLauncher | null,
    private readonly missing: string | null,
  ) {
    if (launcher === null) this.state = 'missing';
  }

  part(): EmbedderPart {
    return this.state;
  }

  /** Why there is no embedder. */
  reason(): string | null {
    if (this.state === 'starting' && this.said !== null) return `starting: ${this.said}`;
    return this.state === 'ready' ? null : (this.missing ?? this.state);
  }

  process(): { device: EmbedDevice; pid: number; gpu: string | null; provider: string; startedMsAgo: number } | null {
    const { current } = this;
    if (current === null) return null;
    const { device, gpu, pid, provider, startedMsAgo } = current;
    return { device, gpu, pid, provider, startedMsAgo };
  }

  /** What a probe showed of the process in charge (M8); null when none was made. */
  proof(): string | null {
    return this.proven;
  }

  /** Adopts what runs already (law 6), ends a second one that a died move left, else starts on the CPU (M10). */
  async start(signal: AbortSignal): Promise<'adopted' | 'started' | 'missing'> {
    const { launcher } = this;
    if (launcher === null) return 'missing';
    this.state = 'starting';
    return this.alone(async () => {
      try {
        const running = await launcher.running();
        const adopted = (await oldestThatAnswers(running)) ?? (await oldestThatAnswers(running, BUSY_MS));
        // Before another one, which may hang, is ended: callers wait.
        if (adopted !== null) await this.takeCharge(adopted);
        for (const process of running) {
          if (process !== adopted) await launcher.end(process, { signal, graceMs: END_GRACE_MS });
        }
        if (adopted === null) await this.takeCharge(this.startOnCpu(launcher, signal));
        return adopted === null ? 'started' : 'adopted';
      } catch (error) {
        // One that is in charge works, though another one does not end.
        if (this.current === null) this.state = `failed: ${error instanceof Error ? error.message : String(error)}`;
        throw error;
      }
    }, signal);
  }

  /** Ends what the agent has for good: in charge, or coming. @throws EmbedderError when one does not end */
  async end(): Promise<void> {
    const { launcher } = this;
    if (launcher === null) return;
    this.closing.abort(new Error('the embedder is ended'));
    const signal = AbortSignal.timeout(END_MS);
    await this.alone(async () => {
      for (const process of await launcher.running()) await launcher.end(process, { signal, graceMs: END_GRACE_MS });
    }, signal);
  }

  private startOnCpu(launcher: EmbedderLauncher, signal: AbortSignal): Promise<EmbedderProcess> {
    const bounded = AbortSignal.any([signal, this.closing.signal, timeLimit(START_MS)]);
    const onProgress = (line: string): void => {
      this.said = line;
    };
    return launcher.start('cpu', { gpu: null, signal: bounded, onProgress }).finally(() => {
      this.said = null;
    });
  }

  private async takeCharge(coming: EmbedderProcess | Promise<EmbedderProcess>): Promise<void> {
    const process = await coming;
    this.current = process;
    this.proven = null;
    this.remember(process);
    this.state = 'ready';
  }

  /** True for the process in charge, the one that comes, and the ones that went lately. */
  owns(pid: number): boolean {
    return this.pids.includes(pid);
  }

  private remember({ pid }: EmbedderProcess): void {
    this.pids.push(pid);
    if (this.pids.length > REMEMBERED_PIDS) this.pids.shift();
  }

  /**
   * Starts one on the CPU when the process in charge has ended, or never came up. After a failure so many calls pass
   * without a try, doubled each time. @returns whether it did
   */
  async revive(signal: AbortSignal): Promise<boolean> {
    const { launcher, current } = this;
    if (launcher === null || this.state === 'starting' || this.reviving) return false;
    if (this.passing > 0) {
      this.passing -= 1;
      return false;
    }
    this.reviving = true;
    try {
      const isWell = current === null ? !this.state.startsWith('failed') : await current.alive(BUSY_MS);
      return !isWell && !signal.aborted && (await this.startAnew(launcher, current, signal));
    } finally {
      this.reviving = false;
    }
  }

  /** @param dead what was in charge when it was looked at: a move may have replaced it since */
  private startAnew(launcher: EmbedderLauncher, dead: EmbedderProcess | null, signal: AbortSignal): Promise<boolean> {
    return this.alone(async () => {
      if (this.current !== dead) return false;
      this.state = 'starting';
      try {
        if (dead !== null)
          await launcher.end(dead, { signal: AbortSignal.any([signal, timeLimit(END_MS)]), graceMs: 0 });
        await this.takeCharge(this.startOnCpu(launcher, signal));
        this.failures = 0;
        return true;
      } catch (error) {
        this.failures += 1;
        this.passing = Math.min(2 ** this.failures, MOST_PASSING);
        this.state = `failed: ${error instanceof Error ? error.message : String(error)}`;
        return false;
      }
    }, signal);
  }

  /** True when the process in charge answers. */
  async alive(): Promise<boolean> {
    return this.current !== null && (await this.current.alive());
  }

  /**
   * @param gpu the GPU's UUID for `cuda`
   * @param limitMs what the move may take: it does not wait for the old process until nothing is left of that
   * @throws ProbeFailed, EmbedderError; the old process then stays in charge and the new one is gone
   */
  move(
    device: EmbedDevice,
    gpu: string | null,
    signal: AbortSignal,
    limitMs = Number.POSITIVE_INFINITY,
  ): Promise<void> {
    return this.alone(() => this.moveAlone(device, gpu, signal, limitMs), signal);
  }

  private async moveAlone(
    device: EmbedDevice,
    gpu: string | null,
    signal: AbortSignal,
    limitMs: number,
  ): Promise<void> {
    if (this.launcher === null) throw new ProbeFailed(this.missing ?? 'the embedder is not installed');
    const old = this.current;
    const patience = timeLimit(Math.min(BUSY_MS, Math.round(limitMs * COMPARISON_SHARE)));
    // Asked while the new one starts: one that computes has that time to answer, and a dead one says so at once.
    const reference = old && embeddingsOfProbe(old, AbortSignal.any([signal, patience])).catch(() => null);
    const next = await this.launcher.start(device, { gpu, signal });
    this.remember(next);
    let compared: boolean;
    try {
      compared = await probe(next, reference, signal);
    } catch (error) {
      await this.launcher.end(next, { signal: AbortSignal.timeout(END_MS), graceMs: 0 });
      throw error;
    }
    this.current = next;
    this.state = 'ready';
    this.proven = old === null ? VALID : `${VALID}${compared ? AGREE : NOT_COMPARED}`;
    if (old === null) return;
    // Callers have switched: what follows must end whatever aborts, or two processes would stay.
    await this.idle(old, END_GRACE_MS);
    await this.launcher.end(old, { signal: AbortSignal.timeout(END_MS), graceMs: END_GRACE_MS });
  }

  /** Probes the one in charge by itself: dimension, finite, unit norm. @throws ProbeFailed, EmbedderError */
  async verify(signal: AbortSignal): Promise<void> {
    const { current } = this;
    if (current === null) throw new ProbeFailed(this.reason() ?? 'the embedder does not run');
    await probe(current, null, signal);
    if (this.current === current) this.proven ??= VALID;
  }

  embedText(texts: string[], signal: AbortSignal): Promise<number[][]> {
    return this.call((process) => process.embedText(texts, signal));
  }

  embedImages(imagesBase64: string[], signal: AbortSignal): Promise<number[][]> {
    return this.call((process) => process.embedImages(imagesBase64, signal));
  }

  uses(): number {
    return this.current === null ? 0 : (this.inFlight.get(this.current) ?? 0);
  }

  /** One move or revival after the other: two at once would leave a process that nobody is in charge of. */
  private alone<T>(change: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const before = this.changing;
    const mine = untilAborted(before, signal).then(change);
    this.changing = Promise.allSettled([before, mine]);
    return mine;
  }

  private async call(request: (process: EmbedderProcess) => Promise<number[][]>): Promise<number[][]> {
    const process = this.current;
    if (process === null) throw new ProbeFailed(this.reason() ?? 'the embedder does not run');
    this.inFlight.set(process, (this.inFlight.get(process) ?? 0) + 1);
    try {
      return await request(process);
    } finally {
      const left = (this.inFlight.get(process) ?? 1) - 1;
      if (left > 0) this.inFlight.set(process, left);
      else this.inFlight.delete(process);
      for (const wake of this.drained.splice(0)) wake();
    }
  }

  private async idle(process: EmbedderProcess, boundMs: number): Promise<void> {
    const bound = AbortSignal.timeout(boundMs);
    while (this.inFlight.has(process) && !bound.aborted) {
      await new Promise<void>((resolve) => {
        this.drained.push(resolve);
        bound.addEventListener('abort', () => resolve(), { once: true });
      });
    }
  }
}

/** The oldest is the one that callers had: a newer one had not been switched to for certain. */
async function oldestThatAnswers(running: EmbedderProcess[], waitMs?: number): Promise<EmbedderProcess | null> {
  const alive = await Promise.all(running.map((process) => process.alive(waitMs)));
  const healthy = running.filter((_, at) => alive[at]).sort((a, b) => b.startedMsAgo - a.startedMsAgo);
  return healthy[0] ?? null;
}

/** Waits for work that is not ours to end; a caller who has gone waits no more. */
function untilAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = () => reject(signal.reason as Error);
    if (signal.aborted) return aborted();
    signal.addEventListener('abort', aborted, { once: true });
    void work.then(() => {
      signal.removeEventListener('abort', aborted);
      resolve();
    });
  });
}
