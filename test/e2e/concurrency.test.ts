import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SIGNAL } from '../../src/contracts/messages.js';
import { workflowId } from '../../src/contracts/names.js';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import { entriesOf, expectNoViolation, fromNow, loadedModels, type Printed } from '../system/judge.js';
import { isLoading, isQueued, isQuiet, loadOf, operationEntry, startOperation } from '../system/operations.js';
import { type System, startSystem } from '../system/system.js';

const VLM = 'qwen3-vl:8b';
const SMALL = 'nomic-embed-text:latest';
const OTHER = 'llava:7b';

/** M11 on the simulated RTX 4090 at speed 1: one operation after the other, and what ends one from outside. */
describe('concurrent operations on one host', { timeout: 60_000 }, () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({
      config: { models: { [SMALL]: { vram_mb: 650 }, [OTHER]: { vram_mb: 6400 } } },
    });
  });
  afterEach(async () => {
    system.simulator.faults.clear();
    await isQuiet(system);
    expectNoViolation(system);
    for (const { name } of loadedModels(system)) await system.json(['model', 'unload', name]);
  });
  afterAll(() => system.stop());

  it('M11: operations run one after the other, by priority, then in order of arrival', async () => {
    const first = await startOperation(system, loadOf(OTHER));
    await isLoading(system, OTHER);
    const waiting = [];
    for (const [goal, priority] of [
      [loadOf(SMALL), 50],
      [loadOf(SMALL, 'unload'), 50],
      [loadOf(VLM), 90],
    ] as const) {
      const handle = await startOperation(system, goal, priority);
      await isQueued(system, handle.workflowId);
      waiting.push(handle);
    }
    await Promise.all([first, ...waiting].map((handle) => handle.result()));
    const order = (await system.journal('operation')).map((entry) => entry.workflowId);
    const [small, smallAway, urgent] = waiting.map((handle) => handle.workflowId);
    expect(order.slice(-4)).toEqual([first.workflowId, urgent, small, smallAway]);
    // Never two loads at a time.
    const loads = system.simulator.record().filter(({ kind }) => kind === 'load-start' || kind === 'load-end');
    expect(loads.map(({ kind }) => kind)).toEqual(loads.map((_, at) => (at % 2 === 0 ? 'load-start' : 'load-end')));
  });

  it('M11: a newer mode switch supersedes a queued one and cancels a running load: exit code 6, the residency stated', async () => {
    const since = fromNow(system);
    const running = system.json<Printed>(['mode', 'recording'], 6);
    await isLoading(system, VLM);
    const blocked = await startOperation(system, { kind: 'mode', mode: 'idle' });
    const newest = await system.json<Printed>(['mode', 'autopilot']);
    expect(newest.outcome).toMatchObject({ status: 'done', residency: { [`model/${VLM}`]: [] } });
    const { outcome } = await running;
    expect(outcome).toMatchObject({
      status: 'superseded',
      supersededBy: expect.stringMatching(/^mode\//),
      residency: { [`model/${VLM}`]: [], 'embedder/clip': ['cpu'] },
    });
    const queued = (await blocked.result()) as OperationOutcome;
    expect(['superseded', 'done']).toContain(queued.status);
    expect(entriesOf(since(), 'load-end', { model: VLM }).map((end) => end.outcome)).toEqual(['aborted']);
    expect(loadedModels(system)).toEqual([]);
    expect(await system.status()).toMatchObject({ execution_mode: 'autopilot', vlm_state: 'unloaded' });
  });

  it('M11: neither a repeated switch nor one to a mode that is not known undoes the one that is under way', async () => {
    await system.json(['mode', 'autopilot']);
    const since = fromNow(system);
    const running = system.json<Printed>(['mode', 'recording']);
    await isLoading(system, VLM);
    // As a person sends it in the Web UI: without an id, and twice.
    const host = system.client.workflow.getHandle(workflowId.gpuHost(system.host));
    for (const mode of ['recroding', 'recording', 'recording']) await host.signal(SIGNAL.switchMode, { mode });
    expect((await running).outcome).toMatchObject({ status: 'done' });
    const told = async () =>
      (await system.journal('operation')).slice(-2).map(({ message }) => message.split(' ').slice(0, 3).join(' '));
    // Of those that waited only the last one has its turn.
    await expect.poll(told, { timeout: 10_000 }).toEqual(['mode recording: move', 'mode recording: it']);
    expect(entriesOf(since(), 'load-end', { model: VLM }).map((end) => end.outcome)).toEqual(['loaded']);
    expect(await system.status()).toMatchObject({ execution_mode: 'recording', vlm_state: 'loaded' });
  });

  it('M11: a mode that waits behind another operation is superseded while it waits, visibly', async () => {
    const first = await startOperation(system, loadOf(OTHER));
    await isLoading(system, OTHER);
    const older = system.json<Printed>(['mode', 'recording'], 6);
    await isQueued(system);
    const newer = system.json<Printed>(['mode', 'autopilot']);
    const { outcome } = await older;
    expect(outcome).toMatchObject({ status: 'superseded', steps: [] });
    expect(outcome.supersededBy).toBe((await newer).workflow_id);
    expect(((await first.result()) as OperationOutcome).status).toBe('done');
    expect(entriesOf(system.simulator.record(), 'load-start', { model: VLM }).length).toBe(
      entriesOf(system.simulator.record(), 'load-end', { model: VLM }).length,
    );
  });

  it('the switchMode signal is a way in beside a started workflow; the same request twice is one', async () => {
    const host = system.client.workflow.getHandle(workflowId.gpuHost(system.host));
    const request = randomUUID().slice(0, 8);
    const since = fromNow(system);
    for (let times = 0; times < 2; times += 1) await host.signal(SIGNAL.switchMode, { mode: 'recording', request });
    const { outcome } = await system.json<Printed>(['model', 'load', SMALL]);
    expect(outcome.status).toBe('done');
    await system.until('the mode of the signal', (status) => status.execution_mode === 'recording');
    await isQuiet(system);
    expect(await operationEntry(system, workflowId.modeTransition(system.host, request))).toMatchObject({
      details: { requestedBy: 'a switchMode signal' },
    });
    const ends = entriesOf(since(), 'load-end').map(({ model, outcome: end }) => `${model} ${end}`);
    expect(new Set(ends)).toEqual(new Set([`${SMALL} loaded`, `${VLM} loaded`]));
    expect(ends).toHaveLength(2);
  });

  it('20 concurrent callers of one model: all succeed, it is loaded once', async () => {
    const since = fromNow(system);
    const all = await Promise.all(Array.from({ length: 20 }, () => system.json<Printed>(['model', 'load', SMALL])));
    expect(all.map(({ outcome }) => outcome.status)).toEqual(Array(20).fill('done'));
    expect(new Set(all.map(({ workflow_id }) => workflow_id)).size).toBe(20);
    expect(entriesOf(since(), 'load-start')).toHaveLength(1);
    expect(all.filter(({ outcome }) => outcome.steps.some((step) => step.acted))).toHaveLength(1);
  });

  it('20 concurrent requests for one model that is not there: all answered, it is loaded once', async () => {
    const since = fromNow(system);
    const all = await Promise.all(
      Array.from({ length: 20 }, () => system.json<{ text: string }>(['generate', OTHER, 'hello'])),
    );
    expect(all.every(({ text }) => text.length > 0)).toBe(true);
    expect(entriesOf(since(), 'load-start')).toHaveLength(1);
  });
});
