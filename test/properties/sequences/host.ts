/** One simulated host under random sequences: carries the actions out, watches the status, ends what disturbs. */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import { vi } from 'vitest';
import { signalHost } from '../../../src/activities/control.js';
import { SIGNAL } from '../../../src/contracts/messages.js';
import { CONTROL_QUEUE, modelTenant, SEARCH_ATTRIBUTES, workflowId } from '../../../src/contracts/names.js';
import type { OperationOutcome } from '../../../src/contracts/operation.js';
import { type AskedGoal, startOf } from '../../../src/contracts/start.js';
import type { Status } from '../../../src/contracts/status.js';
import type { GpuProcess } from '../../../src/simulator/gpuHost.js';
import { beginTrace, type DirectCall, emptyTrace, type Generated, type Told, type Trace } from '../../judge/trace.js';
import { isQuiet } from '../../system/operations.js';
import type { System } from '../../system/system.js';
import type { Action, Sequence } from './actions.js';
import { Callers } from './callers.js';

const AT_ONCE = 4;
const LOOK_MS = 150;
/** A GPU in quarantine is free again by then. */
const RESET_MS = 60_000;
/** A signal's operation has begun by then, also on a busy machine and after other switches. */
const HEARD_MS = 30_000;
/** An embedding of CLIP ViT-B/32. */
const DIMENSION = 512;

export class RandomHost {
  /** Strangers of this sequence. */
  private strangers: { process: GpuProcess; gpu: string }[] = [];
  private running = new Set<Promise<void>>();
  private handles: WorkflowHandle[] = [];
  private readonly callers = new Callers((what) => this.trace.seen.push(what));
  private trace: Trace = emptyTrace();
  private reference: number[] | null = null;

  constructor(
    readonly system: System,
    /** By the numbers that sequences use; the first is the VLM. */
    readonly models: string[],
  ) {}

  /**
   * From a known beginning, so that a seed says all: nothing loaded, CLIP on the CPU, mode idle, nothing by hand.
   * @throws when that cannot be had
   */
  async reset(): Promise<void> {
    this.handles = [];
    await this.must({ kind: 'phase', phase: 'none' });
    const { intents } = await this.system.hostState();
    if (intents.mode !== 'idle' || intents.embedderByHand !== null) await this.must({ kind: 'mode', mode: 'idle' });
    await isQuiet(this.system);
  }

  /** Again and again: what the former sequence left may take its time. */
  private must(goal: AskedGoal): Promise<void> {
    const once = async (): Promise<void> => {
      const { outcome, error } = await this.operate(goal);
      if (outcome?.status !== 'done') throw new Error(`the host cannot be emptied: ${outcome?.summary ?? error}`);
    };
    return vi.waitFor(once, { timeout: RESET_MS, interval: 1_000 });
  }

  async play(sequence: Sequence): Promise<Trace> {
    this.trace = await beginTrace(this.system);
    this.callers.expectNoHang();
    const watching = new AbortController();
    const watch = this.watch(watching.signal);
    try {
      for (const moment of sequence.moments) {
        for (const action of moment.actions) {
          while (this.running.size >= AT_ONCE) await Promise.race(this.running);
          await this.begin(action);
        }
        if (moment.next === 'wait-for-all') await Promise.all(this.running);
        if (moment.next === 'wait-for-one' && this.running.size > 0) await Promise.race(this.running);
      }
      this.quieten(sequence.calm);
      await Promise.all(this.running);
      await this.embed();
    } finally {
      watching.abort();
      await watch;
    }
    return this.trace;
  }

  /** Ends every disturbance: faults, strangers, an Ollama that is down, runners that outlived it, callers that may hang. */
  private quieten(isCalm: boolean): void {
    const { faults, ollama, gpuHost } = this.system.simulator;
    if (faults.list().length > 0) this.disturbed();
    faults.clear();
    for (const { process } of this.strangers) void gpuHost.end(process);
    this.strangers = [];
    if (!isCalm) this.callers.leave();
    if (!ollama.running) void ollama.start();
    this.endOrphans();
  }

  private endOrphans(): void {
    const { gpuHost, ollama } = this.system.simulator;
    const served = new Set(ollama.runners.map((runner) => runner.process.holder));
    for (const process of gpuHost.processes) {
      if (process.kind === 'runner' && !process.ended && !served.has(process.holder)) void gpuHost.end(process);
    }
  }

