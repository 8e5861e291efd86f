/** Ends a process that outlives its manager: asks, then SIGTERM, then SIGKILL, each by proof (law 5), each bounded. */
import type { ChildProcess } from 'node:child_process';

import { isOver, timeLimit } from '../timeLimit.js';
import { hasEnded, type OwnershipRecord, type Proof, signalOurs } from './ownership.js';
import { pause } from './pause.js';
import { killByHandle } from './spawn.js';

/** How often the process is looked at while its end is awaited. */
const LOOK_EVERY_MS = 20;
/** The kernel ends a killed process within this, unless a driver holds it. */
const KILL_MS = 5_000;
/** For what cannot be proven at first sight. */
const SETTLE_MS = 300;

export interface Ending {
  /** Asks it to end by itself; a failure to ask, or no grace, moves on to the signals. */
  ask: ((signal: AbortSignal) => Promise<void>) | null;
  /** From the request to SIGTERM, ms. */
  graceMs: number;
  /** From SIGTERM to SIGKILL, ms. */
  termMs: number;
  /** Held by the manager that started it; used where there is no /proc. */
  handle: ChildProcess | null;
  signal: AbortSignal;
}

/**
 * - `ended`: nothing of it lives any more
 * - `stuck`: killed, and still there after 5 s (a driver holds it)
 * - `not-ours`, `unknown`: no proof, so no signal was sent
 */
export type EndResult = 'ended' | 'stuck' | 'not-ours' | 'unknown';

export interface EndTarget {
  /** Whether nothing of it lives any more. */
  ended(): Promise<boolean>;
  /** Answers what was found; only after `ours` a signal was sent. */
  signal(name: 'SIGTERM' | 'SIGKILL'): Promise<Proof>;
}

/**
 * Safe to repeat: a process that is gone is `ended`. Rejects with the signal's reason on abort: of a time that is over once
 * the process has been killed, of any other at once.
 */
export function endOwned(record: OwnershipRecord, ending: Ending): Promise<EndResult> {
  const { handle } = ending;
  return endTarget(handle !== null && record.bootId === null ? heldTarget(handle) : provenTarget(record), ending);
}

/** As `endOwned`, for whatever can be proven and signalled. */
export async function endTarget(target: EndTarget, ending: Omit<Ending, 'handle'>): Promise<EndResult> {
  try {
    return await askThenSignal(target, ending);
  } catch (error) {
    // On a busy machine the time can pass before the kill was due: whoever waited has left, and it would live on for ever.
    if (isOver(ending.signal)) await target.signal('SIGKILL');
    throw error;
  }
}

async function askThenSignal(target: EndTarget, ending: Omit<Ending, 'handle'>): Promise<EndResult> {
  const { signal } = ending;
  if (await target.ended()) return 'ended';
  if (ending.ask !== null && ending.graceMs > 0) {
    const graceEnds = performance.now() + ending.graceMs;
    const asked = await ending.ask(AbortSignal.any([signal, timeLimit(ending.graceMs)])).then(
      () => true,
      () => false,
    );
    signal.throwIfAborted();
    // One that cannot be asked may be ending already: the next signal waits no longer than for its end.
    const waitMs = asked ? graceEnds - performance.now() : 0;
    if (await endsWithin(target, waitMs, signal)) return 'ended';
  }
  for (const [name, waitMs] of [
    ['SIGTERM', ending.termMs],
    ['SIGKILL', KILL_MS],
  ] as const) {
    let proof = await target.signal(name);
    if (isUnproven(proof)) {
      // A process that exits looks unknown for a moment; what it leaves of its group can be proven afterwards.
      if (await endsWithin(target, SETTLE_MS, signal)) return 'ended';
      proof = await target.signal(name);
      if (isUnproven(proof)) return proof;
    }
    if (await endsWithin(target, waitMs, signal)) return 'ended';
  }
  return 'stuck';
}

const isUnproven = (proof: Proof): proof is 'not-ours' | 'unknown' => proof === 'not-ours' || proof === 'unknown';

function provenTarget(record: OwnershipRecord): EndTarget {
  return { ended: () => hasEnded(record), signal: (name) => signalOurs(record, name) };
}

function heldTarget(handle: ChildProcess): EndTarget {
  const ended = () => handle.exitCode !== null || handle.signalCode !== null;
  return {
    ended: async () => ended(),
    signal: async (name) => {
      killByHandle(handle, name);
      return ended() ? 'gone' : 'ours';
    },
  };
}

async function endsWithin(target: EndTarget, ms: number, signal: AbortSignal): Promise<boolean> {
  const until = performance.now() + ms;
  for (;;) {
    if (await target.ended()) return true;
    if (performance.now() >= until) return false;
    await pause(LOOK_EVERY_MS, signal);
  }
}
