import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { normalName, sameModel } from '../../src/adapters/ollama/modelName.js';

describe('names of models', () => {
  test.each([
    ['qwen3-vl', 'qwen3-vl:latest'],
    ['Qwen3-VL:8B', 'qwen3-vl:8b'],
    ['library/qwen3-vl', 'qwen3-vl:latest'],
    ['registry.ollama.ai/library/qwen3-vl:8b', 'qwen3-vl:8b'],
    ['registry.ollama.ai/someone/model', 'someone/model:latest'],
    ['hf.co/someone/Model-GGUF:Q4_K_M', 'hf.co/someone/model-gguf:q4_k_m'],
    ['localhost:5000/library/model', 'localhost:5000/library/model:latest'],
  ])('%s is %s', (name, normal) => {
    expect(normalName(name)).toBe(normal);
    expect(sameModel(name, normal)).toBe(true);
  });

  test.each([
    ['qwen3-vl:8b', 'qwen3-vl'],
    ['someone/llava', 'llava'],
    ['hf.co/library/llava', 'llava'],
  ])('%s is not %s', (a, b) => {
    expect(sameModel(a, b)).toBe(false);
  });

  test('normalising is done once and for all', () => {
    const part = fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9._-]{0,12}$/);
    const name = fc
      .tuple(fc.array(part, { minLength: 1, maxLength: 3 }), fc.option(part))
      .map(([parts, tag]) => parts.join('/') + (tag === null ? '' : `:${tag}`));
    fc.assert(
      fc.property(name, (name) => {
        expect(normalName(normalName(name))).toBe(normalName(name));
      }),
    );
  });
});
