import { afterEach, describe, expect, it, vi } from 'vitest';
import { EdgeReporter } from '../../src/agent/edgeReporter.js';
import type { Edge } from '../../src/contracts/messages.js';
import { agentOnFakes, CARD } from './pieces.js';

afterEach(() => {
  vi.useRealTimers();
});

const A = 'model/qwen3-vl:8b';
const call = (run: string, epoch: number) => ({
  operation: { workflowId: run, runId: run },
  epochs: { [CARD]: epoch },
});

async function reporting() {
  const sent: string[] = [];
  const edges: Edge[] = [];
  const worked = new Set<string>();
  const failures: unknown[] = [];
  let send: (edge: Edge) => Promise<void> = () => Promise.resolve();
  let reporter: EdgeReporter | null = null;
  const { agent } = await agentOnFakes({ onIdle: () => reporter?.flush() });
  const report = new EdgeReporter(
    agent,
    (edge) => {
      sent.push(`${edge.kind} ${edge.subject}`);
      edges.push(edge);
      expect(edge.observation.host).toBe('desk');
      return send(edge);
    },
    (error) => failures.push(error),
    (tenant) => worked.has(tenant),
  );
  reporter = report;
  /** The types of the journal's entries, each with its subject. */
  const journal = () => agent.journal.read().map(({ type, subject }) => `${type} ${subject}`);
  return { agent, report, sent, edges, worked, failures, journal, onSend: (how: typeof send) => (send = how) };
}

const settled = () => new Promise(setImmediate);

