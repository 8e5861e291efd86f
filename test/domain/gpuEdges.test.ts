import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type EdgeSample, findEdges, type GpuEdge, LOST_AFTER_SAMPLES, noEdgesYet } from '../../src/domain/gpuEdges.js';

const rules = { thresholdMb: 100, isOurs: (pid: number) => pid < 10 };

function run(samples: EdgeSample[]): GpuEdge[][] {
  let state = noEdgesYet;
  return samples.map((sample) => {
    const found = findEdges(state, sample, rules);
    state = found.state;
    return found.edges;
  });
}

type Health = 'ok' | 'unknown' | 'lost';
const reading = (usedMb: number | null, health: Health = usedMb === null ? 'unknown' : 'ok', uuid = 'GPU-a') => ({
  uuid,
  usedMb,
  health,
  problem: health === 'ok' ? null : 'why',
});
const only = (usedMb: number | null, health?: Health): EdgeSample => ({
  gpus: [reading(usedMb, health)],
  processes: null,
});

describe('edges', () => {
  it('report a slow drift when it adds up', () => {
    expect(run([500, 550, 599, 600, 650, 500].map((mb) => only(mb)))).toEqual([
      [],
      [],
      [],
      [{ kind: 'vram-changed', uuid: 'GPU-a', fromMb: 500, toMb: 600 }],
      [],
      [{ kind: 'vram-changed', uuid: 'GPU-a', fromMb: 600, toMb: 500 }],
    ]);
  });

  it('take one odd reading for no loss, and several for one', () => {
    const odd = Array.from({ length: LOST_AFTER_SAMPLES + 1 }, () => only(null));
    expect(run([only(500), only(null), only(500), ...odd, only(700)]).flat()).toEqual([
      { kind: 'gpu-lost', uuid: 'GPU-a', problem: 'why' },
      { kind: 'gpu-back', uuid: 'GPU-a', problem: null },
      { kind: 'vram-changed', uuid: 'GPU-a', fromMb: 500, toMb: 700 },
    ]);
  });

  it("take the driver's word at once, and an unknown reading does not undo it", () => {
    expect(run([only(500), only(null, 'lost'), only(null), only(500)])).toEqual([
      [],
      [{ kind: 'gpu-lost', uuid: 'GPU-a', problem: 'why' }],
      [],
      [{ kind: 'gpu-back', uuid: 'GPU-a', problem: null }],
    ]);
  });

  it('lose a GPU that is no longer in the samples', () => {
    const gone = Array.from({ length: LOST_AFTER_SAMPLES }, (): EdgeSample => ({ gpus: [], processes: null }));
    expect(run([only(500), ...gone]).flat()).toMatchObject([{ kind: 'gpu-lost', uuid: 'GPU-a' }]);
  });

  it('tell no process while the list is unknown', () => {
    const process = { uuid: 'GPU-a', pid: 77, name: 'game', usedMb: 300 };
    const list = (processes: EdgeSample['processes']): EdgeSample => ({ gpus: [], processes });
    expect(run([list([process]), list(null), list([process]), list([])])).toEqual([
      [],
      [],
      [],
      [{ kind: 'foreign-process', ...process, came: false }],
    ]);
  });
});

describe('whose a process is', () => {
  const uuid = 'GPU-a';
  const service = { uuid, pid: 77, name: 'service', usedMb: 300 };
  /** @param looks what is listed, and which pids are known as ours at that moment */
  function told(looks: { listed: (typeof service)[]; ours: number[] }[]): GpuEdge[] {
    let state = noEdgesYet;
    return looks.flatMap(({ listed, ours }) => {
      const sample = { gpus: [], processes: listed };
      const found = findEdges(state, sample, { thresholdMb: 100, isOurs: (pid) => ours.includes(pid) });
      state = found.state;
      return found.edges;
    });
  }
  const nothing = { listed: [], ours: [] };

  it('stays: one of ours that has died, and is still listed while its memory comes back, is no stranger', () => {
    const dead = { listed: [service], ours: [] };
    expect(told([nothing, { listed: [service], ours: [77] }, dead, dead, nothing])).toEqual([]);
  });

  it('may be found a moment after it is listed: a new process of ours is no stranger meanwhile', () => {
    expect(told([nothing, { listed: [service], ours: [] }, { listed: [service], ours: [77] }, nothing])).toEqual([]);
  });

  it('is nobody’s again when it is left behind, and lives', () => {
    let state = noEdgesYet;
    const look = (listed: (typeof service)[], rule: { ours: boolean; left: boolean }): GpuEdge[] => {
      const rules = { thresholdMb: 100, isOurs: () => rule.ours, isLeftBehind: () => rule.left };
      const found = findEdges(state, { gpus: [], processes: listed }, rules);
      state = found.state;
      return found.edges;
    };
    expect([look([], { ours: false, left: false }), look([service], { ours: true, left: false })].flat()).toEqual([]);
    const left = { ours: false, left: true };
    expect([look([service], left), look([service], left)].flat()).toMatchObject([{ came: true }]);
  });

  it('may be found a moment after the first list, which tells nobody of it: it has not gone then', () => {
    const [unknown, ours] = [
      { listed: [service], ours: [] },
      { listed: [service], ours: [77] },
    ];
    expect(told([unknown, ours, nothing])).toEqual([]);
    expect(told([unknown, unknown, unknown, ours, nothing])).toEqual([]);
    // One that was told of is taken back.
    expect(told([nothing, unknown, unknown, ours])).toMatchObject([{ came: true }, { came: false }]);
  });

  it('is not told while a tenant is being started, whose it may be', () => {
    let isStarting = true;
    let state = noEdgesYet;
    const look = (listed: (typeof service)[]): GpuEdge[] => {
      const found = findEdges(
        state,
        { gpus: [], processes: listed },
        { thresholdMb: 100, isOurs: () => false, isStarting: () => isStarting },
      );
      state = found.state;
      return found.edges;
    };
    expect([[], [service], [service], [service]].flatMap(look)).toEqual([]);
    isStarting = false;
    expect(look([service])).toMatchObject([{ came: true }]);
  });

  it('is a stranger’s when it is still nobody’s at the next look', () => {
    const foreign = { listed: [service], ours: [] };
    expect(told([nothing, foreign, foreign, foreign, nothing])).toMatchObject([{ came: true }, { came: false }]);
  });

  it('is not remembered beyond its end: the same pid of somebody else is a stranger', () => {
    const foreign = { listed: [service], ours: [] };
    expect(told([{ listed: [service], ours: [77] }, nothing, foreign, foreign])).toMatchObject([{ came: true }]);
  });
});

