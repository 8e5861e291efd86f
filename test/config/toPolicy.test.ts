import { describe, expect, it } from 'vitest';
import { toHostPolicy } from '../../src/config/toPolicy.js';
import { Sandbox } from './sandbox.js';

const policyOf = (yaml: string) => toHostPolicy(new Sandbox().project(yaml).load().config);

describe('toHostPolicy', () => {
  it('gives the built-in modes their wishes (M1, M5)', () => {
    expect(policyOf('').modes).toEqual({
      idle: { wishes: {} },
      recording: { wishes: { 'model/qwen3-vl:8b': { place: 'gpu' }, 'embedder/clip': { place: 'cpu' } } },
      autopilot: {
        wishes: {
          'model/qwen3-vl:8b': { place: 'absent' },
          'embedder/clip': { place: 'gpu-if-room', minFreeMb: 1024, notBeside: ['model/qwen3-vl:8b'] },
        },
      },
    });
  });

  it('takes a value of the model before the general one (M12, M19)', () => {
    const { models } = policyOf(`
idle_timeout_seconds: 3
load_timeout_seconds: 11
models:
  "own:1": { vram_mb: 9, idle_timeout_seconds: never, load_timeout_seconds: 22, unload_timeout_seconds: 7, priority: 80 }
`);
    expect(models).toEqual([
      {
        name: 'qwen3-vl:8b',
        declaredMb: 10_752,
        priority: 50,
        pinned: false,
        allowCpu: false,
        idleTimeoutSeconds: 3,
        loadTimeoutSeconds: 11,
        unloadTimeoutSeconds: 5,
      },
      {
        name: 'own:1',
        declaredMb: 9,
        priority: 80,
        pinned: false,
        allowCpu: false,
        idleTimeoutSeconds: null,
        loadTimeoutSeconds: 22,
        unloadTimeoutSeconds: 7,
      },
    ]);
  });

  it('carries the figures of the host', () => {
    const policy = policyOf(`
host: box-1
reserve_mb: 256
max_load_retries: 1
clip_model: ViT-L-14
clip: { vram_mb: 900, priority: 3, move_timeout_seconds: 4 }
vram_threshold_for_clip_gpu_mb: 2048
vram_event_threshold_mb: 50
degraded_retry_seconds: 6
reconcile_seconds: 60
`);
    expect(policy).toMatchObject({
      host: 'box-1',
      reserveMb: 256,
      maxLoadRetries: 1,
      vlmModel: 'qwen3-vl:8b',
      embedder: { model: 'ViT-L-14', declaredMb: 900, priority: 3, minFreeMb: 2048, moveTimeoutSeconds: 4 },
      vramEventThresholdMb: 50,
      degradedRetrySeconds: 6,
      reconcileSeconds: 60,
    });
  });

  it('says which service serves Ollama, and nothing of that for the others', () => {
    const { services } = policyOf(`
services:
  box: { container: mcn_ollama, vram_mb: 9, serves: ollama }
  tts: { run: [tts], vram_mb: 9 }
`);
    expect(services.map(({ name, serves }) => [name, serves])).toEqual([
      ['box', 'ollama'],
      ['tts', undefined],
    ]);
  });

  it('makes no wish of keep, and lets `vlm` follow vlm_model', () => {
    const { modes } = policyOf(`
vlm_model: llava
models: { llava: { vram_mb: 9, allow_cpu: true } }
modes: { demo: { models: { vlm: absent } }, show: { clip: gpu } }
`);
    expect(modes['demo']).toEqual({ wishes: { 'model/llava:latest': { place: 'absent' } } });
    expect(modes['show']).toEqual({ wishes: { 'embedder/clip': { place: 'gpu' } } });
  });
});
