/**
 * vramflow on real parts: a real Temporal server, real workers, a real Ollama with tiny models, the real CLIP code on a
 * tiny model, real PNG files, all through the command line. There is no GPU: once the host has none, and once its GPU
 * figures are those of a simulator, so that a move to `cuda` is a second real process.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { checkEmbeddings } from '../../src/adapters/clip/probe.js';
import type { OperationOutcome, StepOutcome } from '../../src/contracts/operation.js';
import { type RunningSimulator, startSimulator } from '../../src/simulator/simulator.js';
import { type RealClip, requireClip } from '../parts/clip.js';
import { type RealOllama, startRealOllama } from '../parts/ollama.js';
import { requirePart } from '../parts/parts.js';
import { picture } from '../parts/picture.js';
import { startTemporal, type TestServer } from '../parts/temporal.js';
import { type System, startSystem } from '../system/system.js';

interface Embedded {
  embeddings: number[][];
  dimension: number;
  device: string;
}

interface Done {
  outcome: OperationOutcome;
}

const TEXTS = ['a red button', 'the login field', ''];
const EXPECTED = { dimension: 512, tolerance: 1e-5 };
const IDLE_SECONDS = 3;
const ON_SIMULATED_CARD = fileURLToPath(new URL('../parts/clipOnSimulatedCard.mjs', import.meta.url));

const clip = await requireClip();
const ollama = requirePart('Ollama', await startRealOllama());
const missing = 'skip' in clip ? clip.skip : 'skip' in ollama ? ollama.skip : null;

describe('real parts', () => {
  let temporal: TestServer;
  beforeAll(async () => {
    if (missing === null) temporal = await startTemporal();
  });
  afterAll(async () => {
    if (!('skip' in ollama)) await ollama.stop();
    await temporal?.stop();
  });

  function start(
    parts: RealOllama,
    real: RealClip,
    host: { gpu: Record<string, unknown>; embedder: string[]; idle: number | 'never' },
  ): Promise<System> {
    const { gpu, embedder, idle } = host;
    const model = () => ({ vram_mb: 64, allow_cpu: true, idle_timeout_seconds: idle });
    return startSystem({
      preset: null,
      temporal,
      config: {
        ollama_endpoint: parts.endpoint,
        vlm_model: parts.models.first,
        models: { [parts.models.first]: model(), [parts.models.second]: model() },
        clip: { model_path: real.model, gpu_provider: 'cpu', command: embedder },
        gpu,
      },
      env: { VRAMFLOW_CLIP_PART: real.part },
    });
  }

  describe('on a host without a GPU', () => {
    let system: System;
    let parts: RealOllama;
    beforeAll(async () => {
      if ('skip' in ollama || 'skip' in clip) return;
      parts = ollama;
      system = await start(parts, clip, { gpu: { reader: 'none' }, embedder: clip.command, idle: IDLE_SECONDS });
    });
    afterAll(() => system?.stop());

    it('M1, M17: goes to recording, autopilot and recording; each state is what Ollama says', async (context) => {
      require(context);
      for (const [mode, vlm] of [
        ['recording', 'loaded'],
        ['autopilot', 'unloaded'],
        ['recording', 'loaded'],
      ] as const) {
        const { outcome } = await system.json<Done>(['mode', mode]);
        expect(outcome).toMatchObject({ status: 'done' });
        expect(await resident(parts)).toEqual(vlm === 'loaded' ? [parts.models.first] : []);
        expect(await system.status()).toMatchObject({ execution_mode: mode, vlm_state: vlm, clip_device: 'cpu' });
      }
      expect(await system.status()).toMatchObject({
        simulated: false,
        degraded_mode: true,
        degraded_reason: expect.stringContaining('no GPU') as string,
        vram: null,
        clip_part: 'ready',
      });
    });

    it('M17: refuses a move to a GPU that is not there, politely', async (context) => {
      require(context);
      const { outcome } = await system.json<Done>(['clip', 'move', 'cuda'], 3);
      expect(outcome.status).toBe('refused');
      expect(outcome.refusal?.remedy).toBeTruthy();
      expect((await embedTexts(system)).device).toBe('cpu');
    });

    it('M12: unloads the idle model in its time, the mode stays', async (context) => {
      require(context);
      await system.cli('model', 'load', 'vlm');
      const used = Date.parse((await system.status()).last_vlm_request ?? '');
      // The turn is over when the operation has written its journal.
      await system.until(
        'the idle unload',
        ({ vlm_state, turns }) => vlm_state === 'unloaded' && turns.length === 0,
        15_000,
      );
      expect(await resident(parts)).toEqual([]);
      const unloads = await system.journal('idle_unload');
      expect(unloads.at(-1)).toMatchObject({ subject: `model/${parts.models.first}` });
      const idleMs = Date.parse(unloads.at(-1)?.time ?? '') - used;
      expect(idleMs).toBeGreaterThanOrEqual(IDLE_SECONDS * 1_000);
      expect(idleMs).toBeLessThan((IDLE_SECONDS + 4) * 1_000);
      expect((await system.status()).execution_mode).toBe('recording');
    });

    it('M13: loads it again for a request, which then succeeds', async (context) => {
      require(context);
      const { text, tokens } = await system.json<{ text: string; tokens: number }>(['generate', 'vlm', 'hello']);
      expect(tokens).toBeGreaterThan(0);
      expect(text.length).toBeGreaterThan(0);
      expect(await resident(parts)).toEqual([parts.models.first]);
      // The idle time of the configuration counts: Ollama's own five minutes would end a longer one.
      expect(await keepAliveMs(parts)).toBeGreaterThan(3_600_000);
    });

    it('law 10: a direct call to Ollama counts as a use and keeps the model', async (context) => {
      require(context);
      await system.json(['generate', 'vlm', 'hello']);
      const begun = Date.now();
      const before = Date.parse((await system.status()).last_vlm_request ?? '');
      // Two idle times, each shorter than the allowed one, each ended by a request past vramflow.
      for (let call = 0; call < 3; call += 1) {
        await system.until('two seconds of idleness', () => Date.now() - begun > (call + 1) * 1_800);
        await direct(parts, parts.models.first, '24h');
      }
      const status = await system.until(
        'the use to be noticed',
        ({ last_vlm_request }) => Date.parse(last_vlm_request ?? '') > before + 3_000,
      );
      expect(status.vlm_state).toBe('loaded');
      expect(Date.now() - begun).toBeGreaterThan(IDLE_SECONDS * 1_000);
    });

    it('a model that a direct call loads is seen as what it is, and unloaded when idle', async (context) => {
      require(context);
      const tenant = `model/${parts.models.second}`;
      await direct(parts, parts.models.second, '24h');
      const seen = await system.until('the model to be seen', ({ tenants }) =>
        tenants.some(({ id, state }) => id === tenant && state === 'resident'),
      );
      expect(seen.tenants.find(({ id }) => id === tenant)?.holdings).toEqual([
        { device: 'cpu', mb: expect.any(Number) as number },
      ]);
      expect(await system.journal('tenant_appeared')).toContainEqual(expect.objectContaining({ subject: tenant }));
      await system.until('its idle unload', ({ tenants }) =>
        tenants.some(({ id, state }) => id === tenant && state === 'absent'),
      );
    });
  });

  describe('with the GPU figures of a simulator', () => {
    let system: System;
    let parts: RealOllama;
    let simulator: RunningSimulator;
    beforeAll(async () => {
      if ('skip' in ollama || 'skip' in clip) return;
      parts = ollama;
      simulator = await startSimulator({ preset: 'rtx4090' });
      const [node = '', main = ''] = clip.command;
      const embedder = [node, ON_SIMULATED_CARD, simulator.info.admin, main];
      const gpu = { reader: 'nvidia-smi', nvidia_smi: simulator.info.nvidiaSmi };
      system = await start(parts, clip, { gpu, embedder, idle: 'never' });
    });
    afterAll(async () => {
      await system?.stop();
      await simulator?.stop();
    });

    it('M8: embeddings of texts and PNG files are valid, and equal before and after each move', async (context) => {
      require(context);
      const files = [0, 1, 2].map((seed) => {
        const file = join(system.folder, `picture-${seed}.png`);
        writeFileSync(file, picture(seed));
        return file;
      });
      const embed = async () => {
        const [texts, images] = [await embedTexts(system), await system.json<Embedded>(['embed', 'image', ...files])];
        expect(texts.device).toBe(images.device);
        return { device: texts.device, embeddings: [...texts.embeddings, ...images.embeddings] };
      };
      const first = await embed();
      expect(first.device).toBe('cpu');
      expect(checkEmbeddings(first.embeddings, null, EXPECTED)).toEqual({ ok: true });
      expect(checkEmbeddings(first.embeddings.slice(0, 3), first.embeddings.slice(3), EXPECTED).ok).toBe(false);
      const pids = new Set([await embedderPid(system)]);
      for (const device of ['cuda', 'cpu'] as const) {
        const { outcome } = await system.json<Done>(['clip', 'move', device]);
        expect(outcome).toMatchObject({ status: 'done', steps: [{ kind: 'move', acted: true }] });
        const moved = await embed();
        expect(moved.device).toBe(device);
        expect(checkEmbeddings(moved.embeddings, first.embeddings, EXPECTED)).toEqual({ ok: true });
        expect((await system.status()).clip_device).toBe(device);
        pids.add(await embedderPid(system));
      }
      expect(pids.size).toBe(3);
      expect((await system.journal('device_changed')).map(({ details }) => details['to'])).toEqual([
        expect.stringMatching(/^GPU-/),
        'cpu',
      ]);
    });

    it('M5, M7: autopilot has CLIP on the GPU, recording has it off again before the model is there', async (context) => {
      require(context);
      const { outcome: autopilot } = await system.json<Done>(['mode', 'autopilot']);
      expect(autopilot.status).toBe('done');
      expect(await system.status()).toMatchObject({ clip_device: 'cuda', vlm_state: 'unloaded' });
      const { outcome: recording } = await system.json<Done>(['mode', 'recording']);
      expect(recording.status).toBe('done');
      expect(recording.steps.map(({ kind }: StepOutcome) => kind)).toEqual(['move', 'load']);
      expect(await system.status()).toMatchObject({ clip_device: 'cpu', vlm_state: 'loaded', degraded_mode: false });
      expect(await resident(parts)).toEqual([parts.models.first]);
    });

    it('law 6: kill -9 of the agent ends neither CLIP nor the model, and its successor adopts both', async (context) => {
      require(context);
      await system.json(['mode', 'autopilot']);
      await system.json(['model', 'load', parts.models.second]);
      const before = await embedTexts(system);
      const pid = await embedderPid(system);
      await system.agent?.kill();
      await expect(system.status()).rejects.toThrow();
      await system.startAgent();
      expect(await embedderPid(system)).toBe(pid);
      expect(await resident(parts)).toEqual([parts.models.second]);
      const after = await embedTexts(system);
      expect(after.device).toBe('cuda');
      expect(checkEmbeddings(after.embeddings, before.embeddings, EXPECTED)).toEqual({ ok: true });
      const { outcome } = await system.json<Done>(['mode', 'recording']);
      expect(outcome.status).toBe('done');
      expect(await resident(parts)).toEqual([parts.models.first, parts.models.second]);
    });

    it('M16: kill -9 of Ollama in recording: degraded, and once it is back the model is loaded again', async (context) => {
      require(context);
      await system.json(['mode', 'recording']);
      process.kill(parts.pid, 'SIGKILL');
      await parts.ended;
      await system.until('it is degraded', ({ degraded_mode }) => degraded_mode);
      const again = await startRealOllama({ port: parts.port });
      if ('skip' in again) throw new Error(again.skip);
      try {
        await system.until(
          'the model is back',
          ({ degraded_mode, vlm_state, turns }) => !degraded_mode && vlm_state === 'loaded' && turns.length === 0,
          60_000,
        );
        // The other model died while wanted, too.
        expect(await resident(again)).toContain(parts.models.first);
        expect((await system.status()).execution_mode).toBe('recording');
      } finally {
        await again.stop();
      }
    });
  });

  function require(context: TestContext): void {
    if (missing !== null) context.skip(missing);
  }
});

const embedTexts = (system: System) => system.json<Embedded>(['embed', 'text', ...TEXTS]);

/** Of the process in charge, from the record on disk that a successor adopts by. */
async function embedderPid(system: System): Promise<number> {
  const { createEmbedderLauncher } = await import('../../src/adapters/clip/embedder.js');
  const stateDir = join(system.folder, 'data', 'agents', system.host, 'real', 'embedder');
  const running = await createEmbedderLauncher({
    command: ['true'],
    model: '',
    stateDir,
    gpuProvider: 'cpu',
  }).running();
  expect(running).toHaveLength(1);
  return running[0]?.pid ?? Number.NaN;
}

interface Ps {
  models: { name: string; expires_at: string }[];
}

const ps = async ({ endpoint }: RealOllama) => (await (await fetch(`${endpoint}/api/ps`)).json()) as Ps;

/** What Ollama itself lists. */
const resident = async (parts: RealOllama) => (await ps(parts)).models.map(({ name }) => name).sort();

/** How long Ollama would keep the first of them. */
const keepAliveMs = async (parts: RealOllama) => Date.parse((await ps(parts)).models[0]?.expires_at ?? '') - Date.now();

/** A request that does not go through vramflow. */
async function direct({ endpoint }: RealOllama, model: string, keepAlive: string): Promise<void> {
  const body = JSON.stringify({
    model,
    prompt: 'hello',
    stream: false,
    keep_alive: keepAlive,
    options: { num_predict: 4 },
  });
  const answer = await fetch(`${endpoint}/api/generate`, { method: 'POST', body });
  expect(answer.status).toBe(200);
  await answer.arrayBuffer();
}
