import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { UNNAMED } from '../../src/contracts/names.js';
import {
  attributeModels,
  foreignMb,
  isGhost,
  isLeftBehind,
  isOllamas,
  isRunner,
  isWhole,
  type LoadedModel,
  mayBeOllamas,
  type VramProcess,
} from '../../src/domain/attribution.js';

const model = (id: string, vramMb: number, sizeMb = vramMb): LoadedModel => ({ id, sizeMb, vramMb, settled: false });
const runner = (pid: number, usedMb: number | null, gpu = 'g0', name = '/usr/local/bin/ollama'): VramProcess => ({
  gpu,
  pid,
  name,
  usedMb,
});
const ONE = [{ id: 'g0', usedMb: 11_000 }];

describe('who holds what', () => {
  it('is what the runner of the model has, at least what Ollama says', () => {
    expect(attributeModels([model('a', 10_500)], ONE, [runner(7, 10_900)])).toEqual({
      a: { holdings: [{ device: 'g0', mb: 10_900 }], pids: [7] },
    });
    expect(attributeModels([model('a', 10_500)], ONE, [runner(7, 400)])['a']?.holdings).toEqual([
      { device: 'g0', mb: 10_500 },
    ]);
  });

  it('is what the driver says once it has answered: Ollama estimates a little too much', () => {
    const held = (usedMb: number) =>
      attributeModels([{ ...model('a', 13_117), settled: true }], ONE, [runner(7, usedMb)])['a']?.holdings[0]?.mb;
    expect(held(12_804)).toBe(12_804);
    expect(held(13_300)).toBe(13_300);
    // So little of it can only be a list that is late.
    expect(held(4_000)).toBe(13_117);
  });

  it('takes no runner whose server has ended for that of a model', () => {
    const left = { ...runner(1, 12_804), descent: { verb: 'runner', parent: 'systemd' } };
    const ours = { ...runner(2, 12_804), descent: { verb: 'runner', parent: 'ollama' } };
    const server = { ...runner(4, 430), descent: { verb: 'serve', parent: 'systemd' } };
    expect([left, ours, server].map(isLeftBehind)).toEqual([true, false, false]);
    expect([left, ours, server, runner(3, 1)].map(isOllamas)).toEqual([false, true, true, true]);
    expect([left, ours, server, runner(3, 1)].map(isRunner)).toEqual([false, true, false, true]);
    expect(isLeftBehind({ name: '/home/me/ollama-webui/bin/python3', descent: left.descent })).toBe(false);
    expect(isLeftBehind({ name: '/usr/local/lib/ollama/llama-server', descent: left.descent })).toBe(true);
    expect(attributeModels([model('a', 13_117)], ONE, [left, ours])['a']?.pids).toEqual([2]);
    expect(isGhost(13_117, ONE, [left])).toBe(true);
  });

  it.each([
    ['/usr/local/bin/ollama', true],
    ['ollama', true],
    ['/usr/lib/ollama/runners/cuda_v12/ollama_llama_server', true],
    ['/usr/local/lib/ollama/llama-server', true],
    ['/nix/store/x-ollama-0.12/bin/.ollama-wrapped', true],
    // Neither is what lies in a folder called so, nor another's llama-server.
    ['/home/me/ollama-webui/venv/bin/python', false],
    ['/opt/llama.cpp/llama-server', false],
    [UNNAMED, false],
  ])('takes %s for a process of Ollama: %s', (name, is) => {
    expect([isOllamas({ name }), isRunner({ name })]).toEqual([is, is]);
    const found = attributeModels([model('a', 10_500)], ONE, [runner(9, 10_500, 'g0', name)])['a'];
    expect(found?.pids).toEqual(is ? [9] : []);
  });

  it('may be in doubt: what proves that none is there must not be misled by a name', () => {
    const names = ['/home/me/ollama-webui/venv/bin/python', UNNAMED, '/usr/bin/blender'];
    expect(names.map((name) => mayBeOllamas({ name }))).toEqual([true, true, false]);
  });

  it('has nothing when the only runner is that of another model, and no other memory could be its own', () => {
    const gpu = (usedMb: number | null) => [{ id: 'g0', usedMb }];
    expect(isGhost(10_000, gpu(12_000), [runner(1, 11_500)])).toBe(false);
    expect(isGhost(10_000, gpu(12_000), [runner(1, 11_500)], [1])).toBe(true);
    expect(isGhost(10_000, gpu(12_000), [runner(1, 11_500), runner(2, 400)], [1])).toBe(false);
    expect(isGhost(10_000, gpu(22_000), [runner(1, 11_500)], [1])).toBe(false);
    expect(isGhost(10_000, gpu(12_000), [runner(1, null)], [1])).toBe(false);
    expect(isGhost(10_000, gpu(22_000), [runner(1, 11_500), runner(2, 10_000, 'g0', 'game')], [1])).toBe(true);
    expect(isGhost(10_000, gpu(22_000), [runner(1, 11_500), runner(2, 10_000, 'g0', UNNAMED)], [1])).toBe(false);
    expect(isGhost(10_000, gpu(null), [runner(1, 11_500)], [1])).toBe(false);
    expect(isGhost(10_000, gpu(12_000), null, [1])).toBe(false);
  });

  it('matches each model with the runner nearest in size', () => {
    const found = attributeModels([model('small', 4_000), model('big', 12_000)], ONE, [
      runner(1, 4_300),
      runner(2, 12_400),
    ]);
    expect(found['small']?.pids).toEqual([1]);
    expect(found['big']?.pids).toEqual([2]);
  });

  it('names all runners that are alike: which is which cannot be told', () => {
    const found = attributeModels([model('a', 10_000), model('b', 10_100)], ONE, [
      runner(1, 10_200),
      runner(2, 10_500),
    ]);
    expect(found['a']?.pids).toEqual(expect.arrayContaining([1, 2]));
    expect(found['b']?.pids).toEqual(expect.arrayContaining([1, 2]));
  });

  it('takes no stranger for a runner', () => {
    const found = attributeModels([model('a', 10_500)], ONE, [runner(9, 10_500, 'g0', 'blender')]);
    expect(found['a']).toEqual({ holdings: [{ device: 'g0', mb: 10_500 }], pids: [] });
  });

  it('is on the fullest GPU where there is no list', () => {
    const two = [
      { id: 'g0', usedMb: 500 },
      { id: 'g1', usedMb: 11_000 },
    ];
    expect(attributeModels([model('a', 10_500)], two, null)['a']?.holdings).toEqual([{ device: 'g1', mb: 10_500 }]);
    expect(attributeModels([model('a', 10_500)], [], null)['a']?.holdings).toEqual([{ device: 'cpu', mb: 10_500 }]);
  });

  it('is on two GPUs when its runner is, and in system memory for the rest', () => {
    const split = attributeModels([model('a', 18_000)], ONE, [runner(7, 9_200, 'g0'), runner(7, 9_100, 'g1')]);
    expect(split['a']).toMatchObject({
      holdings: [
        { device: 'g0', mb: 9_200 },
        { device: 'g1', mb: 9_100 },
      ],
    });
    const partly = attributeModels([model('a', 6_000, 10_000)], ONE, [runner(7, 6_100)]);
    expect(partly['a']?.holdings.at(-1)).toEqual({ device: 'cpu', mb: 4_000 });
    expect(attributeModels([model('a', 0, 10_000)], ONE, [])['a']?.holdings).toEqual([{ device: 'cpu', mb: 10_000 }]);
  });

  it('is whole when what is missing is rounding', () => {
    expect(isWhole(model('a', 9_950, 10_000))).toBe(true);
    expect(isWhole(model('a', 9_000, 10_000))).toBe(false);
  });

  it('leaves the rest to strangers; unknown stays unknown (law 1)', () => {
    expect(foreignMb(11_300, 10_500)).toBe(800);
    expect(foreignMb(10_000, 10_500)).toBe(0);
    expect(foreignMb(null, 0)).toBeNull();
  });
});

