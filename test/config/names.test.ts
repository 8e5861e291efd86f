import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatPath, parsePath } from '../../src/config/keyPath.js';
import { fullModelName } from '../../src/config/modelName.js';
import { nearest } from '../../src/config/nearest.js';

describe('key paths', () => {
  it('are read as they are written, whatever the names', () => {
    const path = fc.array(fc.string({ minLength: 1, unit: 'grapheme' }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(path, (segments) => {
        expect(parsePath(formatPath(segments))).toEqual(segments);
      }),
    );
  });

  it('quote only what needs it', () => {
    expect(formatPath(['models', 'qwen3-vl:8b', 'vram_mb'])).toBe('models.qwen3-vl:8b.vram_mb');
    expect(formatPath(['models', 'qwen2.5:14b', 'vram_mb'])).toBe('models."qwen2.5:14b".vram_mb');
  });

  it.each(['', '.', 'a.', '.a', 'a..b', 'a."b', '""'])('%j is none', (written) => {
    expect(parsePath(written)).toBeNull();
  });
});

describe('fullModelName', () => {
  it.each([
    ['llava', 'llava:latest'],
    ['llava:7b', 'llava:7b'],
    ['registry.local:5000/team/llava', 'registry.local:5000/team/llava:latest'],
    ['hf.co/a/b:Q4_K_M', 'hf.co/a/b:Q4_K_M'],
    ['no name', 'no name'],
  ])('%s is %s', (name, full) => {
    expect(fullModelName(name)).toBe(full);
    expect(fullModelName(full)).toBe(full);
  });
});

describe('nearest', () => {
  const modes = ['idle', 'recording', 'autopilot'];

  it.each([
    ['recordign', 'recording'],
    ['Recording', 'recording'],
    ['auto', 'autopilot'],
    ['idel', 'idle'],
    ['cpu', null],
    ['idl', 'idle'],
    ['zebra', null],
    ['', null],
  ])('%j means %j', (name, meant) => {
    expect(nearest(name, modes)).toBe(meant);
  });
});