describe('what the agent reports', () => {
  it('is in the journal, and goes to the host', async () => {
    const { report, sent, journal } = await reporting();
    report.ollama({ kind: 'away', reason: 'nobody answers' });
    await settled();
    report.ollama({ kind: 'back' });
    await settled();
    report.ollama({ kind: 'gone', tenant: A, died: true, expired: false });
    await settled();
    report.ollama({ kind: 'gone', tenant: A, died: false, expired: true });
    await settled();
    report.gpu({ kind: 'vram-changed', uuid: CARD, fromMb: 800, toMb: 1_000 });
    await settled();
    report.gpu({ kind: 'gpu-lost', uuid: CARD, problem: 'fell off the bus' });
    await settled();
    report.gpu({ kind: 'foreign-process', uuid: 'GPU-other', pid: 7, name: 'game', came: true, usedMb: 60 });
    await settled();
    report.embedderDied('its process had ended');
    await settled();
    expect(journal()).toEqual([
      'driver_away ollama',
      'driver_back ollama',
      `tenant_died ${A}`,
      `tenant_left ${A}`,
      `vram_changed ${CARD}`,
      `gpu_lost ${CARD}`,
      'foreign_process GPU-other',
      'tenant_died embedder/clip',
    ]);
    expect(sent).toEqual([
      'driver-away ollama',
      'driver-back ollama',
      `tenant-died ${A}`,
      `tenant-left ${A}`,
      `vram-changed ${CARD}`,
      `gpu-lost ${CARD}`,
      'foreign-process GPU-other',
      'tenant-died embedder/clip',
    ]);
  });

  it('says of a model that it ended with its service: that is no death, so nobody restores it', async () => {
    const { agent, report, sent } = await reporting();
    report.ollama({ kind: 'gone', tenant: A, died: false, expired: false, stopped: true });
    await settled();
    expect(sent).toEqual([`tenant-left ${A}`]);
    expect(agent.journal.read().at(-1)?.message).toBe('qwen3-vl:8b: it ended with its service');
  });

  it('is nothing about what an operation does itself', async () => {
    const { agent, report, sent, worked, journal } = await reporting();
    worked.add(A);
    report.ollama({ kind: 'appeared', tenant: A });
    report.ollama({ kind: 'gone', tenant: A, died: false, expired: false });
    report.ollama({ kind: 'used', tenant: A });
    await settled();
    expect([sent, journal()]).toEqual([[], []]);
    expect(agent.watch.resident()).toEqual([]);
  });

  it('counts a use by others, and an appearance, as a use', async () => {
    const { agent, report, sent, journal } = await reporting();
    report.ollama({ kind: 'used', tenant: 'model/b' });
    expect(agent.uses.lastUse('model/b')).not.toBeNull();
    report.ollama({ kind: 'appeared', tenant: A });
    await settled();
    expect(agent.uses.lastUse(A)).not.toBeNull();
    expect([sent, journal()]).toEqual([[`tenant-appeared ${A}`], [`tenant_appeared ${A}`]]);
  });

  it('waits while an operation holds a turn; of one kind only the newest goes, what left goes first', async () => {
    const { agent, report, sent } = await reporting();
    await agent.fence.enter(call('a', 1));
    report.gpu({ kind: 'vram-changed', uuid: CARD, fromMb: 800, toMb: 1_000 });
    report.gpu({ kind: 'vram-changed', uuid: CARD, fromMb: 1_000, toMb: 1_200 });
    report.ollama({ kind: 'gone', tenant: A, died: false, expired: false });
    await settled();
    expect(sent).toEqual([]);
    agent.fence.leave(call('a', 1).operation);
    await settled();
    expect(sent).toEqual([`tenant-left ${A}`, `vram-changed ${CARD}`]);
  });

  it('says of memory whether it fell, also when it grew again before that was sent', async () => {
    const { agent, report, edges, onSend } = await reporting();
    const memory = (fromMb: number, toMb: number, uuid = CARD) =>
      report.gpu({ kind: 'vram-changed', uuid, fromMb, toMb });
    memory(800, 1_000);
    await settled();
    report.gpu({ kind: 'foreign-process', uuid: 'GPU-a', pid: 7, name: 'game', came: true, usedMb: 60 });
    await settled();
    report.gpu({ kind: 'foreign-process', uuid: 'GPU-b', pid: 7, name: 'game', came: false, usedMb: 60 });
    await settled();
    expect(edges.map(({ fell }) => fell)).toEqual([false, false, true]);
    await agent.fence.enter(call('a', 1));
    memory(9_000, 1_000, 'GPU-c');
    memory(1_000, 1_200, 'GPU-c');
    agent.fence.leave(call('a', 1).operation);
    await settled();
    expect(edges.at(-1)).toMatchObject({ subject: 'GPU-c', details: 'used VRAM 1000 → 1200 MB', fell: true });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onSend(() => {
      memory(1_000, 1_200, 'GPU-d');
      onSend(() => Promise.resolve());
      return Promise.reject(new Error('Temporal is away'));
    });
    memory(9_000, 1_000, 'GPU-d');
    await vi.advanceTimersByTimeAsync(2_000);
    expect(edges.at(-1)).toMatchObject({ subject: 'GPU-d', details: 'used VRAM 1000 → 1200 MB', fell: true });
  });

  it('goes one at a time, and again after a failure', async () => {
    const { report, sent, failures, onSend } = await reporting();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onSend(() => Promise.reject(new Error('Temporal is away')));
    report.ollama({ kind: 'back' });
    report.gpu({ kind: 'gpu-lost', uuid: CARD, problem: null });
    await vi.advanceTimersByTimeAsync(0);
    expect(sent).toEqual(['driver-back ollama']);
    expect(failures).toHaveLength(1);
    onSend(() => Promise.resolve());
    await vi.advanceTimersByTimeAsync(2_000);
    expect(sent.slice(1).sort()).toEqual(['driver-back ollama', `gpu-lost ${CARD}`]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is nothing after the stop, and no timer is left', async () => {
    const { report, sent, onSend } = await reporting();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    let fail: (error: Error) => void = () => {};
    onSend(() => new Promise((_, reject) => (fail = reject)));
    report.ollama({ kind: 'back' });
    report.stop();
    fail(new Error('too late'));
    await vi.advanceTimersByTimeAsync(10_000);
    report.ollama({ kind: 'away', reason: 'x' });
    await vi.advanceTimersByTimeAsync(10_000);
    expect(sent).toEqual(['driver-back ollama']);
    expect(vi.getTimerCount()).toBe(0);
  });
});
