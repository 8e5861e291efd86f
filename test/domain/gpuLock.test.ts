import { describe, expect, it } from 'vitest';
import type { Reservation } from '../../src/contracts/lease.js';
import { gpuLock } from '../../src/domain/gpuLock.js';

const NOW = Date.parse('2026-11-21T08:00:10.000Z');
const turn = { workflow_id: 'mode/x', devices: ['GPU-a', 'cpu'], for_ms: 3_000 };

const lease = (change: Partial<Reservation>): Reservation => ({
  id: 'one',
  holder: 'blender',
  mb: null,
  on: 1,
  priority: 50,
  ttlSeconds: 60,
  pid: null,
  gpus: ['GPU-a'],
  chargeMb: 20_000,
  grantedAtMs: NOW - 10_000,
  expiresAtMs: NOW + 50_000,
  revokedUntilMs: null,
  ...change,
});

describe('the lock on the GPU (P7)', () => {
  it('is free without a lease and without an operation, and a part of a GPU does not lock it', () => {
    expect(gpuLock([], [], NOW)).toMatchObject({ holder: null, kind: null, devices: [], since: null });
    expect(gpuLock([lease({ mb: 20_000 })], [], NOW).holder).toBeNull();
  });

  it('is with the lease over a whole GPU, also while an operation runs; of two with the older one', () => {
    expect(gpuLock([lease({ id: 'late', grantedAtMs: NOW - 1 }), lease({})], [turn], NOW)).toEqual({
      holder: 'blender',
      kind: 'lease',
      id: 'one',
      what: 'a whole GPU',
      devices: ['GPU-a'],
      since: '2026-11-21T08:00:00.000Z',
      held_ms: 10_000,
      expires_at: '2026-11-21T08:01:00.000Z',
    });
  });

  it('is with the operation otherwise', () => {
    expect(gpuLock([lease({ mb: 1 })], [turn], NOW)).toMatchObject({
      holder: 'mode/x',
      kind: 'operation',
      since: '2026-11-21T08:00:07.000Z',
      held_ms: 3_000,
      expires_at: null,
    });
  });
});
