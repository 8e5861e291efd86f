import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  createEmbedderLauncher,
  type EmbedDevice,
  type EmbedderErrorKind,
  type LauncherOptions,
} from '../../../src/adapters/clip/embedder.js';
import { embedderDetails } from '../../../src/adapters/clip/embedderRecord.js';
import { createRecordStore } from '../../../src/adapters/processes/records.js';
import { DECLARED_GPU } from '../../../src/contracts/names.js';
import { findProcesses } from '../../../src/processes/proc.js';
import { asIntent, killGroup, lives, startOwned, tempFolder, tidyLater } from '../processes/owned.js';

const FAKE = fileURLToPath(new URL('fakeEmbedder.mjs', import.meta.url));
const soon = () => AbortSignal.timeout(20_000);

async function launcherOf(fault: string, more: Partial<LauncherOptions> = {}) {
  const stateDir = join(await tempFolder(), 'state');
  const options = { command: [process.execPath, FAKE, fault], model: 'm', stateDir, gpuProvider: 'cuda', ...more };
  const launcher = createEmbedderLauncher(options);
  tidyLater(async () => {
    for (const pid of await processesOf(stateDir)) killGroup(pid);
  });
  return { launcher, stateDir: options.stateDir, options };
}

/** Whoever has the folder in its command line, ended or not known to anybody. */
async function processesOf(stateDir: string): Promise<number[]> {
  const found = await findProcesses(async ({ pid }) =>
    (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).includes(stateDir),
  );
  return found.map(({ pid }) => pid);
}

async function expectNothingLeft(stateDir: string): Promise<void> {
  expect(await processesOf(stateDir)).toEqual([]);
  expect(await readdir(stateDir)).toEqual([]);
}

