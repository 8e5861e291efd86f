/** The requirements' numbers on a real card: a model of 8 GB and more in a real Ollama, CLIP by CUDA, the driver's figures. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, type TestContext } from 'vitest';
import { checkEmbeddings } from '../../src/adapters/clip/probe.js';
import type { OperationOutcome, StepOutcome } from '../../src/contracts/operation.js';
import { requireClip } from '../parts/clip.js';
import { type RealOllama, startRealOllama } from '../parts/ollama.js';
import { type System, startSystem } from '../system/system.js';
import { type Card, type Eye, findCard, type Holder, holdMemory, processesOf, watchCard } from './card.js';
import { keepRecord } from './keepRecord.js';

interface Done {
  outcome: OperationOutcome;
}

/** Some 8,300 MB of weights, and what Ollama adds to them. */
const VLM = 'large:latest';
const RECIPE = ['--seed', '4', '--width', '4096', '--layers', '26', '--half'];
/** M6: what the unload of the default model gives back, at least. */
const FREED_MB = 8_192;
const CLIP_MB = 512;

const card = await findCard();
const clip = 'skip' in card ? card : await requireClip();
const ollama = 'skip' in card ? card : await startRealOllama({ more: { [VLM]: RECIPE } });
const missing = [card, clip, ollama].find((part) => 'skip' in part);