describe('edges of any sequence', () => {
  const uuid = fc.constantFrom('GPU-a', 'GPU-b');
  const health = fc.constantFrom<Health>('ok', 'ok', 'ok', 'unknown', 'lost');
  const gpus = fc.uniqueArray(
    fc
      .tuple(fc.option(fc.nat({ max: 600 }), { freq: 4 }), health, uuid)
      .map(([mb, health, id]) => reading(mb, mb === null && health === 'ok' ? 'unknown' : health, id)),
    { selector: (gpu) => gpu.uuid },
  );
  const process = fc.record({ uuid, pid: fc.nat({ max: 20 }), name: fc.constant('x'), usedMb: fc.constant(null) });
  const processes = fc.option(fc.uniqueArray(process, { selector: (it) => `${it.uuid}/${it.pid}`, maxLength: 6 }), {
    freq: 4,
  });
  const samples = fc.array(fc.record({ gpus, processes }), { maxLength: 40 });

  it('tell the memory within the threshold: applying them gives the state', () => {
    fc.assert(
      fc.property(samples, (sequence) => {
        const told = new Map<string, number>();
        for (const [at, edges] of run(sequence).entries()) {
          for (const edge of edges)
            if (edge.kind === 'vram-changed') {
              expect(edge.fromMb).toBe(told.get(edge.uuid));
              expect(Math.abs(edge.toMb - edge.fromMb)).toBeGreaterThanOrEqual(rules.thresholdMb);
              told.set(edge.uuid, edge.toMb);
            }
          for (const gpu of sequence[at]?.gpus ?? []) {
            if (gpu.health !== 'ok' || gpu.usedMb === null) continue;
            if (!told.has(gpu.uuid)) told.set(gpu.uuid, gpu.usedMb);
            expect(Math.abs(gpu.usedMb - (told.get(gpu.uuid) ?? 0))).toBeLessThan(rules.thresholdMb);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it('alternate between lost and back, and never call a readable GPU lost', () => {
    fc.assert(
      fc.property(samples, (sequence) => {
        const lost = new Set<string>();
        for (const [at, edges] of run(sequence).entries()) {
          for (const edge of edges) {
            if (edge.kind === 'gpu-lost') expect(lost.has(edge.uuid)).toBe(false);
            if (edge.kind === 'gpu-back') expect(lost.delete(edge.uuid)).toBe(true);
            if (edge.kind === 'gpu-lost') lost.add(edge.uuid);
          }
          for (const gpu of sequence[at]?.gpus ?? []) {
            if (gpu.health === 'ok') expect(lost.has(gpu.uuid)).toBe(false);
            if (gpu.health === 'lost') expect(lost.has(gpu.uuid)).toBe(true);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it('tell the strangers: applying them gives those of the last known list that last, and none of ours', () => {
    fc.assert(
      fc.property(samples, (sequence) => {
        let told: Set<string> | null = null;
        let before = new Set<string>();
        for (const [at, edges] of run(sequence).entries()) {
          for (const edge of edges) {
            if (edge.kind !== 'foreign-process') continue;
            expect(rules.isOurs(edge.pid)).toBe(false);
            const key = `${edge.uuid}/${edge.pid}`;
            expect(told?.has(key)).toBe(!edge.came);
            if (edge.came) told?.add(key);
            else told?.delete(key);
          }
          const list = sequence[at]?.processes ?? null;
          if (list === null) continue;
          const strangers = new Set(list.filter(({ pid }) => !rules.isOurs(pid)).map((it) => `${it.uuid}/${it.pid}`));
          told ??= strangers;
          // One is told when it is there at two looks running.
          const lasting = new Set([...strangers].filter((key) => told?.has(key) || before.has(key)));
          expect(told).toEqual(lasting);
          before = strangers;
        }
      }),
      { numRuns: 300 },
    );
  });
});
