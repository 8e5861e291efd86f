/** The supervisor with small real children, and its policy bare. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { ChildSpec } from '../../src/embedded/children.js';
import { markerOf, startDetached } from '../../src/embedded/detached.js';
import { lives } from '../../src/embedded/processProof.js';
import { nextRestart, RESTART_POLICY } from '../../src/embedded/restartPolicy.js';
import {
  type Facts,
  findSupervisor,
  runSupervisor,
  stopSupervisor,
  supervisorFiles,
} from '../../src/embedded/supervisor.js';
import { follow, startSupervisor, waitSupervisor } from '../../src/embedded/supervisorProcess.js';

const FACTS: Facts = { host: 'h', temporal: 't:1', webUi: null, agent: 'a', simulated: 'rtx4090' };
const QUICK = { firstMs: 1, maxMs: 4, healthyMs: 60_000, maxQuickDeaths: 3 };
/** Says its pid, then waits for its end. */
const PATIENT = `console.log('up ' + process.pid); setInterval(() => {}, 1e6);`;

let dataFolder: string;
let lines: string[];
let waiters: { pattern: RegExp; done: (match: RegExpMatchArray) => void }[];

beforeEach(async () => {
  dataFolder = await mkdtemp(join(tmpdir(), 'vramflow-supervisor-'));
  lines = [];
  waiters = [];
});

afterEach(async () => {
  await stopSupervisor(dataFolder);
  await rm(dataFolder, { recursive: true, force: true });
});

function say(line: string): void {
  lines.push(line);
  for (const waiter of waiters) {
    const match = waiter.pattern.exec(line);
    if (match !== null) waiter.done(match);
  }
}

/** The next line that matches. */
const heard = (pattern: RegExp) => new Promise<RegExpMatchArray>((done) => waiters.push({ pattern, done }));

const child = (name: string, script: string): ChildSpec => ({
  name,
  command: process.execPath,
  args: ['-e', script],
  env: process.env,
});

function run(children: ChildSpec[], more: { waitReady?: () => Promise<Facts>; graceMs?: number } = {}) {
  const stop = new AbortController();
  const ended = runSupervisor({
    dataFolder,
    say,
    signal: stop.signal,
    policy: QUICK,
    graceMs: more.graceMs ?? 5_000,
    bringUp: () =>
      Promise.resolve({
        children,
        keep: () => Promise.resolve(),
        waitReady: more.waitReady ?? (() => Promise.resolve(FACTS)),
      }),
  });
  return { stop, ended };
}

const record = async () => JSON.parse(await readFile(supervisorFiles(dataFolder).record, 'utf8')) as { ready: boolean };

describe('runSupervisor', () => {
  it('prefixes lines, starts a killed child again, and ends all at the signal', async () => {
    const { stop, ended } = run([child('one', PATIENT), child('two', PATIENT)]);
    const [, first] = await heard(/^\[one\] up (\d+)/);
    const again = heard(/^\[one\] up (\d+)/);
    process.kill(Number(first), 'SIGKILL');
    const [, second] = await again;
    expect(second).not.toBe(first);
    expect(lines).toContain('The one ended with SIGKILL; it starts again in 1 ms.');
    stop.abort();
    await ended;
    expect(() => process.kill(Number(second), 0)).toThrow('ESRCH');
  });

  it('kills a child that ignores SIGTERM after the grace', async () => {
    const { stop, ended } = run([child('deaf', `process.on('SIGTERM', () => {}); ${PATIENT}`)], { graceMs: 100 });
    const [, pid] = await heard(/^\[deaf\] up (\d+)/);
    stop.abort();
    await ended;
    expect(() => process.kill(Number(pid), 0)).toThrow('ESRCH');
  });

  it('gives up on a child that keeps dying, ends the others, and says which', async () => {
    const { ended } = run([child('good', PATIENT), child('bad', 'process.exit(3)')]);
    const good = heard(/^\[good\] up (\d+)/);
    await expect(ended).rejects.toMatchObject({
      kind: 'child-failed',
      message: 'The bad ended 3 times in a row soon after its start, the last time with exit code 3.',
    });
    const [, pid] = await good;
    expect(() => process.kill(Number(pid), 0)).toThrow('ESRCH');
  });

  it('says that a program is missing instead of crashing', async () => {
    const { ended } = run([{ ...child('gone', ''), command: join(dataFolder, 'missing') }]);
    await expect(ended).rejects.toMatchObject({
      kind: 'child-failed',
      message: expect.stringContaining('ENOENT') as string,
    });
  });

  it('is ready once everything answers, and there is only one', async () => {
    let allAnswer = (_facts: Facts) => {};
    const waitReady = () => new Promise<Facts>((done) => (allAnswer = done));
    const { stop, ended } = run([child('one', PATIENT)], { waitReady });
    await heard(/^\[one\] up/);
    expect(await record()).toMatchObject({ ready: false, facts: null });
    await expect(run([]).ended).rejects.toMatchObject({ kind: 'locked' });
    allAnswer(FACTS);
    await expect.poll(record).toMatchObject({ ready: true, facts: FACTS });
    stop.abort();
    await ended;
    expect(await record()).toMatchObject({ process: null });
  });

  it('ends its children when what they wait for fails', async () => {
    const error = new Error('no server');
    const { ended } = run([child('one', PATIENT)], { waitReady: () => Promise.reject(error) });
    await expect(ended).rejects.toBe(error);
  });

  it('ends the workers that a killed supervisor left, and no stranger', async () => {
    const started = (marker: string, name: string) =>
      startDetached({ command: process.execPath, args: ['-e', PATIENT], marker, logFile: join(dataFolder, name) });
    const orphan = await started(markerOf(dataFolder, 'supervised'), 'orphan.log');
    const stranger = await started('somebody else', 'stranger.log');
    const { stop, ended } = run([child('one', PATIENT)]);
    await heard(/^\[one\] up/);
    await orphan.exited;
    expect(lines[0]).toMatch(/^Ended 1 worker process/);
    expect(stranger.identity !== null && (await lives(stranger.identity))).toBe(true);
    process.kill(stranger.pid);
    await stranger.exited;
    stop.abort();
    await ended;
  });
});