  /** Starts an action; callers go on in the background. */
  private async begin(action: Action): Promise<void> {
    const { simulator } = this.system;
    switch (action.do) {
      case 'mode':
        if (action.via === 'signal') this.track(this.awaitSignalled(action, await this.signalMode(action.mode)));
        else this.call(action, { kind: 'mode', mode: action.mode }, action.priority);
        return;
      case 'load':
      case 'unload':
        this.call(
          action,
          { kind: 'model', tenant: this.tenant(action.model), verb: action.do, demand: false },
          action.priority,
        );
        return;
      case 'clip':
        this.call(action, { kind: 'embedder', device: action.device });
        return;
      case 'generate':
        this.track(this.generate(action));
        return;
      case 'embed':
        this.track(this.embed());
        return;
      case 'cancel':
        await this.handles.at(-1)?.cancel();
        return;
      case 'direct':
        this.track(this.direct(action));
        return;
      case 'foreign':
        this.stranger(action);
        return;
      case 'fault':
        this.disturbed();
        if (action.name === 'generate-hang') this.callers.expectHang();
        simulator.faults.set(action.name, action.params);
        return;
      case 'clear-faults':
        simulator.faults.clear();
        return;
      case 'ollama':
        this.disturbed();
        await this.ollama(action.what);
    }
  }

  private async ollama(what: (Action & { do: 'ollama' })['what']): Promise<void> {
    const { ollama } = this.system.simulator;
    const victim = ollama.runners[0]?.model.name;
    if (what === 'start') await ollama.start();
    else if (what === 'crash-runner') {
      if (victim !== undefined) ollama.crashRunner(victim);
    } else if (ollama.running) await ollama.stop(what === 'stop-with-orphans');
  }

  /** A stranger takes, at the most, what is free beyond what loads under way still need: its own memory is its own. */
  private stranger({ what, share }: Action & { do: 'foreign' }): void {
    const { gpuHost, ollama } = this.system.simulator;
    const card = gpuHost.cards[0];
    if (card === undefined) return;
    const gpu = card.spec.uuid;
    const owedMb = ollama.runners
      .filter((runner) => runner.loading)
      .reduce((sum, runner) => sum + runner.placement.sizeMb - gpuHost.heldMb(runner.process.holder, gpu), 0);
    const mayTakeMb = Math.floor((gpuHost.freeMb(card) - owedMb - 700) * share);
    const known = this.strangers[0];
    if (what === 'go' && known) {
      this.strangers.shift();
      void gpuHost.end(known.process);
    } else if (mayTakeMb > 0 && what !== 'go') {
      const one = what === 'grow' && known ? known : { process: gpuHost.startProcess('compute', '/usr/bin/game'), gpu };
      if (one !== known) this.strangers.push(one);
      gpuHost.resize(one.process, gpu, gpuHost.heldMb(one.process.holder, gpu) + mayTakeMb);
    }
  }

  private call(action: Action, goal: AskedGoal, priority?: number): void {
    this.track(
      this.operate(goal, priority).then((told) => {
        this.trace.told.push({ ...told, action: JSON.stringify(action) });
      }),
    );
  }

  private async operate(goal: AskedGoal, priority = 50): Promise<Omit<Told, 'action'>> {
    const { client, host } = this.system;
    const request = randomUUID().slice(0, 8);
    const { workflow, workflowId: id } = startOf(host, goal, request);
    const handle = await client.workflow.start(workflow, {
      workflowId: id,
      taskQueue: CONTROL_QUEUE,
      args: [{ host, goal, requestedBy: 'a random sequence', priority }],
      searchAttributes: { [SEARCH_ATTRIBUTES.host]: [host] },
    });
    this.handles.push(handle);
    return this.toldBy(handle);
  }

  private async toldBy(handle: WorkflowHandle): Promise<Omit<Told, 'action'>> {
    const { workflowId: id } = handle;
    try {
      return { workflowId: id, outcome: (await handle.result()) as OperationOutcome, error: null };
    } catch (error) {
      return { workflowId: id, outcome: null, error: error instanceof Error ? messageOf(error) : String(error) };
    }
  }

  private async signalMode(mode: string): Promise<WorkflowHandle> {
    const { client, host } = this.system;
    const request = randomUUID().slice(0, 8);
    await signalHost(client, host, SIGNAL.switchMode, [{ mode, request }]);
    return client.workflow.getHandle(workflowId.modeTransition(host, request));
  }

  /** Nobody waits for a signal, but the sequence: it is not at rest before the host has heard it. */
  private async awaitSignalled(action: Action, handle: WorkflowHandle): Promise<void> {
    await vi.waitFor(() => handle.describe(), { timeout: HEARD_MS, interval: LOOK_MS });
    this.trace.told.push({ ...(await this.toldBy(handle)), action: JSON.stringify(action) });
  }

