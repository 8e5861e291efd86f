import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { workflowId } from '../../src/contracts/names.js';
import type { RecordEntry } from '../../src/simulator/record.js';
import { entriesOf, expectNoViolation, fromNow, type Printed } from '../system/judge.js';
import { type System, startSystem } from '../system/system.js';

const VLM = 'moondream:latest';
const IDLE_MS = 3_000;
/** From the end of the idle time to the begin of the unload: one turn on a busy machine. */
const SLACK_MS = 4_000;

/** M12 and M13 on a simulated laptop: the configured 3 s count, not the default of 300. */
describe('idle unload and on-demand loads', { timeout: 60_000 }, () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({
      preset: 'laptop-6gb',
      config: {
        vlm_model: VLM,
        idle_timeout_seconds: IDLE_MS / 1000,
        // Often, so that a loop of reconciliation against idle unload would show soon.
        reconcile_seconds: 1,
        models: { [VLM]: { vram_mb: 2200 } },
      },
    });
  });
  afterAll(async () => {
    expectNoViolation(system);
    await system.stop();
  });
  beforeEach(() => idleUnload());

  /** It is away, and the operation that took it away has ended. */
  const idleUnload = () =>
    system.until('the idle unload', ({ vlm_state, turns }) => vlm_state === 'unloaded' && turns.length === 0);

  const idleFrom = (record: readonly RecordEntry[]) => {
    const unload = entriesOf(record, 'unload-start', { model: VLM }).at(-1);
    const lastUse = entriesOf(record, 'request-end').filter(({ seq }) => seq < (unload?.seq ?? 0));
    // The unload is a request too, but only begun by then.
    return (unload?.atMs ?? Number.NaN) - (lastUse.at(-1)?.atMs ?? Number.NaN);
  };

  it('M12: unloads after the configured 3 s in recording; the mode stays; nothing loads it again until asked', async () => {
    const since = fromNow(system);
    await system.json(['mode', 'recording']);
    await idleUnload();
    expect(idleFrom(since())).toBeGreaterThanOrEqual(IDLE_MS - 50);
    expect(idleFrom(since())).toBeLessThan(IDLE_MS + SLACK_MS);
    const status = await system.status();
    expect(status).toMatchObject({ execution_mode: 'recording', idle_timeout_seconds: 3, degraded_mode: false });
    const [event] = (await system.journal('idle_unload')).slice(-1);
    expect(event?.subject).toBe(`model/${VLM}`);

    // The loop "idle unload against recording mode": the host looks every second, and leaves it unloaded.
    const after = fromNow(system);
    await looks(system, 4);
    expect(entriesOf(after(), 'load-start')).toEqual([]);
    expect((await system.status()).vlm_state).toBe('unloaded');
  });

  it('M13: a request for the unloaded model loads it and succeeds', async () => {
    const since = fromNow(system);
    const answer = await system.json<{ text: string; tokens: number }>(['generate', VLM, 'what do you see?']);
    expect(answer.text).toContain('window');
    expect(entriesOf(since(), 'load-end', { model: VLM })).toMatchObject([{ outcome: 'loaded' }]);
    expect(entriesOf(since(), 'request-end', { path: '/api/generate' }).at(-1)?.status).toBe(200);
    expect((await system.status()).execution_mode).toBe('recording');
  });

  it('M12: requests in time keep the model, each moves the time of the last request, which never goes back', async () => {
    await system.json(['mode', 'recording']);
    const since = fromNow(system);
    const seen: string[] = [];
    const ways: (() => Promise<unknown>)[] = [
      () => system.json(['generate', VLM, 'more']),
      () => system.json<Printed>(['model', 'load', VLM]),
      () => directGenerate(system),
      () => system.json<Printed>(['mode', 'recording']),
    ];
    for (const use of ways) {
      // Half of the idle time without a request.
      const { last_vlm_request: last } = await system.until(
        'a time without a request',
        (status) => Date.now() - Date.parse(status.last_vlm_request ?? '') > IDLE_MS / 2,
      );
      const before = last ?? '';
      await use();
      const { last_vlm_request: after } = await system.until(
        'the time of the last request has moved',
        (status) => (status.last_vlm_request ?? '') > before,
        2_500,
      );
      seen.push(after ?? '');
    }
    expect(seen).toEqual([...seen].sort());
    expect(entriesOf(since(), 'unload-start')).toEqual([]);
    expect(entriesOf(since(), 'load-start')).toEqual([]);
    await idleUnload();
  });

  it('law 10: a direct Ollama call beside vramflow loads, is explained, counts as use, and idle unload still comes', async () => {
    const since = fromNow(system);
    await directGenerate(system);
    await system.until('it is seen', (status) => status.vlm_state === 'loaded');
    const [appeared] = (await system.journal('tenant_appeared')).slice(-1);
    expect(appeared).toMatchObject({ subject: `model/${VLM}`, message: expect.stringContaining('direct request') });
    await idleUnload();
    // Seen at the latest a second after the use.
    expect(idleFrom(since())).toBeGreaterThanOrEqual(IDLE_MS - 50);
    expect(idleFrom(since())).toBeLessThan(IDLE_MS + 1_500 + SLACK_MS);
  });

  it('M12: the timer survives a kill -9 of agent, control worker and Temporal', async () => {
    await system.json(['generate', VLM, 'the last one']);
    const timer = system.client.workflow.getHandle(workflowId.idleUnload(system.host, VLM));
    const { runId } = await timer.describe();
    await Promise.all([system.agent?.kill(), system.control?.kill(), system.temporal.kill()]);
    const since = fromNow(system);
    await system.temporal.restart();
    system.startControl();
    await system.startAgent();
    await idleUnload();
    const unloads = entriesOf(since(), 'unload-start', { model: VLM });
    expect(unloads).toHaveLength(1);
    expect(entriesOf(since(), 'load-start')).toEqual([]);
    // The same run, or one that it continued as: not a second timer.
    const ended = await timer.describe();
    expect([ended.runId, ended.raw.workflowExecutionInfo?.firstRunId]).toContain(runId);
  });
});

/** Past vramflow, as any program may. */
async function directGenerate(system: System): Promise<void> {
  const response = await fetch(`${system.simulator.info.ollama}/api/generate`, {
    method: 'POST',
    body: JSON.stringify({ model: VLM, prompt: 'directly', stream: false }),
  });
  expect(response.status).toBe(200);
  await response.json();
}

/** Resolves when the host's workflow has looked at the host so many times more. */
async function looks(system: System, count: number): Promise<void> {
  const seen = async () => {
    const { events } = await system.client.workflow.getHandle(workflowId.gpuHost(system.host)).fetchHistory();
    const isLook = (name: string | null | undefined) => name === 'describeAgent';
    return (events ?? []).filter((event) => isLook(event.activityTaskScheduledEventAttributes?.activityType?.name))
      .length;
  };
  const before = await seen();
  for (let now = before; now < before + count; now = await seen()) await system.status();
}
