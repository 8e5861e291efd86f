import { describe, expect, it } from 'vitest';
import { violations } from '../../src/simulator/record.js';
import { TestHost } from './host.js';

const VLM = 'qwen3-vl:8b';
const DRIVER_MB = 14;

describe('a load', () => {
  it('takes memory gradually, a little more than it needs at the end, and about 4 s for the 8b model', async () => {
    const host = new TestHost('rtx4090');
    const request = host.request(VLM);
    await host.clock.advance(2000);
    expect(request.state).toBe('waiting');
    expect(host.usedMb).toBeGreaterThan(3000);
    expect(host.usedMb).toBeLessThan(8000);
    await host.clock.advance(2900);
    expect(request.state).toBe('served');
    const used = host.recorder.entries.flatMap((e) => (e.kind === 'allocated' ? [e.usedMb] : []));
    expect(Math.max(...used)).toBeGreaterThan(10_500 + DRIVER_MB);
    expect(host.usedMb).toBe(10_500 + DRIVER_MB);
  });

  it('is the same with the same seed and another with another', async () => {
    const loadMs = async (seed: number): Promise<number> => {
      const host = new TestHost('rtx4090', seed);
      await host.load(VLM);
      return host.recorder.entries.find((e) => e.kind === 'load-end')?.atMs ?? 0;
    };
    expect(await loadMs(7)).toBe(await loadMs(7));
    expect(await loadMs(7)).not.toBe(await loadMs(8));
  });

  it('is aborted when its client leaves, and what it took comes back', async () => {
    const host = new TestHost('rtx4090');
    const request = host.request(VLM);
    await host.clock.advance(2000);
    request.abort();
    await host.clock.advance(3000);
    expect(request.error?.message).toBe('request canceled');
    expect(host.scheduler.loaded.size).toBe(0);
    expect(host.usedMb).toBe(DRIVER_MB);
    expect(host.recorder.entries).toContainEqual(expect.objectContaining({ kind: 'load-end', outcome: 'aborted' }));
  });

  it('is shared by requests that come while it runs', async () => {
    const host = new TestHost('rtx4090');
    const requests = [host.request(VLM), host.request(VLM), host.request(VLM)];
    await host.clock.advance(5000);
    expect(requests.map(({ state }) => state)).toEqual(['served', 'served', 'served']);
    expect(host.recorder.entries.filter((e) => e.kind === 'load-start')).toHaveLength(1);
  });

  it('fails with the text of Ollama when a stranger takes the memory meanwhile, and the record keeps it', async () => {
    const host = new TestHost('rtx4090');
    const request = host.request(VLM);
    await host.clock.advance(1000);
    const stranger = host.gpuHost.startProcess('compute', 'game');
    host.gpuHost.resize(stranger, host.gpuHost.card(0).spec.uuid, 18_000);
    await host.clock.advance(5000);
    expect(request.error?.message).toBe('llama runner process has terminated: cudaMalloc failed: out of memory');
    expect(violations(host.recorder.entries)).toMatchObject([{ kind: 'out-of-memory', holderKind: 'runner' }]);
  });
});

describe('staying and going', () => {
  it('unloads when the keep-alive is over, and a request starts it anew', async () => {
    const host = new TestHost('rtx4090');
    await host.load(VLM, { keepAliveMs: 100_000 });
    await host.load(VLM);
    await host.clock.advance(99_000);
    expect(host.scheduler.loaded.has(VLM)).toBe(true);
    await host.clock.advance(2000);
    expect(host.scheduler.loaded.has(VLM)).toBe(false);
  });

  it('gives memory back only after ps has forgotten the model', async () => {
    const host = new TestHost('rtx4090');
    await host.load(VLM);
    const unloaded = host.scheduler.expire(VLM);
    await host.clock.advance(100);
    await unloaded;
    expect(host.scheduler.loaded.size).toBe(0);
    expect(host.usedMb).toBe(10_500 + DRIVER_MB);
    await host.clock.advance(1500);
    expect(host.usedMb).toBe(DRIVER_MB);
    const kinds = host.recorder.entries.map((e) => e.kind);
    expect(kinds.indexOf('gone')).toBeLessThan(kinds.indexOf('reclaimed'));
    expect(kinds.indexOf('process-end')).toBeLessThan(kinds.indexOf('freed', kinds.indexOf('gone')));
  });

  it('waits with the unload for requests in flight', async () => {
    const host = new TestHost('rtx4090');
    const request = host.request(VLM);
    await host.clock.advance(5000);
    void host.scheduler.expire(VLM);
    await host.clock.advance(60_000);
    expect(host.scheduler.loaded.has(VLM)).toBe(true);
    request.lease?.release();
    await host.clock.advance(1000);
    expect(host.scheduler.loaded.has(VLM)).toBe(false);
  });

  it('reloads with a larger footprint when num_ctx changes, and forgets the keep-alive', async () => {
    const host = new TestHost('rtx4090');
    await host.load(VLM, { keepAliveMs: 3_600_000 });
    const beforeMb = host.usedMb;
    await host.load(VLM, { numCtx: 8192 });
    expect(host.usedMb).toBeGreaterThan(beforeMb + 2000);
    expect(host.scheduler.loaded.get(VLM)?.sessionMs).toBe(300_000);
    await host.load(VLM, { numCtx: 2048 });
    expect(host.usedMb).toBe(beforeMb);
  });
});

