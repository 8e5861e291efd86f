import { expect, it } from 'vitest';
import { createSmiProcesses } from '../../../src/adapters/gpu/smiProcess.js';

it('counts a killed process as stuck until it is reaped', async () => {
  const processes = createSmiProcesses([process.execPath, '-e', 'setInterval(() => {}, 1000)']);
  const smi = processes.start([], { lasting: true, onLine: () => {} });
  expect(processes.stuck()).toBe(false);
  smi.kill();
  smi.kill();
  expect(processes.stuck()).toBe(true);
  await smi.exited;
  expect(processes.stuck()).toBe(false);
});

it('reads lines from both outputs, the unfinished last one too', async () => {
  const program = 'console.log("one"); console.error("two"); process.stdout.write("three")';
  const lines: string[] = [];
  const smi = createSmiProcesses([process.execPath, '-e', program]).start([], {
    lasting: false,
    onLine: (line) => lines.push(line),
  });
  expect(await smi.exited).toEqual({ code: 0, startError: null });
  expect(lines.sort()).toEqual(['one', 'three', 'two']);
});
