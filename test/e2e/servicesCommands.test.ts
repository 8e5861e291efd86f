/** What the commands about services and the card say, as text and as JSON, beside what the simulated host records. */
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { EXIT } from '../../src/cli/exitCodes.js';
import type { PlanPreview } from '../../src/contracts/operation.js';
import type { Status } from '../../src/contracts/status.js';
import type { Fit } from '../../src/domain/canFit.js';
import { startCommand } from '../system/children.js';
import { changesIn, expectNoViolation, fromNow, stranger } from '../system/judge.js';
import { livingServices, MEDIA, MEDIA_PHASES, servicesOf, stopWithServices } from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';

interface Listed {
  name: string;
  state: string;
  vram_mb: number;
}

describe('the commands about services', { timeout: 120_000 }, () => {
  let system: System;
  let card: string;
  beforeAll(async () => {
    system = await startSystem({ speed: 10, config: { services: await servicesOf(MEDIA), phases: MEDIA_PHASES } });
    card = system.simulator.gpuHost.card(0).spec.uuid;
  }, 120_000);
  afterEach(() => expectNoViolation(system));
  afterAll(() => stopWithServices(system));

  const text = async (argv: string[], code: number = EXIT.ok) => {
    const result = await system.cli(...argv);
    expect(result, argv.join(' ')).toMatchObject({ code });
    return result.stdout;
  };
  const prepare = (phase: string) => system.json(['phase', 'prepare', phase]);
  /** What only vidi runs for: it is ready, and the driver lists its memory. */
  const onlyVidi = async () => {
    await prepare('2');
    const holds = ({ processes }: Status) => processes?.some(({ owner }) => owner === 'service/vidi') === true;
    await system.until('its memory is listed', holds);
  };

  it('service list: each service of the configuration, its state, and what it holds', async () => {
    await onlyVidi();
    const { services, simulated } = await system.json<{ services: Listed[]; simulated: boolean }>(['service', 'list']);
    expect(simulated).toBe(true);
    expect(services.map(({ name, state }) => [name, state])).toEqual([
      ['comfyui', 'stopped'],
      ['cosyvoice', 'stopped'],
      ['vidi', 'ready'],
      ['server', 'stopped'],
    ]);
    const [stopped, , ready] = services;
    expect(stopped).toMatchObject({ vram_mb: 0, charge_mb: 20_480, running_for_ms: null });
    expect(ready).toEqual({
      name: 'vidi',
      state: 'ready',
      driver: 'native',
      priority: 40,
      vram_mb: 4_096,
      declared_mb: 4_096,
      seen_mb: 4_096,
      charge_mb: 4_096,
      charge_source: 'declared',
      running_for_ms: expect.any(Number),
      trouble: null,
    });
    const lines = (await text(['service', 'list'])).split('\n').map((line) => line.split(/ {2,}/));
    const titles = ['service', 'state', 'run by', 'priority', 'VRAM MB', 'declared MB', 'most seen MB', 'charged MB'];
    expect(lines[0]).toEqual([...titles, 'trouble']);
    expect(lines).toContainEqual(['vidi', 'ready', 'native', '40', '4096', '4096', '4096', '4096 (declared)', '–']);
  });

  it("service logs: the run's last lines, also by the agent's own route", async () => {
    await onlyVidi();
    const all = (await text(['service', 'logs', 'vidi'])).trimEnd().split('\n');
    expect(all[0]).toBe(`vidi: starting on ${card}`);
    expect(all.at(-1)).toMatch(/^vidi: ready on http/);
    const last = await text(['service', 'logs', 'vidi', '--tail', '1', '-o', 'json']);
    expect(JSON.parse(last)).toEqual({ line: all.at(-1) });
    const ofRoute: string[] = [];
    for await (const line of system.agentApi.lines('/v1/services/vidi/logs?tail=50&follow=false')) ofRoute.push(line);
    expect(ofRoute).toEqual(all);
    await expect(system.agentApi.get('/v1/services/nobody/logs')).rejects.toThrow(/no service "nobody"/);
    await expect(system.agentApi.get('/v1/services/vidi/logs?tail=many')).rejects.toThrow(/tail/);
    const unknown = await system.cli('service', 'logs', 'vido');
    expect(unknown).toMatchObject({ code: EXIT.usage, stderr: expect.stringMatching(/Did you mean vidi\?/) });
  });

  it('service logs -f: goes on with what comes, over the end of a run to the next, until Ctrl-C', async () => {
    await onlyVidi();
    const following = startCommand(system.env, 'service', 'logs', 'vidi', '-f', '--tail', '1', '-o', 'json');
    onTestFinished(async () => void (await following.interrupt()));
    const next = async () => (JSON.parse(await following.next()) as { line: string }).line;
    expect(await next()).toMatch(/^vidi: ready on/);
    await system.json(['service', 'stop', 'vidi']);
    expect(await next()).toBe('vidi: stopping');
    await system.json(['service', 'start', 'vidi']);
    expect(await next()).toBe(`vidi: starting on ${card}`);
    expect(await next()).toMatch(/^vidi: ready on/);
  });

  it('gpu ps: which process is whose, and what no list has', async () => {
    await onlyVidi();
    const blender = stranger(system, 1_000);
    onTestFinished(() => blender.end());
    await system.until('it is seen', ({ processes }) => processes?.some(({ used_mb }) => used_mb === 1_000) === true);
    const [vidi] = livingServices(system, 'vidi');
    const { processes, unlisted } = await system.json<Pick<Status, 'processes'> & { unlisted: object[] }>([
      'gpu',
      'ps',
    ]);
    expect(processes).toHaveLength(2);
    expect(processes).toContainEqual(
      expect.objectContaining({ gpu: card, pid: vidi?.pid, used_mb: 4_096, owner: 'service/vidi' }),
    );
    expect(processes).toContainEqual(expect.objectContaining({ used_mb: 1_000, owner: 'foreign' }));
    const { gpuHost } = system.simulator;
    const restMb = gpuHost.card(0).spec.totalMb - gpuHost.freeMb(gpuHost.card(0)) - 4_096 - 1_000;
    expect(restMb).toBeGreaterThan(500);
    expect(unlisted).toEqual([{ gpu: card, mb: restMb }]);
    const lines = (await text(['gpu', 'ps'])).split('\n').map((line) => line.trim().split(/ {2,}/));
    expect(lines).toContainEqual([card.slice(0, 12), String(vidi?.pid), '4096', 'service/vidi', 'vidi']);
    expect(lines).toContainEqual([
      card.slice(0, 12),
      '-',
      String(restMb),
      'foreign',
      'the desktop, the driver itself, and processes that it does not list',
    ]);
  });

  it('plan phase, plan service start: what would happen, with nothing changed', async () => {
    await onlyVidi();
    const since = fromNow(system);
    const stepsOf = async (argv: string[]) => {
      const { plan } = await system.json<PlanPreview>(argv);
      return plan.kind === 'plan' ? plan.steps.map(({ kind, tenant }) => `${kind} ${tenant}`) : [plan.refusal.code];
    };
    const toThree = ['unload service/vidi', 'load service/cosyvoice'];
    expect(await stepsOf(['plan', 'phase', '3'])).toEqual(toThree);
    expect(await stepsOf(['plan', 'phase', '2'])).toEqual([]);
    // 4 + 20 GB and the desktop: more than the card has, and vidi has the lower priority.
    const forComfyui = ['unload service/vidi', 'load service/comfyui'];
    expect(await stepsOf(['plan', 'service', 'start', 'comfyui'])).toEqual(forComfyui);
    expect(await stepsOf(['plan', 'service', 'start', 'cosyvoice'])).toEqual(['load service/cosyvoice']);
    expect(await text(['plan', 'phase', '3'])).toMatch(/service\/vidi[\s\S]*service\/cosyvoice/);
    expect(changesIn(since())).toEqual([]);

    await prepare('4');
    const refused = await system.json<PlanPreview>(['plan', 'service', 'start', 'vidi'], EXIT.refused);
    expect(refused.plan).toMatchObject({ refusal: { code: 'holder-outranks' } });
    expect(await text(['plan', 'service', 'start', 'vidi'], EXIT.refused)).toContain('vramflow service stop comfyui');
    expect(await system.cli('plan', 'phase', '9')).toMatchObject({ code: EXIT.usage, stdout: '' });
    expect(await system.cli('plan', 'service', 'start', 'comfiui')).toMatchObject({
      code: EXIT.usage,
      stderr: expect.stringMatching(/Did you mean comfyui\?/),
    });
  });

  it('can-fit: what is free fits, and one MB more does not', async () => {
    await prepare('none');
    const { gpuHost } = system.simulator;
    const freeMb = gpuHost.freeMb(gpuHost.card(0));
    const fit = await system.json<Fit>(['can-fit', '1000']);
    expect(fit).toMatchObject({ fits: true });
    const said = fit.freeMb[card] ?? 0;
    expect(said).toBe(freeMb);
    expect(await system.json<Fit>(['can-fit', String(said)])).toEqual({ fits: true, freeMb: { [card]: said } });
    expect(await system.json<Fit>(['can-fit', String(said + 1)], EXIT.refused)).toMatchObject({ fits: false });
    expect(await text(['can-fit', String(said)])).toBe(`fits\n${card}: ${said} MB free\n`);
    expect(await text(['can-fit', '90000'], EXIT.refused)).toMatch(/^does not fit\n/);
    expect(await system.cli('can-fit', 'much')).toMatchObject({ code: EXIT.usage, stdout: '' });
  });
});
