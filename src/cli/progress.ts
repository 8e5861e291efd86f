/** What is said on stderr while an operation is awaited. */
import type { Status } from '../contracts/status.js';
import type { AgentClient } from './agentClient.js';
import type { Output } from './output.js';
import { UserError } from './userError.js';

/** Progress is looked at so often, and said again at the latest after so long. */
const LOOK_MS = 300;
const SAY_AGAIN_MS = 2_000;
const SAY_WAITING_AGAIN_MS = 10_000;

const FOR_THE_TURN = 'waiting for the turn';

interface Sight {
  doing: string;
  vram: string;
  waits: boolean;
  /** Why it may wait for ever, and what to do; said once it has been so for so long. */
  hint: { lines: string[]; afterMs: number } | null;
}

/** Says what the agent does meanwhile: state, seconds, estimate. An agent that does not answer is no reason to stop. */
export function followProgress(agent: AgentClient, host: string, output: Output): { stop(): void } {
  const startedAt = Date.now();
  let last = '';
  let saidAt = 0;
  let hasTurn = false;
  let stuck: { since: number; told: boolean } | null = null;
  let looking = false;

  const say = ({ doing, vram, waits, hint }: Sight) => {
    const now = Date.now();
    hasTurn ||= !waits;
    // Its outcome is on the way.
    if (hasTurn && doing === FOR_THE_TURN) return;
    stuck = hint === null ? null : (stuck ?? { since: now, told: false });
    if (hint !== null && stuck !== null && !stuck.told && now - stuck.since >= hint.afterMs) {
      stuck.told = true;
      for (const line of hint.lines) output.talk(`  ${line}`);
    }
    if (doing === last && now - saidAt < (waits ? SAY_WAITING_AGAIN_MS : SAY_AGAIN_MS)) return;
    last = doing;
    saidAt = now;
    output.talk(`  ${((now - startedAt) / 1000).toFixed(1).padStart(5)} s  ${doing}${vram}`);
  };

  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    agent
      .get<Status>('/v1/status')
      .then((status) =>
        status.host === host ? atWork(status) : noAgent(host, [`The agent here is that of ${status.host}.`]),
      )
      .catch((error: unknown) => noAgent(host, error instanceof UserError ? [error.message, error.remedy] : []))
      .then(say)
      .catch(() => clearInterval(timer))
      .finally(() => {
        looking = false;
      });
  }, LOOK_MS);
  return { stop: () => clearInterval(timer) };
}

function noAgent(host: string, why: string[]): Sight {
  const lines = [
    `No agent answers for host ${host}, so the operation waits for it. ${why.join(' ')}`.trim(),
    'It goes on as soon as the agent runs; Ctrl-C ends the waiting here, not the operation.',
  ];
  return { doing: 'waiting for the agent', vram: '', waits: true, hint: { lines, afterMs: 3_000 } };
}

const NOBODY_GRANTS: Sight['hint'] = {
  lines: [
    'Nobody holds the turn, and it is not granted: does a control worker run?',
    'Start it with `vramflow up` or `vramflow worker --role control`.',
  ],
  afterMs: 10_000,
};

function atWork(status: Status): Sight {
  const moving = status.tenants
    .filter((tenant) => tenant.state === 'loading' || tenant.state === 'unloading')
    .map(
      ({ state, id, loadMs }) =>
        `${state} ${id}${state === 'loading' ? ` (about ${(loadMs / 1000).toFixed(1)} s)` : ''}`,
    );
  const vram = status.vram ? `, ${status.vram.used_mb} of ${status.vram.total_mb} MB used` : '';
  if (moving.length > 0) return { doing: moving.join(', '), vram, waits: false, hint: null };
  if (status.turns.length > 0) return { doing: 'working', vram, waits: false, hint: null };
  return { doing: FOR_THE_TURN, vram, waits: true, hint: NOBODY_GRANTS };
}
