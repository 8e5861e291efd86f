import { describe, expect, it } from 'vitest';
import { exitOf, exitWith, healthOf, isRunning, NEVER, runOf } from '../../../src/adapters/docker/inspection.js';

const STATE = {
  Status: 'exited',
  Running: false,
  Paused: false,
  Restarting: false,
  OOMKilled: false,
  Dead: false,
  Pid: 0,
  ExitCode: 0,
  Error: '',
  StartedAt: '2026-01-31T12:00:00.1Z',
  FinishedAt: '2026-01-31T12:00:09.1Z',
};

describe('how a run ended', () => {
  it.each([
    [{ ExitCode: 0 }, { code: 0, signal: null, reason: 'exit code 0' }],
    [{ ExitCode: 3 }, { code: 3, signal: null, reason: 'exit code 3' }],
    [{ ExitCode: 137 }, { code: null, signal: 'SIGKILL', reason: 'ended by SIGKILL' }],
    [{ ExitCode: 143 }, { code: null, signal: 'SIGTERM', reason: 'ended by SIGTERM' }],
    [{ ExitCode: 255 }, { code: 255, signal: null, reason: 'exit code 255' }],
    [
      { ExitCode: 137, OOMKilled: true },
      { code: null, signal: 'SIGKILL', reason: 'killed by the kernel: out of memory' },
    ],
    [
      { ExitCode: 1, Error: 'no disk' },
      { code: 1, signal: null, reason: 'exit code 1: no disk' },
    ],
    [
      { ExitCode: 128, Error: 'no GPU', StartedAt: NEVER },
      { code: null, signal: null, reason: 'it could not be started: no GPU' },
    ],
    [{ StartedAt: NEVER }, null],
  ])('%j', (change, exit) => {
    expect(exitOf({ ...STATE, ...change })).toEqual(exit);
  });

  it('is told by an event with its code alone', () => {
    expect(exitWith(139)).toEqual({ code: null, signal: 'SIGSEGV', reason: 'ended by SIGSEGV' });
  });
});

describe('a state', () => {
  it('runs nothing while Docker waits to restart it', () => {
    expect(isRunning({ ...STATE, Running: true })).toBe(true);
    expect(isRunning({ ...STATE, Running: true, Restarting: true })).toBe(false);
    expect(isRunning(STATE)).toBe(false);
  });

  it('names each run of one container', () => {
    const Id = '0123456789abcdef0123456789abcdef';
    const first = runOf({ Id, State: STATE });
    expect(first).toBe('0123456789ab@2026-01-31T12:00:00.1Z');
    expect(runOf({ Id, State: { ...STATE, StartedAt: '2026-01-31T12:00:00.2Z' } })).not.toBe(first);
  });

  it("has Docker's own health, where there is a check", () => {
    const health = (Status: string) => healthOf({ ...STATE, Health: { Status, FailingStreak: 0, Log: [] } });
    expect(['starting', 'healthy', 'unhealthy', 'none'].map(health)).toEqual([
      'starting',
      'healthy',
      'unhealthy',
      null,
    ]);
    expect(healthOf(STATE)).toBeNull();
  });
});
