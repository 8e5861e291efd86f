import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { signalHost } from '../../src/activities/control.js';
import { endLeftEmbedders } from '../../src/cli/leftEmbedders.js';
import { SIGNAL } from '../../src/contracts/messages.js';
import { workflowId } from '../../src/contracts/names.js';
import type { Status } from '../../src/contracts/status.js';
import { readHostState } from '../../src/gateway/publishedState.js';
import { embeddersOf } from '../judge/embedders.js';
import { startWorker } from '../system/children.js';
import { changesIn, expectNoViolation, fromNow, loadedModels, type Printed } from '../system/judge.js';
import { isLoading, isQuiet, loadOf, operationEntry, startOperation } from '../system/operations.js';
import { type System, startSystem } from '../system/system.js';

const VLM = 'qwen3-vl:8b';
const SMALL = 'nomic-embed-text:latest';

/** What ends an operation, or the host's workflow, from outside; and who may be a host's agent. */
describe('operations that are ended from outside', { timeout: 60_000 }, () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({
      config: { models: { [SMALL]: { vram_mb: 650 } } },
    });
  });
  afterEach(async () => {
    system.simulator.faults.clear();
    await isQuiet(system);
    expectNoViolation(system);
    for (const { name } of loadedModels(system)) await system.json(['model', 'unload', name]);
  });
  afterAll(() => system.stop());

  it('a cancel from outside leaves a stated residency and nothing half-loaded', async () => {
    const handle = await startOperation(system, loadOf(VLM));
    await isLoading(system, VLM);
    await handle.cancel();
    await expect(handle.result()).rejects.toThrow();
    const entry = await operationEntry(system, handle.workflowId);
    expect(entry.details['outcome']).toMatchObject({
      status: 'cancelled',
      residency: { [`model/${VLM}`]: [], 'embedder/clip': ['cpu'] },
    });
    expect(loadedModels(system)).toEqual([]);
    expect((await system.json<Printed>(['model', 'load', SMALL])).outcome.status).toBe('done');
  });

  it('a terminated operation heals: the next one works within seconds, and nothing of the old one goes on', async () => {
    system.simulator.faults.set('load-hang', { model: VLM });
    const handle = await startOperation(system, loadOf(VLM));
    await isLoading(system, VLM);
    await handle.terminate('by a test');
    const startedAt = Date.now();
    expect((await system.json<Printed>(['model', 'load', SMALL])).outcome.status).toBe('done');
    expect(Date.now() - startedAt).toBeLessThan(15_000);
    expect(loadedModels(system)).toEqual([{ name: SMALL, loading: false }]);
  });

  it('an agent whose CLIP takes long to start works without it, and moves it to where it belongs once it is there', async () => {
    await system.json(['mode', 'autopilot']);
    await system.agent?.kill();
    for (const { pid } of await embeddersOf(system)) if (pid !== null) process.kill(pid, 'SIGKILL');
    system.simulator.faults.set('embedder-slow', { ms: 15_000, device: 'cpu' });
    await system.startAgent();
    const { clip_part, degraded_mode } = await system.status();
    expect({ clip_part, degraded_mode }).toEqual({ clip_part: 'starting', degraded_mode: false });
    // What has begun to start stays as slow as it was to be.
    system.simulator.faults.clear();
    expect((await system.json<Printed>(['model', 'load', SMALL])).outcome.status).toBe('done');
    await system.until('CLIP is on the GPU', ({ clip_device }) => clip_device === 'cuda', 30_000);
  }, 120_000);

  it('a terminated gpuHost heals: the next operation works within seconds, and the mode is remembered', async () => {
    await system.json(['mode', 'autopilot']);
    const before = await system.hostState();
    await system.client.workflow.getHandle(workflowId.gpuHost(system.host)).terminate('by a test');
    const startedAt = Date.now();
    expect((await system.json<Printed>(['model', 'load', SMALL])).outcome.status).toBe('done');
    expect(Date.now() - startedAt).toBeLessThan(15_000);
    const after = await system.hostState();
    expect(after.intents.mode).toBe('autopilot');
    expect((await system.status()).execution_mode).toBe('autopilot');
    for (const [device, epoch] of Object.entries(before.epochs)) expect(after.epochs[device]).toBeGreaterThan(epoch);
  });

  it('a gpuHost that begins anew during a mode switch learns how that ended', async () => {
    await system.json(['mode', 'autopilot']);
    const handle = await startOperation(system, { kind: 'mode', mode: 'recording' });
    await isLoading(system, VLM);
    await system.client.workflow.getHandle(workflowId.gpuHost(system.host)).terminate('by a test');
    await signalHost(system.client, system.host, SIGNAL.agentOnline, []);
    // The first look, at a host whose mode is the former one still.
    for (let looked = false; !looked; ) {
      const state = await readHostState(system.client, system.host);
      looked = Object.keys(state?.epochs ?? {}).length > 0;
    }
    expect((await system.hostState()).intents.mode).toBe('autopilot');
    await handle.result();
    await isQuiet(system);
    expect((await system.status()).execution_mode).toBe('recording');
    expect((await system.hostState()).intents).toMatchObject({ mode: 'recording', wanted: [`model/${VLM}`] });
  });

  it('two agents for one host: the second is refused clearly, and the first goes on', async () => {
    const since = fromNow(system);
    const env = {
      ...process.env,
      HOME: system.folder,
      XDG_CONFIG_HOME: system.folder,
      VRAMFLOW_CONFIG: join(system.folder, 'vramflow.yaml'),
      VRAMFLOW_TEMPORAL_ADDRESS: system.temporal.address,
      VRAMFLOW_AGENT_LISTEN: '127.0.0.1:0',
      VRAMFLOW_SIMULATOR: JSON.stringify(system.simulator.info),
    };
    const { agent } = await system.json<Status>(['status']);
    const sameFolder = startWorker('agent', env);
    onTestFinished(() => sameFolder.kill());
    expect(await sameFolder.ended).toBe(4);
    expect(sameFolder.log()).toMatch(/another agent runs on/);

    const otherFolder = startWorker('agent', { ...env, VRAMFLOW_DATA_DIR: join(system.folder, 'other') });
    onTestFinished(() => otherFolder.kill());
    expect(await otherFolder.ended).toBe(4);
    expect(otherFolder.log()).toMatch(new RegExp(`host ${system.host} has an agent already`));
    // Its CLIP would outlive it, and nobody would use it.
    const left = await endLeftEmbedders(join(system.folder, 'other'));
    expect(left).toEqual([]);
    expect((await system.status()).agent).toMatchObject({ instance: agent.instance, pid: agent.pid });
    expect(changesIn(since()).filter(({ kind }) => kind !== 'process-start' && kind !== 'process-end')).toEqual([]);
    expect((await system.json<Printed>(['model', 'load', SMALL])).outcome.status).toBe('done');
  });
});
