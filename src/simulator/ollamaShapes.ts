import { createHash } from 'node:crypto';
import type { Clock } from './clock.js';
import { LONGEST_STAY_MS } from './goDuration.js';
import type { OllamaRunner } from './ollamaRunner.js';
import type { ModelSpec } from './presets.js';

const BYTES_PER_MB = 1024 * 1024;

/** What Ollama's own clients read about a model, in the server's field names. */
export function modelDetails(model: ModelSpec): Record<string, unknown> {
  return {
    parent_model: '',
    format: 'gguf',
    family: model.family,
    families: [model.family],
    parameter_size: model.parameters,
    quantization_level: model.quantization,
  };
}

export function digestOf(model: ModelSpec): string {
  return createHash('sha256').update(`simulated model ${model.name}`).digest('hex');
}

/** The file is smaller than what a runner takes: cache and compute buffers come on top. */
export function fileBytes(model: ModelSpec): number {
  return Math.round(model.sizeMb * 0.82) * BYTES_PER_MB;
}

/** An entry of `/api/tags`. */
export function tagsEntry(model: ModelSpec): Record<string, unknown> {
  return {
    name: model.name,
    model: model.name,
    modified_at: '2026-01-01T00:00:00Z',
    size: fileBytes(model),
    digest: digestOf(model),
    details: modelDetails(model),
  };
}

/** An entry of `/api/ps`. A model that is still loading is listed too, with its whole estimate: so does the real one. */
export function psEntry(runner: OllamaRunner, clock: Clock): Record<string, unknown> {
  const vramMb = Object.values(runner.placement.vramMb).reduce((sum, mb) => sum + mb, 0);
  return {
    name: runner.model.name,
    model: runner.model.name,
    size: runner.placement.sizeMb * BYTES_PER_MB,
    digest: digestOf(runner.model),
    details: modelDetails(runner.model),
    expires_at: expiryDate(clock, runner.expiresAtMs ?? clock.now() + runner.sessionMs).toISOString(),
    size_vram: vramMb * BYTES_PER_MB,
  };
}

/** The answer of `/api/show`. */
export function showAnswer(model: ModelSpec): Record<string, unknown> {
  return {
    modelfile: `# Modelfile of a simulated model\nFROM ${model.name}\n`,
    template: '{{ .Prompt }}',
    details: modelDetails(model),
    model_info: {
      'general.architecture': model.family,
      [`${model.family}.context_length`]: 32_768,
      [`${model.family}.embedding_length`]: model.embeddingLength,
      [`${model.family}.block_count`]: 32,
    },
    capabilities: model.capabilities,
    modified_at: '2026-01-01T00:00:00Z',
  };
}

/** "For ever" is Go's longest duration from now on, 292 years, at any speed. */
function expiryDate(clock: Clock, atMs: number): Date {
  return Number.isFinite(atMs) ? clock.dateOf(atMs) : new Date(clock.dateOf(clock.now()).getTime() + LONGEST_STAY_MS);
}
