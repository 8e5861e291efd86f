import { describe, expect, it, vi } from 'vitest';
import { EmbedderError } from '../../src/adapters/clip/embedder.js';
import { ProbeFailed } from '../../src/agent/embedderProbe.js';
import { EmbedderSwitch } from '../../src/agent/embedderSwitch.js';
import { FakeLauncher } from './pieces.js';

const NOT_COMPARED = 'embeddings are valid; the old device did not answer, so they were not compared';

const soon = () => AbortSignal.timeout(5_000);

async function started() {
  const launcher = new FakeLauncher();
  const embedder = new EmbedderSwitch(launcher, null);
  await embedder.start(soon());
  return { launcher, embedder };
}

const devices = (launcher: FakeLauncher): string[] => [...launcher.live].map(({ device }) => device);

describe('the embedder at the start', () => {
  it('is a new one on the CPU (M10)', async () => {
    const { embedder, launcher } = await started();
    expect(embedder.process()).toMatchObject({ device: 'cpu', gpu: null });
    expect(embedder.part()).toBe('ready');
    expect(devices(launcher)).toEqual(['cpu']);
  });

  it('is the one that runs already, the oldest of two (law 6)', async () => {
    const launcher = new FakeLauncher();
    launcher.leave('cpu', null, 1_000);
    const old = launcher.leave('cuda', 'GPU-x', 9_000);
    const embedder = new EmbedderSwitch(launcher, null);
    expect(await embedder.start(soon())).toBe('adopted');
    expect(embedder.process()).toMatchObject({ pid: old.pid, device: 'cuda', gpu: 'GPU-x' });
    expect(devices(launcher)).toEqual(['cuda']);
  });

  it('is not one that does not answer: that is ended', async () => {
    const launcher = new FakeLauncher();
    launcher.deaf.add(launcher.leave('cuda', 'GPU-x', 9_000));
    const embedder = new EmbedderSwitch(launcher, null);
    expect(await embedder.start(soon())).toBe('started');
    expect(devices(launcher)).toEqual(['cpu']);
  });

  it('is also one that answers late, for it computes', async () => {
    const launcher = new FakeLauncher();
    const old = launcher.leave('cuda', 'GPU-x', 9_000);
    launcher.busy.add(old);
    const embedder = new EmbedderSwitch(launcher, null);
    expect(await embedder.start(soon())).toBe('adopted');
    expect(embedder.process()).toMatchObject({ pid: old.pid });
  });

  it('says what it does while it starts; a move waits for its end, and no longer than its own time', async () => {
    const launcher = new FakeLauncher();
    let fetched = (): void => {};
    launcher.onStart = (_device, _signal, onProgress) => {
      onProgress?.('fetching the model: 12 %');
      return new Promise((resolve) => {
        fetched = resolve;
      });
    };
    const embedder = new EmbedderSwitch(launcher, null);
    const starting = embedder.start(soon());
    await vi.waitFor(() => expect(embedder.reason()).toBe('starting: fetching the model: 12 %'));
    expect(await embedder.revive(soon())).toBe(false);
    await expect(embedder.move('cuda', 'g0', AbortSignal.timeout(50))).rejects.toMatchObject({ name: 'TimeoutError' });
    launcher.onStart = () => Promise.resolve();
    const moved = embedder.move('cuda', 'g0', soon());
    fetched();
    expect(await starting).toBe('started');
    await moved;
    expect(embedder.process()).toMatchObject({ device: 'cuda' });
    expect([embedder.reason(), ...devices(launcher)]).toEqual([null, 'cuda']);
  });

  it('is missing without its part, and says what to do', async () => {
    const embedder = new EmbedderSwitch(null, 'install it');
    expect(await embedder.start(soon())).toBe('missing');
    expect(embedder).toMatchObject({});
    expect([embedder.part(), embedder.reason(), embedder.process()]).toEqual(['missing', 'install it', null]);
    await expect(embedder.move('cuda', 'g0', soon())).rejects.toThrow(ProbeFailed);
    await expect(embedder.embedText(['a'], soon())).rejects.toThrow('install it');
    expect(await embedder.revive(soon())).toBe(false);
  });
});

