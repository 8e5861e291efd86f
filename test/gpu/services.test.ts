/** P13 on a real card: the services are processes that take their memory by CUDA, the budget is that of P12. */
import { afterAll, beforeAll, beforeEach, describe, expect, it, type TestContext } from 'vitest';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import { freePort } from '../parts/ports.js';
import { startCommand } from '../system/children.js';
import { MEDIA, MEDIA_PHASES, serviceStates } from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';
import { type Card, type Eye, findCard, HOLD_MEMORY, processesOf, watchCard } from './card.js';
import { keepRecord } from './keepRecord.js';

interface Done {
  outcome: OperationOutcome;
}

/** The card of the set-up; a larger one keeps the rest free. */
const BUDGET_MB = 24_576;
/** The most that the context of a process takes beside what its program asked for. */
const CONTEXT_MB = 1_000;

const card = await findCard();

describe('services on a real GPU', () => {
  let gpu: Card;
  let system: System;
  let eye: Eye;
  let atRestMb: number;

  beforeAll(async () => {
    if ('skip' in card) return;
    gpu = card;
    eye = await watchCard(card);
    atRestMb = await eye.takenMb();
    const services: Record<string, object> = {};
    for (const [name, { vramMb, priority }] of Object.entries(MEDIA)) {
      const port = await freePort();
      services[name] = {
        // Of the declared memory its context takes a part.
        run: ['python3', HOLD_MEMORY, String(vramMb - CONTEXT_MB), '--port', String(port)],
        ports: [port],
        vram_mb: vramMb,
        priority,
        health: { http: `http://127.0.0.1:${port}/health` },
      };
    }
    system = await startSystem({
      preset: null,
      config: { services, phases: MEDIA_PHASES, reserve_mb: Math.max(0, gpu.totalMb - BUDGET_MB) },
    });
  });
  beforeEach((context: TestContext) => {
    if ('skip' in card) context.skip(card.skip);
  });
  afterAll(async () => {
    if (system !== undefined) {
      await system.cli('phase', 'prepare', 'none');
      keepRecord('journal services', await system.journal());
    }
    await system?.stop();
    eye?.close();
  });

  const run = async (...argv: string[]) => (await system.json<Done>(argv)).outcome;

  /** In the word of the status and of nvidia-smi: this one runs, with its memory, and no other does. */
  async function expectOnly(name: string): Promise<void> {
    expect(await serviceStates(system)).toEqual(
      Object.fromEntries(Object.keys(MEDIA).map((id) => [id, id === name ? 'ready' : 'stopped'])),
    );
    const listed = [...(await processesOf(gpu))];
    expect(listed).toHaveLength(1);
    const { processes } = await system.until('the list', ({ processes }) => processes?.length === 1);
    expect(processes).toMatchObject([{ owner: `service/${name}`, pid: listed[0]?.[0], used_mb: listed[0]?.[1] }]);
    expect(listed[0]?.[1]).toBeGreaterThan((MEDIA[name]?.vramMb ?? 0) - CONTEXT_MB);
    expect(listed[0]?.[1]).toBeLessThanOrEqual(MEDIA[name]?.vramMb ?? 0);
  }

  it('P13: phase 2 starts vidi; 3 stops it, then starts cosyvoice; 4 stops that, then starts comfyui', async () => {
    for (const [phase, name] of [
      ['2', 'vidi'],
      ['3', 'cosyvoice'],
      ['4', 'comfyui'],
    ] as const) {
      eye.peakMb();
      expect((await run('phase', 'prepare', phase)).status).toBe('done');
      await expectOnly(name);
      // P6: the two were never there together.
      expect(eye.peakMb() - atRestMb).toBeLessThanOrEqual(MEDIA[name]?.vramMb ?? 0);
    }
  });

  it('P13: with cosyvoice running, a start of comfyui by hand stops it, waits for its memory, and starts', async () => {
    await run('phase', 'prepare', '3');
    eye.peakMb();
    expect((await run('service', 'start', 'comfyui')).status).toBe('done');
    await expectOnly('comfyui');
    expect(eye.peakMb() - atRestMb).toBeLessThanOrEqual(MEDIA['comfyui']?.vramMb ?? 0);
  });

  it('P5: a service of lower priority does not stop it, and is refused with its name', async () => {
    const { outcome } = await system.json<Done>(['service', 'start', 'vidi'], 3);
    expect(outcome.status).toBe('refused');
    expect(outcome.refusal?.message).toContain('comfyui');
    await expectOnly('comfyui');
  });

  it('P8: a service that crashes is noticed and started again; kill -9 of the agent touches none', async () => {
    const [crashed = Number.NaN] = [...(await processesOf(gpu)).keys()];
    process.kill(crashed, 'SIGKILL');
    await system.until(
      'it runs again',
      ({ processes, turns }) =>
        turns.length === 0 &&
        (processes ?? []).some(({ pid, owner }) => owner === 'service/comfyui' && pid !== crashed),
    );
    const [again] = [...(await processesOf(gpu)).keys()];
    await system.agent?.kill();
    await system.startAgent();
    await system.until('it is adopted', ({ processes }) =>
      (processes ?? []).some(({ pid, owner }) => owner === 'service/comfyui' && pid === again),
    );
    await expectOnly('comfyui');
  });

  it('P5, P7: a lease of higher priority pushes one out, its program has the memory, and it comes back', async () => {
    await run('phase', 'prepare', '3');
    const lease = ['lease', 'run', '--mb', '22000', '--priority', '90', '--', 'python3', HOLD_MEMORY, '4000'];
    const program = startCommand({ ...system.env }, ...lease);
    expect(await program.next()).toBe('held');
    expect([...(await processesOf(gpu))]).toHaveLength(1);
    await system.until('whose it is', ({ processes }) => processes?.[0]?.owner.startsWith('reservation/') === true);
    await program.interrupt();
    await system.until(
      'it is back',
      ({ processes, turns }) =>
        turns.length === 0 && (processes ?? []).some(({ owner }) => owner === 'service/cosyvoice'),
    );
    await expectOnly('cosyvoice');
    expect(await system.journal('foreign_process')).toEqual([]);
  });

  it('P3: an empty phase frees everything, also where there is no Ollama', async () => {
    expect((await run('phase', 'prepare', 'none')).status).toBe('done');
    expect(await processesOf(gpu)).toEqual(new Map());
    expect((await eye.takenMb()) - atRestMb).toBeLessThan(100);
  });
});
