#!/usr/bin/env node
/**
 * A program that behaves as nvidia-smi does for the calls that a GPU reader makes. It asks the simulator for
 * samples (`--simulator <admin url>`) over one connection and prints them as the real program prints its own.
 */
import { openLines } from './jsonLines.js';
import type { GpuSample } from './sample.js';
import { parseSmiArguments, type SmiRequest, SmiUsageError } from './smiArguments.js';
import { NO_DRIVER, type SmiStep, smiStep } from './smiOutput.js';

/** Between the two writes of a line that comes in pieces. */
const BETWEEN_PIECES_MS = 20;

/** Asks again while hanging, so that it ends or goes on when the fault is cleared. */
const HANGING_POLL_MS = 100;

let hanging = false;

function main(): void {
  // A hanging nvidia-smi sits in the driver, where SIGTERM does not reach it.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (!hanging) process.exit(signal === 'SIGTERM' ? 143 : 130);
    });
  }
  process.stdout.on('error', () => process.exit(141));
  let request: SmiRequest;
  try {
    request = parseSmiArguments(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof SmiUsageError)) throw error;
    carryOut({ kind: 'exit', code: 2, stdout: `${error.message}\n`, stderr: '' });
    return;
  }
  let turn = 0;
  const everyMs = request.everyMs ?? HANGING_POLL_MS;
  openLines(new URL(`/gpus?everyMs=${everyMs}`, request.simulator).href, 'GET', null, {
    line: (sample) => {
      const step = smiStep(sample as GpuSample, request, turn);
      hanging = step.kind === 'hang';
      if (step.kind === 'print') turn++;
      carryOut(step);
      if (step.kind === 'print' && request.everyMs === null)
        carryOut({ kind: 'exit', code: 0, stdout: '', stderr: '' });
    },
    end: () => carryOut(NO_DRIVER),
  });
}

let leaving = false;

function carryOut(step: SmiStep): void {
  if (leaving || step.kind === 'hang') return;
  if (step.kind === 'print') {
    const [first = '', ...rest] = step.pieces;
    process.stdout.write(first);
    for (const piece of rest) setTimeout(() => process.stdout.write(piece), BETWEEN_PIECES_MS);
    return;
  }
  leaving = true;
  process.stderr.write(step.stderr);
  process.stdout.write(step.stdout, () => setTimeout(() => process.exit(step.code), BETWEEN_PIECES_MS + 5));
}

main();