  private async generate(action: Action & { do: 'generate' }): Promise<void> {
    const caller = this.callers.come();
    const { leaving } = caller;
    const asked: Generated = {
      model: this.models[action.model] ?? '',
      fromMs: Date.now(),
      toMs: 0,
      left: false,
      error: null,
      hasText: false,
    };
    try {
      const body = { model: asked.model, prompt: 'what is on the screen?' };
      for await (const line of this.system.agentApi.lines('/v1/generate', { body, signal: leaving.signal })) {
        const part = JSON.parse(line) as { error?: Generated['error']; text?: string };
        asked.error = part.error ?? asked.error;
        asked.hasText ||= Boolean(part.text);
        if (action.leaves && part.text) leaving.abort();
      }
    } catch (error) {
      asked.error = { code: 'no-answer', message: String(error) };
    } finally {
      this.callers.go(caller);
    }
    asked.left = leaving.signal.aborted;
    asked.toMs = Date.now();
    this.trace.generated.push(asked);
  }

  /** M8: whatever moves, an embedding is valid, and equal to the first one within tolerance. */
  private async embed(): Promise<void> {
    const failing = this.system.simulator.faults.list().some(({ name }) => name.startsWith('embedder'));
    const { embeddings } = await this.system.agentApi.post<{ embeddings: number[][] }>('/v1/embed', {
      texts: ['a button that says OK'],
    });
    if (failing) return;
    const vector = embeddings[0] ?? [];
    const norm = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
    this.reference ??= vector;
    const off = Math.max(...vector.map((x, i) => Math.abs(x - (this.reference?.[i] ?? Number.NaN))));
    if (vector.length !== DIMENSION || !(Math.abs(norm - 1) < 1e-3) || !(off < 0.01)) {
      this.trace.seen.push(`M8: an embedding of ${vector.length} numbers, norm ${norm}, off by ${off}`);
    }
  }

  private async direct({ what, model }: Action & { do: 'direct' }): Promise<void> {
    const call: DirectCall = { model: this.models[model] ?? '', fromMs: Date.now(), toMs: Number.POSITIVE_INFINITY };
    this.trace.direct.push(call);
    this.disturbed();
    const caller = this.callers.come();
    const body = what === 'unload' ? { keep_alive: 0 } : { prompt: 'hello' };
    try {
      const answer = await fetch(`${this.system.simulator.info.ollama}/api/generate`, {
        method: 'POST',
        body: JSON.stringify({ model: call.model, stream: false, ...body }),
        signal: caller.leaving.signal,
      });
      await answer.text();
    } catch {
      // Ollama may be away, or the sequence over: what a stranger is told is not judged.
    } finally {
      this.callers.go(caller);
    }
    call.toMs = Date.now();
    this.disturbed();
  }

  /** Watches the status while the sequence runs: M10, M12 and M14 hold at every look. */
  private async watch(signal: AbortSignal): Promise<void> {
    let lastUse = 0;
    const complain = (what: string): number => this.trace.seen.push(what);
    while (!signal.aborted) {
      const status = await this.system.status();
      for (const missing of incomplete(status))
        complain(`M14: the status has no ${missing}: ${JSON.stringify(status)}`);
      if (!['cpu', 'cuda'].includes(status.clip_device)) complain(`M10: CLIP's device is ${status.clip_device}`);
      const use = status.last_vlm_request === null ? 0 : Date.parse(status.last_vlm_request);
      if (use < lastUse) complain(`M12: the last request went back from ${lastUse} to ${use}`);
      lastUse = Math.max(lastUse, use);
      await pause(LOOK_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  tenant(model: number): string {
    return modelTenant(this.models[model] ?? '');
  }

  private disturbed(): void {
    this.trace.disturbedMs.push(Date.now());
  }

  private track(work: Promise<void>): void {
    const tracked: Promise<void> = work
      .catch((error: unknown) => {
        // To refuse what is no embedding is an answer (M8).
        if (/embedder's answer .* is not understood/s.test(String(error))) return;
        this.trace.seen.push(`a caller got no answer: ${String(error)}`);
      })
      .finally(() => this.running.delete(tracked));
    this.running.add(tracked);
  }
}

/** M14: all fields, always; VRAM null only while degraded. */
function incomplete(status: Status): string[] {
  const { vram } = status;
  const fields = {
    execution_mode: typeof status.execution_mode === 'string' && status.execution_mode !== '',
    vlm_state: ['unloaded', 'loading', 'loaded', 'unloading', 'error'].includes(status.vlm_state),
    vlm_model: status.vlm_model !== '',
    clip_device: typeof status.clip_device === 'string',
    vram:
      vram === null
        ? status.degraded_mode
        : [vram.total_mb, vram.used_mb, vram.free_mb].every(Number.isFinite) && vram.gpu_name !== '',
    idle_timeout_seconds: typeof status.idle_timeout_seconds === 'number',
    last_vlm_request: status.last_vlm_request === null || !Number.isNaN(Date.parse(status.last_vlm_request)),
    degraded_mode: typeof status.degraded_mode === 'boolean',
    degraded_reason: (status.degraded_reason !== null) === status.degraded_mode,
  };
  return Object.entries(fields).flatMap(([name, there]) => (there ? [] : [name]));
}

function messageOf(error: Error): string {
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}