describe('models on a real GPU', () => {
  let gpu: Card;
  let server: RealOllama;
  let system: System;
  let eye: Eye;
  let strangers: Holder[] = [];
  /** What is taken while nothing runs, MB: the driver keeps it. */
  let atRestMb: number;

  beforeAll(async () => {
    if ('skip' in card || 'skip' in clip || 'skip' in ollama) return;
    [gpu, server] = [card, ollama];
    eye = await watchCard(card);
    atRestMb = await eye.takenMb();
    system = await startSystem({
      preset: null,
      config: {
        ollama_endpoint: server.endpoint,
        vlm_model: VLM,
        models: { [VLM]: { vram_mb: 10_752 }, [server.models.second]: { vram_mb: 1_024 } },
        clip: { model_path: clip.model, command: clip.command },
      },
      env: { VRAMFLOW_CLIP_PART: clip.part },
    });
  });
  beforeEach((context: TestContext) => {
    if (missing !== undefined && 'skip' in missing) context.skip(missing.skip);
  });
  afterEach(async () => {
    for (const stranger of strangers) await stranger.kill();
    strangers = [];
  });
  afterAll(async () => {
    if (system !== undefined) keepRecord('journal models', await system.journal());
    await system?.stop();
    eye?.close();
    if (!('skip' in ollama)) await ollama.stop();
  });

  async function stranger(mb: number): Promise<Holder> {
    const holder = await holdMemory(gpu, mb);
    strangers.push(holder);
    return holder;
  }
  const run = async (...argv: string[]) => (await system.json<Done>(argv)).outcome;
  const embed = () =>
    system.json<{ embeddings: number[][]; device: string }>(['embed', 'text', 'a red button', 'a login']);

  it('law 7: the card is read, and nothing is simulated, declared or degraded', async () => {
    const status = await system.until('the list of processes', ({ processes }) => processes !== null);
    expect(status).toMatchObject({ simulated: false, degraded_mode: false, degraded_reason: null, clip_part: 'ready' });
    expect(status.vram).toMatchObject({ total_mb: gpu.totalMb, gpu_name: gpu.name });
    expect(status.gpus).toMatchObject([{ id: gpu.uuid, health: 'ok', quarantine: null }]);
    expect(status.processes).toEqual([]);
  });

  it('M5, M8, M10: in autopilot CLIP is on the GPU, its embeddings agree with those of the CPU', async () => {
    const before = await embed();
    expect(before.device).toBe('cpu');
    expect((await run('mode', 'autopilot')).status).toBe('done');
    const after = await embed();
    expect(after.device).toBe('cuda');
    expect(checkEmbeddings(after.embeddings, before.embeddings, { dimension: 512, tolerance: 1e-3 })).toEqual({
      ok: true,
    });
    const { tenants, processes } = await system.status();
    const [holding] = tenants.find(({ kind }) => kind === 'embedder')?.holdings ?? [];
    expect(holding).toMatchObject({ device: gpu.uuid });
    expect(processes).toMatchObject([{ owner: 'embedder/clip', used_mb: holding?.mb }]);
  });

  it('M4, M7: for recording CLIP leaves the GPU, then the model is there, whole, within 30 s', async () => {
    const outcome = await run('mode', 'recording');
    expect(outcome.steps.map(({ kind }: StepOutcome) => kind)).toEqual(['move', 'load']);
    expect(outcome.totalMs).toBeLessThan(30_000);
    const [resident] = await ps(server);
    expect(resident).toMatchObject({ name: VLM, size_vram: resident?.size });
    const status = await system.status();
    expect(status).toMatchObject({ execution_mode: 'recording', vlm_state: 'loaded', clip_device: 'cpu' });
    const [listed] = [...(await processesOf(gpu))];
    expect(status.processes).toMatchObject([{ owner: `model/${VLM}`, pid: listed?.[0], used_mb: listed?.[1] }]);
  });

  it('M9: a model that is there is not loaded again', async () => {
    const before = await processesOf(gpu);
    const outcome = await run('model', 'load', VLM);
    expect(outcome).toMatchObject({ status: 'done', steps: [] });
    expect(await processesOf(gpu)).toEqual(before);
  });

  it('M4, M6: autopilot has its memory back within 5 s, as the driver shows it', async () => {
    const taken = await eye.takenMb();
    const outcome = await run('mode', 'autopilot');
    const unload = outcome.steps.find(({ kind }) => kind === 'unload');
    expect(unload).toMatchObject({ acted: true, attempts: 1 });
    expect(unload?.ms).toBeLessThan(5_000);
    expect((unload?.proof.beforeMb[gpu.uuid] ?? 0) - (unload?.proof.afterMb[gpu.uuid] ?? Number.NaN)).toBeGreaterThan(
      FREED_MB,
    );
    expect(taken - (await eye.takenMb())).toBeGreaterThan(FREED_MB - 2 * CLIP_MB);
    expect(await ps(server)).toEqual([]);
    expect((await system.status()).clip_device).toBe('cuda');
  });

  it('law 2: a stranger that grows meanwhile is not taken for memory that did not come back', async () => {
    await run('mode', 'recording');
    const [outcome] = await Promise.all([run('mode', 'autopilot'), stranger(6_000)]);
    expect(outcome.steps.find(({ kind }) => kind === 'unload')).toMatchObject({ acted: true, attempts: 1 });
    const status = await system.until('the stranger is seen', ({ processes }) =>
      (processes ?? []).some(({ owner, used_mb }) => owner === 'foreign' && (used_mb ?? 0) >= 6_000),
    );
    expect(status).toMatchObject({ degraded_mode: false, gpus: [{ quarantine: null }] });
  });

  it('P4: what is foreign is the stranger, and what the driver keeps; also while a model is there', async () => {
    await run('mode', 'recording');
    const holder = await stranger(2_000);
    const held = (await processesOf(gpu)).get(holder.pid) ?? Number.NaN;
    const status = await system.until('the stranger is seen', ({ processes }) =>
      (processes ?? []).some(({ pid }) => pid === holder.pid),
    );
    const [device] = status.gpus;
    // A process costs the driver a few MB beside what it lists of it.
    expect(Math.abs((device?.foreignMb ?? 0) - held - atRestMb)).toBeLessThan(100);
  });

  it('M18: beside a stranger that leaves too little a load is refused with the figures, and the stranger lives', async () => {
    await run('mode', 'idle');
    await run('model', 'unload', VLM);
    await run('clip', 'move', 'cpu');
    const holder = await stranger(gpu.totalMb - (await eye.takenMb()) - 6_000);
    await system.until('the stranger is seen', ({ processes }) =>
      (processes ?? []).some(({ pid }) => pid === holder.pid),
    );
    const { outcome } = await system.json<Done>(['model', 'load', VLM], 3);
    expect(outcome).toMatchObject({ status: 'refused', steps: [] });
    expect(outcome.refusal?.message).toMatch(/MB/);
    expect((await processesOf(gpu)).has(holder.pid)).toBe(true);
    expect(await ps(server)).toEqual([]);
  });

  it('law 4, 6: kill -9 of the agent in the middle of a load: its successor ends it, nothing is loaded twice', async () => {
    const loading = run('mode', 'recording');
    await system.until('the model loads', ({ vlm_state }) => vlm_state === 'loading');
    await system.agent?.kill();
    await system.startAgent();
    expect((await loading).status).toBe('done');
    expect((await ps(server)).map(({ name }) => name)).toEqual([VLM]);
    expect(await processesOf(gpu)).toHaveProperty('size', 1);
  });

  it('pain 5, M16: kill -9 of Ollama leaves its runner on the card: it is told apart, and the model comes back beside it', async () => {
    const [[runner, heldMb] = [Number.NaN, Number.NaN]] = [...(await processesOf(gpu))];
    process.kill(server.pid, 'SIGKILL');
    await server.ended;
    await system.until('it is degraded', ({ degraded_mode }) => degraded_mode);
    keepRecord('after kill -9 of Ollama', await system.status());
    const again = await startRealOllama({ port: server.port, more: { [VLM]: RECIPE } });
    if ('skip' in again) throw new Error(again.skip);
    server = again;
    try {
      await system.until(
        'the model is back',
        ({ degraded_mode, vlm_state, turns }) => !degraded_mode && vlm_state === 'loaded' && turns.length === 0,
        60_000,
      );
      const status = await system.status();
      keepRecord('after its return', status);
      const ownerOf = new Map((status.processes ?? []).map(({ pid, owner }) => [pid, owner]));
      expect([...ownerOf].sort(([a], [b]) => Number(b === runner) - Number(a === runner))).toEqual([
        [runner, 'left-behind'],
        [expect.any(Number), `model/${VLM}`],
      ]);
      expect(Math.abs((status.gpus[0]?.foreignMb ?? 0) - heldMb - atRestMb)).toBeLessThan(100);
      const doctor = await system.cli('doctor');
      expect(doctor.stdout).toContain(`kill ${runner}`);
      process.kill(runner, 'SIGKILL');
      await system.until('its memory is back', ({ gpus }) => (gpus[0]?.foreignMb ?? Infinity) < atRestMb + 100);
    } finally {
      await again.stop();
    }
  });
});

interface Listed {
  name: string;
  size: number;
  size_vram: number;
}

/** What Ollama itself lists. */
async function ps({ endpoint }: RealOllama): Promise<Listed[]> {
  return ((await (await fetch(`${endpoint}/api/ps`)).json()) as { models: Listed[] }).models;
}