describe('the process of the supervisor', () => {
  const start = (script: string) =>
    startSupervisor({ dataFolder, command: process.execPath, args: ['-e', script], env: process.env, cwd: dataFolder });

  it('is found by its marker, waited for, and ended by proof', async () => {
    const { pid, identity, exited } = await start(PATIENT);
    expect(await findSupervisor(dataFolder)).toMatchObject({ process: { pid }, ready: false });
    const signal = new AbortController().signal;
    const waiting = waitSupervisor({ dataFolder, ended: () => false, readyMs: 10_000, signal });
    const ready = { process: identity, ready: true, facts: FACTS };
    await writeFile(supervisorFiles(dataFolder).record, JSON.stringify(ready));
    expect(await waiting).toEqual(ready);
    expect(await stopSupervisor(dataFolder)).toEqual({ supervisor: pid, orphans: 0 });
    expect(await exited).toMatchObject({ signal: 'SIGTERM' });
    expect(await findSupervisor(dataFolder)).toBeNull();
    expect(await stopSupervisor(dataFolder)).toEqual({ supervisor: null, orphans: 0 });
  });

  it('is not waited for once it has ended', async () => {
    const { exited } = await start('process.exit(1)');
    await exited;
    const signal = new AbortController().signal;
    const waiting = waitSupervisor({ dataFolder, ended: () => true, readyMs: 10_000, signal });
    await expect(waiting).rejects.toMatchObject({ kind: 'died' });
  });

  it('is followed by its log, to the last line', async () => {
    const { exited, logOffset } = await start(`console.log('first'); setTimeout(() => console.log('last'), 50)`);
    let text = '';
    const stop = new AbortController();
    const following = follow(supervisorFiles(dataFolder).log, logOffset, (more) => (text += more), stop.signal);
    await exited;
    stop.abort();
    await following;
    expect(text).toBe('first\nlast\n');
  });
});

describe('nextRestart', () => {
  it('waits longer each time, within bounds, and gives up after so many quick deaths', () => {
    const lived = fc.array(fc.nat({ max: 2 * RESTART_POLICY.healthyMs }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(lived, (times) => {
        let quick = 0;
        let before = 0;
        for (const livedMs of times) {
          const next = nextRestart(quick, livedMs, RESTART_POLICY);
          const healthy = livedMs >= RESTART_POLICY.healthyMs;
          if (next === 'give-up') return !healthy && quick + 1 === RESTART_POLICY.maxQuickDeaths;
          expect(next.delayMs).toBeLessThanOrEqual(RESTART_POLICY.maxMs);
          expect(next.delayMs).toBeGreaterThanOrEqual(healthy ? RESTART_POLICY.firstMs : before);
          expect(next.quickDeaths).toBe(healthy ? 1 : quick + 1);
          quick = next.quickDeaths;
          before = next.delayMs;
        }
        return true;
      }),
    );
  });
});