describe('too little room', () => {
  it('evicts an idle model when the next does not fit', async () => {
    const host = new TestHost('rtx4090');
    await host.load(VLM);
    await host.load('big:70b');
    expect([...host.scheduler.loaded.keys()]).toEqual(['big:70b']);
    expect(violations(host.recorder.entries)).toEqual([]);
  });

  it('offloads partly, without a word, what does not fit an empty card', async () => {
    const host = new TestHost('laptop-6gb');
    await host.load(VLM);
    const placement = host.scheduler.loaded.get(VLM)?.placement;
    const onGpuMb = Object.values(placement?.vramMb ?? {}).reduce((sum, mb) => sum + mb, 0);
    expect(onGpuMb).toBeGreaterThan(3000);
    expect(onGpuMb).toBeLessThan(placement?.sizeMb ?? 0);
    expect(violations(host.recorder.entries)).toEqual([]);
  });

  it('spreads over all cards what fits none alone', async () => {
    const host = new TestHost('five-gpus');
    await host.load('big:70b');
    const vramMb = host.scheduler.loaded.get('big:70b')?.placement.vramMb ?? {};
    expect(Object.keys(vramMb)).toHaveLength(5);
    expect(violations(host.recorder.entries)).toEqual([]);
  });

  it('keeps at most the set number of models', async () => {
    const host = new TestHost('five-gpus');
    host.scheduler.maxLoadedModels = 1;
    await host.load(VLM);
    await host.load('llava:7b');
    expect([...host.scheduler.loaded.keys()]).toEqual(['llava:7b']);
  });
});

describe('faults', () => {
  it('load-fail fails as often as asked, then loads', async () => {
    const host = new TestHost('rtx4090');
    host.faults.set('load-fail', { times: 2 });
    await expect(host.load(VLM)).rejects.toThrow('llama runner process has terminated');
    await expect(host.load(VLM)).rejects.toThrow('llama runner process has terminated');
    await host.load(VLM);
    expect(host.scheduler.loaded.has(VLM)).toBe(true);
  });

  it('load-hang never ends by itself before the stall limit, and goes on when cleared', async () => {
    const host = new TestHost('rtx4090');
    host.faults.set('load-hang', {});
    const request = host.request(VLM);
    await host.clock.advance(250_000);
    expect(request.state).toBe('waiting');
    host.faults.clear('load-hang');
    await host.clock.advance(10_000);
    expect(request.state).toBe('served');
  });

  it('memory-held keeps the memory after the model and its process are gone, until cleared', async () => {
    const host = new TestHost('rtx4090');
    host.faults.set('memory-held', {});
    await host.load(VLM);
    void host.scheduler.expire(VLM);
    await host.clock.advance(3_600_000);
    expect(host.gpuHost.processes.filter(({ listed }) => listed)).toEqual([]);
    expect(host.usedMb).toBe(10_500 + DRIVER_MB);
    host.faults.clear('memory-held');
    await host.clock.advance(2000);
    expect(host.usedMb).toBe(DRIVER_MB);
  });

  it('a crashed runner stays listed without its memory, until the next request loads it anew', async () => {
    const host = new TestHost('rtx4090');
    await host.load(VLM);
    host.scheduler.loaded.get(VLM)?.crash();
    await host.clock.advance(2000);
    expect(host.scheduler.loaded.has(VLM)).toBe(true);
    expect(host.usedMb).toBe(DRIVER_MB);
    await host.load(VLM);
    expect(host.usedMb).toBe(10_500 + DRIVER_MB);
  });

  it('end after their time, and refuse what is not known', async () => {
    const host = new TestHost('rtx4090');
    host.faults.set('load-hang', { durationMs: 1000 });
    await host.clock.advance(1000);
    expect(host.faults.list()).toEqual([]);
    expect(() => host.faults.set('nope')).toThrow(/known: ollama-unavailable/);
    expect(() => host.faults.set('load-slow', { speed: 1 })).toThrow(/known: model, factor/);
    expect(() => host.faults.set('load-slow')).toThrow(/needs the parameter 'factor'/);
  });
});
