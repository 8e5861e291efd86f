/** What is said while a lease is waited for, and how long it is waited for. */
import { setTimeout as pause } from 'node:timers/promises';
import type { LeaseState } from '../contracts/lease.js';
import { leaseWords } from '../domain/lease.js';
import type { Leases } from '../gateway/leases.js';
import { describeDuration } from './duration.js';
import { Exit } from './exit.js';
import { EXIT } from './exitCodes.js';
import type { Output } from './output.js';
import { UserError } from './userError.js';

const LOOK_MS = 300;
/** Silent so long about a turn that is not there yet: most are granted before. */
const SILENT_MS = 2_000;
/** Without waiting in line: room may still have to be made, after what is under way. */
const MAKE_ROOM_MS = 60_000;

const NOT_LOOKED_AT = 'its turn has not come yet, another operation may be at work';

export interface Wait {
  /** Null: as long as it takes. */
  limitMs: number | null;
  /** False: not until others have ended. */
  inLine: boolean;
}

/** As the options `--wait <duration>` and `--no-wait` give it. */
export function waitOf(option: number | boolean | undefined): Wait {
  if (option === false) return { limitMs: MAKE_ROOM_MS, inLine: false };
  return { limitMs: typeof option === 'number' ? option : null, inLine: true };
}

/**
 * Until it is held, or ended before. Ctrl-C, and the end of the wait, give it back.
 * @throws UserError when it was waited for as long as allowed
 */
export async function untilHeld(leases: Leases, id: string, wait: Wait, output: Output): Promise<LeaseState> {
  const begun = Date.now();
  const interrupted = interruption();
  const told = newsOf(id, wait, output);
  try {
    for (;;) {
      const state = await leases.state(id);
      // Also of one that was granted meanwhile: nobody waits for it any more.
      if (interrupted.yes() && state.state !== 'ended') {
        await leases.release(id);
        throw new Exit(EXIT.interrupted);
      }
      if (state.state !== 'queued') return state;
      const waited = Date.now() - begun;
      const late = wait.limitMs !== null && waited >= wait.limitMs;
      if (late || (!wait.inLine && state.reason !== null)) {
        await leases.release(id);
        throw notGranted(state, late && wait.inLine ? wait.limitMs : null);
      }
      if (state.reason !== null || waited >= SILENT_MS) told(state);
      await pause(LOOK_MS);
    }
  } finally {
    interrupted.dispose();
  }
}

/** The most that the command line and HTTP take. */
const HIGHEST_PRIORITY = 100;

/** @param has in which time this lease has its priority */
function askedFor(priority: number, has: 'has' | 'had'): string {
  const higher = priority < HIGHEST_PRIORITY ? `with a higher --priority (this one ${has} ${priority}) or ` : '';
  return `${higher}for fewer --mb`;
}

/** Says each change once: what it waits for, who holds that, and what can be done. */
function newsOf(id: string, { limitMs }: Wait, output: Output): (state: LeaseState) => void {
  const bound = limitMs === null ? '--wait 10m sets a limit' : `it gives up after ${describeDuration(limitMs)}`;
  let said = '';
  return ({ position, reason, remedy, priority }) => {
    const place = position === null ? '' : `, number ${position} in line`;
    const news = `lease ${id} waits${place}: ${reason ?? NOT_LOOKED_AT}`;
    if (news === said) return;
    said = news;
    output.talk(`  ${news}`);
    if (reason === null) return;
    const sooner = remedy ? `${remedy}; or ask anew` : 'Ask anew';
    output.talk(`  To have it sooner: ${sooner} ${askedFor(priority, 'has')}.`);
    output.talk(`  It goes on as soon as there is room; Ctrl-C ends the waiting, and ${bound}.`);
  };
}

function notGranted({ id, reason, remedy, priority }: LeaseState, limitMs: number | null): UserError {
  const within = limitMs === null ? 'at once' : `within ${describeDuration(limitMs)}`;
  return new UserError(`Lease ${id} was not granted ${within}: ${reason ?? NOT_LOOKED_AT}`, {
    exitCode: EXIT.refused,
    code: 'not-granted',
    remedy: `${remedy ? `${sentence(remedy)} ` : ''}Or wait longer (--wait), or ask ${askedFor(priority, 'had')}.`,
  });
}

/** What ended before it was held. */
export function refusedLease({ id, reason, remedy }: LeaseState): UserError {
  return new UserError(`Lease ${id} is refused: ${reason ?? 'it ended before it was granted'}`, {
    exitCode: EXIT.refused,
    remedy: remedy ? sentence(remedy) : '`vramflow lease list` shows those that there are.',
  });
}

const sentence = (words: string): string => `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;

export function granted(lease: LeaseState): string {
  const { id, gpus, epochs, expiresAt } = lease;
  const tokens = gpus.map((gpu) => `${gpu} (epoch ${epochs[gpu] ?? '?'})`);
  return `lease ${id} is granted: ${leaseWords(lease)} on ${tokens.join(', ')} until ${expiresAt ?? '?'}, if it is not renewed`;
}

function interruption() {
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  let happened = false;
  const interrupt = () => {
    happened = true;
  };
  // Once: a second Ctrl-C ends all at once.
  for (const name of names) process.once(name, interrupt);
  return {
    yes: () => happened,
    dispose() {
      for (const name of names) process.off(name, interrupt);
    },
  };
}