describe('a move (M8)', () => {
  it('switches to the new process, then ends the old one', async () => {
    const { embedder, launcher } = await started();
    await embedder.move('cuda', 'g0', soon());
    expect(embedder.process()).toMatchObject({ device: 'cuda', gpu: 'g0' });
    expect(devices(launcher)).toEqual(['cuda']);
    await embedder.move('cpu', null, soon());
    expect(embedder.process()).toMatchObject({ device: 'cpu', gpu: null });
    expect(devices(launcher)).toEqual(['cpu']);
  });

  it.each([
    ['another direction', [0.8, 0.6]],
    ['another dimension', [1]],
    ['no unit norm', [0.6, 0.9]],
    ['no number', [Number.NaN, 1]],
  ])('is undone when the new one gives %s: the old one stays in charge', async (_, vector) => {
    const { embedder, launcher } = await started();
    launcher.vectorOf = (device) => (device === 'cuda' ? vector : [0.6, 0.8]);
    await expect(embedder.move('cuda', 'g0', soon())).rejects.toThrow(ProbeFailed);
    expect(embedder.process()).toMatchObject({ device: 'cpu', gpu: null });
    expect(devices(launcher)).toEqual(['cpu']);
    expect(await embedder.embedText(['a'], soon())).toEqual([[0.6, 0.8]]);
  });

  it('leaves the old one in charge when the new one does not start', async () => {
    const { embedder, launcher } = await started();
    launcher.onStart = () => Promise.reject(new EmbedderError('no-cuda', 'no driver'));
    await expect(embedder.move('cuda', 'g0', soon())).rejects.toThrow('no driver');
    expect(embedder.process()).toMatchObject({ device: 'cpu' });
    expect(embedder.part()).toBe('ready');
  });

  it('says that the new one agrees with the old one, as long as it is in charge', async () => {
    const { embedder, launcher } = await started();
    expect(embedder.proof()).toBeNull();
    await embedder.move('cuda', 'g0', soon());
    await embedder.verify(soon());
    expect(embedder.proof()).toBe('embeddings are valid and agree with the old device');
    launcher.live.clear();
    await embedder.revive(soon());
    expect(embedder.proof()).toBeNull();
    await embedder.verify(soon());
    expect(embedder.proof()).toBe('embeddings are valid');
  });

  it('needs no comparison with an old one that has died, and says so', async () => {
    const { embedder, launcher } = await started();
    launcher.live.clear();
    await embedder.move('cuda', 'g0', soon());
    expect(embedder.process()).toMatchObject({ device: 'cuda' });
    expect(embedder.proof()).toBe(NOT_COMPARED);
  });

  it('waits for an old one that answers late, for it computes: it must agree all the same', async () => {
    const { embedder, launcher } = await started();
    launcher.vectorOf = (device) => (device === 'cuda' ? [0.8, 0.6] : [0.6, 0.8]);
    for (const process of launcher.live) launcher.busy.add(process);
    let answer: () => void = () => {};
    const computes = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const asked = new Set<string>();
    launcher.onEmbed = ({ device }) => {
      asked.add(device);
      return device === 'cpu' ? computes : Promise.resolve();
    };
    const moved = embedder.move('cuda', 'g0', soon());
    await expect.poll(() => [...asked].sort()).toEqual(['cpu', 'cuda']);
    answer();
    await expect(moved).rejects.toThrow(/cosine 0\.96/);
    expect(devices(launcher)).toEqual(['cpu']);
  });

  it('gives up an old one that hangs while there is time to end it', async () => {
    const { embedder, launcher } = await started();
    for (const process of launcher.live) launcher.deaf.add(process);
    await embedder.move('cuda', 'g0', AbortSignal.timeout(1_001), 1_001);
    expect(embedder.proof()).toBe(NOT_COMPARED);
    expect(devices(launcher)).toEqual(['cuda']);
  });

  it('that is cut off while the old one has not answered yet does not switch', async () => {
    const { embedder, launcher } = await started();
    for (const process of launcher.live) launcher.deaf.add(process);
    await expect(embedder.move('cuda', 'g0', AbortSignal.timeout(50))).rejects.toMatchObject({ name: 'TimeoutError' });
    expect(devices(launcher)).toEqual(['cpu']);
  });

  it('lets requests in flight end on the old process', async () => {
    const { embedder, launcher } = await started();
    let answer: () => void = () => {};
    launcher.onEmbed = () => new Promise((resolve) => (answer = resolve));
    const asked = embedder.embedText(['a'], soon());
    expect(embedder.uses()).toBe(1);
    launcher.onEmbed = () => Promise.resolve();
    let moved = false;
    const moving = embedder.move('cuda', 'g0', soon()).then(() => {
      moved = true;
    });
    // Callers have switched already; the old one is there until its request has ended.
    while (embedder.process()?.device !== 'cuda') await new Promise(setImmediate);
    expect(devices(launcher)).toEqual(['cpu', 'cuda']);
    expect(await embedder.embedText(['b'], soon())).toEqual([[0.6, 0.8]]);
    expect(moved).toBe(false);
    answer();
    expect(await asked).toEqual([[0.6, 0.8]]);
    await moving;
    expect(devices(launcher)).toEqual(['cuda']);
  });

  it('is never beside another one, nor beside a revival: one process is left', async () => {
    const { embedder, launcher } = await started();
    launcher.live.clear();
    let most = 0;
    launcher.onStart = async () => {
      await new Promise(setImmediate);
      most = Math.max(most, launcher.live.size);
    };
    await Promise.all([
      embedder.revive(soon()),
      embedder.move('cuda', 'g0', soon()),
      embedder.move('cpu', null, soon()),
      embedder.move('cuda', 'g1', soon()),
    ]);
    expect(embedder.process()).toMatchObject({ device: 'cuda', gpu: 'g1' });
    expect(devices(launcher)).toEqual(['cuda']);
    expect(most).toBe(1);
  });
});

