import { describe, expect, it } from 'vitest';
import { EXIT } from '../../src/cli/exitCodes.js';
import { refusedLease, untilHeld, type Wait, waitOf } from '../../src/cli/leaseWait.js';
import type { Output } from '../../src/cli/output.js';
import type { LeaseState } from '../../src/contracts/lease.js';
import type { Leases } from '../../src/gateway/leases.js';

const QUEUED = { id: 'job', state: 'queued', position: 1, priority: 50, reason: null, remedy: null } as LeaseState;
const BLOCKED = { ...QUEUED, reason: 'model/x holds 9,000 MB', remedy: '`vramflow model unload x`' };
const HELD = { ...QUEUED, state: 'held', position: null } as LeaseState;

/** Waits for a lease that is so, one look after the other; the last for ever. */
async function wait(looks: LeaseState[], how: Wait, onLook: () => void = () => {}) {
  const said: string[] = [];
  const released: string[] = [];
  let look = 0;
  const leases = {
    state: (_id: string) => {
      onLook();
      return Promise.resolve(looks[Math.min(look++, looks.length - 1)]);
    },
    release: (id: string) => Promise.resolve(void released.push(id)),
  } as unknown as Leases;
  const output = { talk: (line: string) => void said.push(line) } as unknown as Output;
  const ended = await untilHeld(leases, 'job', how, output).catch((error: unknown) => error);
  return { ended, said: said.join('\n'), released };
}

describe('a lease that is waited for', () => {
  it('says nothing of waiting when it is granted soon', async () => {
    expect(await wait([QUEUED, QUEUED, HELD], waitOf(undefined))).toEqual({ ended: HELD, said: '', released: [] });
  });

  it('says once who holds the memory, what can be done, and how the waiting ends', async () => {
    const { ended, said } = await wait([BLOCKED, BLOCKED, HELD], waitOf(undefined));
    expect(ended).toBe(HELD);
    expect(said.match(/job waits/g)).toHaveLength(1);
    expect(said).toMatch(/waits, number 1 in line: model\/x holds 9,000 MB/);
    expect(said).toMatch(/`vramflow model unload x`; or ask anew with a higher --priority \(this one has 50\)/);
    expect(said).toMatch(/Ctrl-C ends the waiting, and --wait 10m sets a limit/);
  });

  it('is told of no higher priority where there is none', async () => {
    const { said } = await wait([{ ...BLOCKED, priority: 100 }, HELD], waitOf(undefined));
    expect(said).toMatch(/`vramflow model unload x`; or ask anew for fewer --mb\./);
  });

  it('is given back when the time is over, or at the first obstacle with --no-wait', async () => {
    const late = await wait([BLOCKED], waitOf(400));
    expect(late).toMatchObject({ ended: { exitCode: EXIT.refused, code: 'not-granted' }, released: ['job'] });
    expect(late.ended).toMatchObject({ message: 'Lease job was not granted within 0.4 s: model/x holds 9,000 MB' });
    const never = await wait([QUEUED, BLOCKED, HELD], waitOf(false));
    expect(never).toMatchObject({ ended: { exitCode: EXIT.refused }, said: '', released: ['job'] });
    expect(never.ended).toMatchObject({
      message: 'Lease job was not granted at once: model/x holds 9,000 MB',
      remedy: expect.stringMatching(/^`vramflow model unload x`\. Or wait longer \(--wait\)/),
    });
    const unseen = await wait([QUEUED], waitOf(0));
    expect(unseen.ended).toMatchObject({ message: expect.stringMatching(/within 0 s: its turn has not come yet/) });
  });

  it.each([QUEUED, HELD])('is given back after Ctrl-C, also when it is granted at that moment: %o', async (found) => {
    // As Ctrl-C, which a test runner would hear too.
    const hangUp = () => void process.emit('SIGHUP');
    expect(await wait([found], waitOf(undefined), hangUp)).toMatchObject({
      ended: { exitCode: EXIT.interrupted },
      released: ['job'],
    });
  });

  it('that is refused says why and what to do', () => {
    const ended = { ...QUEUED, state: 'ended', reason: 'it needs 90,000 MB', remedy: 'ask for less' } as LeaseState;
    expect(refusedLease(ended)).toMatchObject({
      exitCode: EXIT.refused,
      message: 'Lease job is refused: it needs 90,000 MB',
      remedy: 'Ask for less.',
    });
  });
});