describe.runIf(process.platform === 'linux')('the embedder launcher', () => {
  const startFaults: [fault: string, device: EmbedDevice, kind: EmbedderErrorKind, words: string][] = [
    ['dies', 'cpu', 'start-failed', 'ended with code 3 before it was ready: fault dies'],
    ['fails:no such model', 'cpu', 'start-failed', 'no such model'],
    ['fails:OrtSessionOptionsAppendExecutionProvider_Cuda: Failed to load shared library', 'cuda', 'no-cuda', 'Cuda'],
    ['fails:CUDA failure 2: out of memory', 'cuda', 'out-of-memory', 'out of memory'],
    ['fails:part-missing: not installed', 'cpu', 'part-missing', 'not installed'],
    ['elsewhere', 'cuda', 'protocol', 'asked for cuda and runs on cpu'],
    ['quietly-on-cpu', 'cuda', 'protocol', 'asked for cuda and runs on cuda (cpu)'],
  ];
  it.each(startFaults)('a start that %s on %s fails as %s and leaves nothing', async (fault, device, kind, words) => {
    const { launcher, stateDir } = await launcherOf(fault);
    const start = launcher.start(device, { gpu: null, signal: soon() });
    await expect(start).rejects.toMatchObject({
      name: 'EmbedderError',
      kind,
      message: expect.stringContaining(words) as string,
      remedy: expect.stringMatching(/.+/) as string,
    });
    await expectNothingLeft(stateDir);
  });

  it('says so when the program does not exist, and leaves nothing', async () => {
    const { launcher, stateDir } = await launcherOf('', { command: ['/no/such/program'] });
    const start = launcher.start('cpu', { gpu: null, signal: soon() });
    await expect(start).rejects.toMatchObject({
      kind: 'start-failed',
      message: expect.stringContaining('ENOENT') as string,
    });
    await expectNothingLeft(stateDir);
  });

  it.each(['hangs', 'deaf'])(
    'an abort of a start leaves nothing, also of a process deaf to SIGTERM (%s)',
    async (fault) => {
      const { launcher, stateDir } = await launcherOf(fault);
      const stop = new AbortController();
      const start = launcher.start('cpu', {
        gpu: null,
        signal: stop.signal,
        onProgress: () => stop.abort(new Error('superseded')),
      });
      await expect(start).rejects.toThrow('superseded');
      await expectNothingLeft(stateDir);
    },
  );

  it('a deadline that passes is a timeout, and leaves nothing', async () => {
    const { launcher, stateDir } = await launcherOf('hangs');
    const start = launcher.start('cpu', { gpu: null, signal: AbortSignal.timeout(300) });
    await expect(start).rejects.toMatchObject({ kind: 'timeout' });
    await expectNothingLeft(stateDir);
  });

  it('does not start for a caller who has gone', async () => {
    const { launcher, stateDir } = await launcherOf('none');
    const start = launcher.start('cpu', { gpu: null, signal: AbortSignal.abort(new Error('gone')) });
    await expect(start).rejects.toThrow('gone');
    expect(await processesOf(stateDir)).toEqual([]);
  });

  it('names the GPU and the provider to the process, and only for cuda', async () => {
    const { launcher } = await launcherOf('none', { gpuProvider: 'special' });
    const commandOf = async (pid: number) => (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
    const onGpu = await launcher.start('cuda', { gpu: 'GPU-1', signal: soon() });
    const command = await commandOf(onGpu.pid);
    expect(command[command.indexOf('--gpu') + 1]).toBe('GPU-1');
    expect(onGpu).toMatchObject({ device: 'cuda', provider: 'special', dimension: 2 });
    const onCpu = await launcher.start('cpu', { gpu: 'GPU-1', signal: soon() });
    expect(await commandOf(onCpu.pid)).not.toContain('--gpu');
    // Nobody knows the id of a GPU that is only declared: the process takes what CUDA shows it.
    const onDeclared = await launcher.start('cuda', { gpu: DECLARED_GPU, signal: soon() });
    expect(onDeclared).toMatchObject({ device: 'cuda', gpu: DECLARED_GPU });
    expect(await commandOf(onDeclared.pid)).not.toContain('--gpu');
    for (const process of [onGpu, onCpu, onDeclared]) await launcher.end(process, { signal: soon(), graceMs: 5_000 });
  });

  const answers: [fault: string, kind: EmbedderErrorKind][] = [
    ['garbage', 'protocol'],
    ['too-few', 'protocol'],
    ['full', 'out-of-memory'],
    ['silent', 'timeout'],
  ];
  it.each(answers)('an answer of the kind "%s" is a failure of the kind %s', async (fault, kind) => {
    const { launcher } = await launcherOf(fault);
    const process = await launcher.start('cpu', { gpu: null, signal: soon() });
    await expect(process.embedText(['a'], AbortSignal.timeout(400))).rejects.toMatchObject({ kind });
    await launcher.end(process, { signal: soon(), graceMs: 100 });
    await expect(process.embedText(['a'], soon())).rejects.toMatchObject({ kind: 'gone' });
  });

  it('ends one that says yes and stays, and one that is gone already', async () => {
    const { launcher, stateDir } = await launcherOf('stays');
    const process = await launcher.start('cpu', { gpu: null, signal: soon() });
    expect(await process.alive()).toBe(true);
    await launcher.end(process, { signal: soon(), graceMs: 100 });
    expect(await process.alive()).toBe(false);
    await launcher.end(process, { signal: soon(), graceMs: 100 });
    await expectNothingLeft(stateDir);
  });

  it('notices a death, and forgets the dead', async () => {
    const { launcher, stateDir } = await launcherOf('none');
    const embedder = await launcher.start('cpu', { gpu: null, signal: soon() });
    process.kill(embedder.pid, 'SIGKILL');
    await expect.poll(() => embedder.alive()).toBe(false);
    // Its socket is closed a moment before the process is gone.
    const forgotten = async () => [...(await launcher.running()), ...(await readdir(stateDir))];
    await expect.poll(forgotten).toEqual([]);
    await expectNothingLeft(stateDir);
  });

  it('works in a folder whose name is too long for a socket', async () => {
    const stateDir = join(await tempFolder(), 'x'.repeat(120));
    await mkdir(stateDir);
    const { launcher } = await launcherOf('none', { stateDir });
    const process = await launcher.start('cpu', { gpu: null, signal: soon() });
    expect(await process.embedText(['a'], soon())).toEqual([[1, 0]]);
    await launcher.end(process, { signal: soon(), graceMs: 5_000 });
    await expectNothingLeft(stateDir);
  });

  it('adopts what an earlier life started, once the record says that it was ready', async () => {
    const { launcher, options } = await launcherOf('none');
    const started = await launcher.start('cuda', { gpu: 'GPU-1', signal: soon() });
    const [adopted, ...others] = await createEmbedderLauncher(options).running();
    expect(others).toEqual([]);
    expect(adopted).toMatchObject({ device: 'cuda', gpu: 'GPU-1', pid: started.pid, provider: 'cuda', dimension: 2 });
    expect(adopted?.startedMsAgo).toBeGreaterThanOrEqual(0);
    expect(await adopted?.embedText(['a'], soon())).toEqual([[1, 0]]);
  });

  it('adopts a ready process of a manager that died right behind the spawn', async () => {
    const { launcher, options, stateDir } = await launcherOf('none');
    const { pid } = await launcher.start('cpu', { gpu: null, signal: soon() });
    const store = createRecordStore(stateDir, embedderDetails);
    for (const record of await store.list()) await store.write({ ...asIntent(record), ready: null });
    const [adopted] = await createEmbedderLauncher(options).running();
    expect(adopted).toMatchObject({ pid, device: 'cpu', dimension: 2 });
  });

  it('ends what a dead manager left half started, but nothing that this life is starting', async () => {
    const { launcher, options, stateDir } = await launcherOf('hangs');
    let outcome: Promise<unknown> = Promise.resolve();
    await new Promise<void>((said) => {
      const start = launcher.start('cpu', { gpu: null, signal: soon(), onProgress: () => said() });
      outcome = start.catch((error: unknown) => error);
    });
    expect(await launcher.running()).toEqual([]);
    expect(await processesOf(stateDir)).toHaveLength(1);
    expect(await createEmbedderLauncher(options).running()).toEqual([]);
    expect(await outcome).toBeInstanceOf(Error);
    await expectNothingLeft(stateDir);
  });

  it('never signals the stranger that a forged record names', async () => {
    const { launcher, stateDir } = await launcherOf('none');
    const folder = await tempFolder();
    const stranger = await startOwned(folder, 'setInterval(() => {}, 1000); console.log("up")');
    const store = createRecordStore(stateDir, embedderDetails);
    const details = {
      device: 'cpu',
      gpu: null,
      socket: join(folder, 'none'),
      log: join(folder, 'none.log'),
      ready: null,
    } as const;
    const ready = { provider: 'cpu', dimension: 2 };
    const { startTicks, ...record } = stranger.record;
    await store.write({ ...record, ...details, ready, startTicks: (startTicks ?? 0) - 1, marker: 'reused' });
    await store.write({ ...record, ...details, ready, startTicks, marker: 'unmarked' });
    await store.write({ ...record, ...details, startTicks, bootId: null, marker: 'unknown' });
    expect(await launcher.running()).toEqual([]);
    expect(await lives(stranger.pid)).toBe(true);
    expect((await store.list()).map(({ marker }) => marker)).toEqual(['unknown']);
  });
});