test('every model that is on GPUs is on some device, with at least what Ollama says when it is on one', () => {
  const models = fc.uniqueArray(
    fc.record({ id: fc.constantFrom('a', 'b', 'c', 'd'), vramMb: fc.nat(20_000), restMb: fc.nat(8_000) }),
    { selector: (one) => one.id },
  );
  const processes = fc.option(
    fc.array(
      fc.record({
        gpu: fc.constantFrom('g0', 'g1'),
        pid: fc.integer({ min: 1, max: 6 }),
        name: fc.constantFrom('/usr/bin/ollama', 'game'),
        usedMb: fc.option(fc.nat(20_000)),
      }),
    ),
  );
  fc.assert(
    fc.property(models, processes, (list, listed) => {
      const loaded = list.map(({ id, vramMb, restMb }) => ({
        id,
        vramMb,
        sizeMb: vramMb + restMb,
        settled: vramMb % 2 === 0,
      }));
      const gpus = ['g0', 'g1'].map((id) => ({ id, usedMb: null }));
      const found = attributeModels(loaded, gpus, listed);
      expect(Object.keys(found).sort()).toEqual(loaded.map((one) => one.id).sort());
      for (const { id, vramMb, sizeMb } of loaded) {
        const holdings = found[id]?.holdings ?? [];
        expect(holdings.length > 0).toBe(sizeMb > 0);
        const onGpus = holdings.filter(({ device }) => device !== 'cpu');
        // A settled one at least what counts as near.
        if (vramMb > 0 && onGpus.length === 1)
          expect(onGpus[0]?.mb).toBeGreaterThanOrEqual(vramMb % 2 === 0 ? Math.floor(vramMb * 0.75) : vramMb);
        for (const pid of found[id]?.pids ?? []) {
          expect(listed?.some((one) => one.pid === pid && one.name.includes('ollama'))).toBe(true);
        }
      }
    }),
    { numRuns: 300 },
  );
});