describe('a revival', () => {
  it('starts one on the CPU when the process in charge has ended', async () => {
    const { embedder, launcher } = await started();
    await embedder.move('cuda', 'g0', soon());
    expect(await embedder.revive(soon())).toBe(false);
    launcher.live.clear();
    expect(await embedder.revive(soon())).toBe(true);
    expect(embedder.process()).toMatchObject({ device: 'cpu', gpu: null });
  });

  it('ends one that hangs', async () => {
    const { embedder, launcher } = await started();
    for (const process of launcher.live) launcher.deaf.add(process);
    expect(await embedder.revive(soon())).toBe(true);
    expect(devices(launcher)).toEqual(['cpu']);
  });

  it('leaves one alone that answers late, for it computes', async () => {
    const { embedder, launcher } = await started();
    const [process] = launcher.live;
    for (const one of launcher.live) launcher.busy.add(one);
    expect(await embedder.revive(soon())).toBe(false);
    expect([...launcher.live]).toEqual([process]);
  });

  it('is tried again after one that failed, less and less often', async () => {
    const { embedder, launcher } = await started();
    launcher.live.clear();
    let tries = 0;
    launcher.onStart = () => {
      tries += 1;
      return Promise.reject(new Error('no memory'));
    };
    for (let call = 0; call < 40; call += 1) expect(await embedder.revive(soon())).toBe(false);
    expect(embedder.part()).toBe('failed: no memory');
    expect(tries).toBeGreaterThan(2);
    expect(tries).toBeLessThan(8);
    launcher.onStart = () => Promise.resolve();
    let calls = 0;
    while (!(await embedder.revive(soon()))) calls += 1;
    expect(calls).toBeLessThan(60);
    expect(embedder.part()).toBe('ready');
  });

  it('brings up one that did not come up at the start', async () => {
    const launcher = new FakeLauncher();
    launcher.onStart = () => Promise.reject(new Error('no memory'));
    const embedder = new EmbedderSwitch(launcher, null);
    await expect(embedder.start(soon())).rejects.toThrow('no memory');
    launcher.onStart = () => Promise.resolve();
    expect(await embedder.revive(soon())).toBe(true);
    expect(embedder.process()).toMatchObject({ device: 'cpu' });
  });
});
