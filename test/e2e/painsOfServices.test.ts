/** Pains 4 to 8 of what users of other products report, where services are what holds the memory. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { entriesOf, expectNoViolation, fromNow, type Printed } from '../system/judge.js';
import {
  livingServices,
  MEDIA,
  MEDIA_PHASES,
  serviceStarts,
  serviceStates,
  servicesOf,
  stopWithServices,
} from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';

const STOP_SECONDS = 4;

describe('pains of other products: services', { timeout: 90_000 }, () => {
  let system: System;
  beforeAll(async () => {
    const services = await servicesOf(MEDIA, {
      service: { stop_timeout_seconds: STOP_SECONDS },
      health: { interval_seconds: 0.3, failures: 2 },
    });
    // A stop of it is given up: its grace must not be over by then.
    const patient = { ...services['vidi'], stop_timeout_seconds: 60 };
    system = await startSystem({
      speed: 2,
      config: {
        vram_poll_ms: 100,
        reconcile_seconds: 5,
        services: { ...services, vidi: patient },
        phases: MEDIA_PHASES,
      },
    });
  });
  afterEach(async () => {
    system.simulator.faults.clear();
    expectNoViolation(system);
    await system.json(['phase', 'prepare', 'none']);
  });
  afterAll(() => stopWithServices(system));

  const prepare = (phase: string) => system.json<Printed>(['phase', 'prepare', phase]);
  const pidOf = (name: string): number => {
    const [process] = livingServices(system, name);
    if (process === undefined) throw new Error(`${name} does not run`);
    return process.pid;
  };
  /** A program of somebody else: a real process, so that a signal to it would be seen. */
  const realStranger = (mb: number) => {
    const { gpuHost } = system.simulator;
    const child = spawn('sleep', ['600'], { stdio: 'ignore' });
    const held = gpuHost.startProcess('compute', '/usr/bin/sleep', child.pid);
    const hold = (more: number) => gpuHost.resize(held, gpuHost.card(0).spec.uuid, more);
    hold(mb);
    return {
      hold,
      lives: () => child.exitCode === null && child.signalCode === null,
      async end() {
        child.kill('SIGKILL');
        await once(child, 'exit');
        void gpuHost.end(held);
        await system.until('it has gone', ({ gpus }) => (gpus[0]?.foreignMb ?? Number.POSITIVE_INFINITY) < 2_000);
      },
    };
  };

  it('pain 4: the next service never starts before the memory is back, however slowly it comes', async () => {
    await prepare('3');
    system.simulator.faults.set('reclaim-slow', { ms: 4_000 });
    const since = fromNow(system);
    const { outcome } = await prepare('4');
    expect(outcome.steps[0]?.proof.by).toMatch(/used memory dropped by 4096 MB/);
    const [reclaimed] = entriesOf(since(), 'reclaimed', { name: 'cosyvoice' });
    const [started] = serviceStarts(since());
    expect(started?.name).toBe('comfyui');
    expect(Date.parse(started?.at ?? '')).toBeGreaterThanOrEqual(Date.parse(reclaimed?.at ?? ''));
  });

  it('pain 5: the agent dies: its services go on, are neither orphaned nor killed, and its successor ends them', async () => {
    await prepare('2');
    await system.json(['service', 'start', 'cosyvoice']);
    const pids = [pidOf('vidi'), pidOf('cosyvoice')];
    const since = fromNow(system);
    await system.agent?.kill();
    expect(livingServices(system).map(({ pid }) => pid)).toEqual(pids);
    await system.startAgent();
    expect(await serviceStates(system)).toMatchObject({ vidi: 'ready', cosyvoice: 'ready' });
    const { processes } = await system.status();
    const owners = pids.map((pid) => processes?.find((one) => one.pid === pid)?.owner);
    expect(owners).toEqual(['service/vidi', 'service/cosyvoice']);
    expect(serviceStarts(since())).toEqual([]);
    await prepare('3');
    expect(livingServices(system).map(({ pid }) => pid)).toEqual(pids.slice(1));
  });

  it("pain 6: a stranger's memory is seen and respected, also where it grows; the stranger is never touched", async () => {
    await prepare('3');
    const game = realStranger(12_000);
    await system.until('it is seen', ({ gpus: [gpu] }) => (gpu?.foreignMb ?? 0) > 12_000);
    expect((await system.json<Printed>(['phase', 'prepare', '4'], 3)).outcome.refusal?.code).toBe('not-enough-vram');
    // Refused before anything was stopped.
    expect((await serviceStates(system))['cosyvoice']).toBe('ready');
    expect((await system.json<Printed>(['service', 'start', 'vidi'])).outcome.status).toBe('done');
    game.hold(15_000);
    await system.until('it has grown', ({ gpus: [gpu] }) => (gpu?.foreignMb ?? 0) > 15_000);
    expect(await serviceStates(system)).toMatchObject({ vidi: 'ready', cosyvoice: 'ready' });
    expect((await system.json<Printed>(['service', 'start', 'server'], 3)).outcome.refusal).not.toBeNull();
    expect(game.lives()).toBe(true);
    await game.end();
  });

  it('pain 6: the same program, started by somebody else, is a stranger: it is named, and never killed', async () => {
    const [file = '', ...args] = system.simulator.info.service;
    const child = spawn(file, [...args, '--name', 'vidi'], { stdio: 'ignore' });
    try {
      await system.until('it is seen', ({ gpus: [gpu] }) => (gpu?.foreignMb ?? 0) > 4_000);
      const { outcome } = await system.json<Printed>(['service', 'start', 'vidi'], 5);
      expect(outcome.failure?.message).toMatch(new RegExp(`^Port .* is taken by process ${child.pid}`));
      await prepare('none');
      expect(child.exitCode === null && child.signalCode === null).toBe(true);
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await system.until('it has gone', ({ gpus }) => (gpus[0]?.foreignMb ?? Number.POSITIVE_INFINITY) < 2_000);
    expect((await system.json<Printed>(['service', 'start', 'vidi'])).outcome.status).toBe('done');
  });

  /** When it started, from the first start on, while each time that it is ready it is ended by `end`. */
  async function startsWhile(name: string, count: number, end: () => Promise<void> | void): Promise<number[]> {
    const since = fromNow(system);
    await prepare('2');
    for (let time = 1; time < count; time += 1) {
      const starts = () => serviceStarts(since()).filter((one) => one.name === name);
      await system.until(`${name} is ready, ${time}`, ({ tenants }) =>
        tenants.some(({ id, state }) => id === `service/${name}` && state === 'resident'),
      );
      await end();
      await system.until(`${name} is started again, ${time}`, () => starts().length > time, 45_000);
      system.simulator.faults.clear();
    }
    return serviceStarts(since()).map(({ at }) => Date.parse(at));
  }
  const gapsOf = (times: number[]): number[] => times.slice(1).map((time, index) => time - (times[index] ?? time));

  /** 1 s, then twice as long each time; what the service itself takes comes on top. */
  const expectBackOff = (gaps: number[]): void => {
    expect(gaps).toHaveLength(3);
    for (const [index, gap] of gaps.entries()) {
      expect(gap, `${gaps.join(', ')} ms`).toBeGreaterThanOrEqual(1_000 * 2 ** index);
    }
  };

  it('pain 7: a service that dies again and again is started again less and less often', async () => {
    expectBackOff(gapsOf(await startsWhile('vidi', 4, () => void process.kill(pidOf('vidi'), 'SIGKILL'))));
  });

  it('pain 7: so is one that becomes unhealthy again and again', async () => {
    const sicken = () => system.simulator.faults.set('service-unhealthy', { service: 'vidi' });
    expectBackOff(gapsOf(await startsWhile('vidi', 4, sicken)));
  });

  it('pain 7: one that cannot be started is tried again while it is wanted, and its phase says why it is degraded', async () => {
    await prepare('2');
    const before = (await system.journal('service_failed')).length;
    const strangers = (await system.journal('foreign_process')).length;
    // The list shows a dead process for a while.
    system.simulator.faults.set('reclaim-slow', { ms: 2_000, durationMs: 10_000 });
    system.simulator.faults.set('service-fail', { service: 'vidi', count: 3 });
    process.kill(pidOf('vidi'), 'SIGKILL');
    await system.until(
      'its phase is degraded, and says when it is tried again',
      ({ phase_problem: problem }) => /^vidi is failed: .*did not become ready.*next try at 20/.test(problem ?? ''),
      20_000,
    );
    await system.until('it is ready', ({ phase_problem: problem }) => problem === null, 45_000);
    const failures = (await system.journal('service_failed')).slice(before);
    // Its death, then each start that failed.
    expect(failures).toHaveLength(4);
    const gaps = gapsOf(failures.map(({ time }) => Date.parse(time)));
    for (const [index, gap] of gaps.entries()) expect(gap, gaps.join(', ')).toBeGreaterThanOrEqual(900 * 2 ** index);
    expect(Math.max(...gaps)).toBeLessThan(15_000);
    // A service of our own that dies and comes back is no stranger at any moment.
    expect((await system.journal('foreign_process')).slice(strangers)).toEqual([]);
  });

  it('pain 8: memory that does not come back is not forgotten: its GPU takes nothing new until it is back', async () => {
    await prepare('3');
    system.simulator.faults.set('memory-held', { of: 'service' });
    const { outcome } = await system.json<Printed>(['phase', 'prepare', '4'], 3);
    expect(outcome.refusal).toMatchObject({
      code: 'device-quarantined',
      message: expect.stringContaining('4096 MB of service/cosyvoice did not come back'),
    });
    expect((await system.json<Printed>(['service', 'start', 'vidi'], 3)).outcome.refusal?.code).toBe(
      'device-quarantined',
    );
    const { gpus } = await system.status();
    expect(gpus[0]?.quarantine).toMatch(/service\/cosyvoice/);
    expect((await system.journal('quarantined')).at(-1)?.message).toMatch(/did not come back/);
    expect(livingServices(system)).toEqual([]);
    system.simulator.faults.clear();
    await system.until('the quarantine ends', ({ gpus: [gpu] }) => gpu?.quarantine === null);
    expect((await prepare('4')).outcome.status).toBe('done');
  });

  it('pain 8: a stop that its caller gave up is not a state for ever: the service says what it is', async () => {
    await prepare('2');
    const pid = pidOf('vidi');
    system.simulator.faults.set('service-deaf', { service: 'vidi' });
    const { workflow_id: id } = await system.json<{ workflow_id: string }>(['service', 'stop', 'vidi', '--no-wait']);
    await system.until('it is being stopped', ({ tenants }) =>
      tenants.some(({ id: tenant, state }) => tenant === 'service/vidi' && state === 'unloading'),
    );
    await system.client.workflow.getHandle(id).cancel();
    await system.until('the operation has ended', ({ turns }) => turns.length === 0);
    await system.until('it says that it is ready', ({ tenants }) =>
      tenants.some(({ id: tenant, state }) => tenant === 'service/vidi' && state === 'resident'),
    );
    expect(pidOf('vidi')).toBe(pid);
  });
});
