/** The host's turns: who may change which devices. A pure reducer; `gpuHost` is a thin shell around it. */
import type { Epochs, OperationRef, TurnRequest } from '../contracts/operation.js';

export interface QueuedTurn extends TurnRequest {
  /** Counts arrivals; never reused. */
  arrival: number;
  /** It will be refused in its turn. */
  isUnknown?: true;
}

export interface HeldTurn extends TurnRequest {
  held: string[];
  epochs: Epochs;
  grantedAtMs: number;
  /** Someone waits for its devices, as its holder was told last. */
  contended: boolean;
}

/** Plain data: it travels over continue-as-new. */
export interface Turns {
  /** All devices of the host, `cpu` among them. Empty until the agent has described itself: nothing is granted. */
  devices: string[];
  epochs: Epochs;
  held: HeldTurn[];
  queue: QueuedTurn[];
  arrivals: number;
  /** Runs that have released or were superseded in the queue, the last few: a repeated request of one is old news. */
  released: string[];
  /** The mode switch that was started last of those that have asked. */
  newestMode?: { operation: OperationRef; startedAtMs: number };
}

export type TurnEvent =
  /** `isUnknown`: the configuration has nothing of that name, so that it will be refused in its turn and takes no place. */
  | { kind: 'request'; request: TurnRequest; isUnknown?: boolean }
  | { kind: 'release'; operation: OperationRef }
  | { kind: 'refuse-epoch'; operation: OperationRef; highest: Epochs }
  | { kind: 'devices'; devices: string[]; highest: Epochs };

export type TurnCommand =
  | { kind: 'grant'; operation: OperationRef; epochs: Epochs }
  | { kind: 'supersede'; operation: OperationRef; by: OperationRef }
  | { kind: 'announce-successor'; operation: OperationRef; waits: boolean };

const REMEMBERED_RELEASES = 200;

export const noTurns = (): Turns => ({ devices: [], epochs: {}, held: [], queue: [], arrivals: 0, released: [] });

/** Applies one event; the commands are to be carried out in their order. Each event may come more than once. */
export function reduceTurns(turns: Turns, event: TurnEvent, nowMs: number): Reduced {
  const next = reduce(turns, event, nowMs);
  const announced = announceSuccessors(next.turns);
  return { turns: announced.turns, commands: [...next.commands, ...announced.commands] };
}

interface Reduced {
  turns: Turns;
  commands: TurnCommand[];
}

function reduce(turns: Turns, event: TurnEvent, nowMs: number): Reduced {
  switch (event.kind) {
    case 'request':
      return request(turns, event, nowMs);
    case 'release':
      return grantWhatCanBe(
        {
          ...turns,
          held: turns.held.filter((turn) => !isSame(turn.operation, event.operation)),
          queue: turns.queue.filter((turn) => !isSame(turn.operation, event.operation)),
          released: remembering(turns.released, [event.operation]),
        },
        nowMs,
      );
    case 'refuse-epoch':
      return regrantAbove(turns, event.operation, event.highest);
    case 'devices':
      return grantWhatCanBe(
        { ...turns, devices: [...event.devices].sort(), epochs: raised(turns.epochs, event.highest) },
        nowMs,
      );
  }
}

function request(turns: Turns, event: Extract<TurnEvent, { kind: 'request' }>, nowMs: number): Reduced {
  const { request: asked, isUnknown = false } = event;
  const holder = turns.held.find((turn) => isSame(turn.operation, asked.operation));
  if (holder) return { turns, commands: [{ kind: 'grant', operation: holder.operation, epochs: holder.epochs }] };
  const known =
    turns.released.includes(asked.operation.runId) ||
    turns.queue.some((turn) => isSame(turn.operation, asked.operation));
  if (known) return { turns, commands: [] };

  const commands: TurnCommand[] = [];
  let { queue, released, newestMode } = turns;
  if (asked.goal.kind === 'mode' && !isUnknown) {
    const { mode } = asked.goal;
    const startedAtMs = asked.startedAtMs ?? nowMs;
    // M11: the one that was started last counts, whichever asks first. One from the future: the clock was set back.
    if (newestMode !== undefined && newestMode.startedAtMs > startedAtMs && newestMode.startedAtMs <= nowMs) {
      return {
        turns: { ...turns, released: remembering(released, [asked.operation]) },
        commands: [{ kind: 'supersede', operation: asked.operation, by: newestMode.operation }],
      };
    }
    newestMode = { operation: asked.operation, startedAtMs };
    // M11: a newer mode switch supersedes the queued ones, and tells a running one, which gives up its load. One to the
    // same mode goes on: a caller that asks again would make it begin its load again and again.
    const older = queue.filter((turn) => turn.goal.kind === 'mode');
    queue = queue.filter((turn) => turn.goal.kind !== 'mode');
    // A request of theirs that comes again is older than this one, and must not supersede it in its turn.
    released = remembering(
      released,
      older.map((turn) => turn.operation),
    );
    const running = turns.held.filter(({ goal }) => goal.kind === 'mode' && goal.mode !== mode);
    for (const turn of [...older, ...running]) {
      commands.push({ kind: 'supersede', operation: turn.operation, by: asked.operation });
    }
  }
  const queued = { ...asked, arrival: turns.arrivals, ...(isUnknown ? { isUnknown } : {}) };
  const accepted = { ...turns, queue: [...queue, queued], released, arrivals: turns.arrivals + 1 };
  const next = grantWhatCanBe({ ...accepted, ...(newestMode ? { newestMode } : {}) }, nowMs);
  return { turns: next.turns, commands: [...commands, ...next.commands] };
}

/**
 * Tells each holder when the first comes to wait for its devices, and when nobody waits any more. What the host asks for
 * of itself is no successor: it has no target of its own that the former residency would be in the way of. Nor is what will
 * be refused, nor one to the same mode: should the holder fail, it may fail as well, and nobody would put anything back.
 */
function announceSuccessors(turns: Turns): Reduced {
  const commands: TurnCommand[] = [];
  const held = turns.held.map((turn) => {
    const contended = turns.queue.some(
      (other) => !isOfHost(other) && succeeds(other, turn) && overlap(scope(turns, other), turn.held),
    );
    if (contended === turn.contended) return turn;
    commands.push({ kind: 'announce-successor', operation: turn.operation, waits: contended });
    return { ...turn, contended };
  });
  return { turns: commands.length > 0 ? { ...turns, held } : turns, commands };
}

/** Requests that share a device are served by priority, then arrival; the others side by side. */
function grantWhatCanBe(turns: Turns, nowMs: number): Reduced {
  if (turns.devices.length === 0) return { turns, commands: [] };
  const commands: TurnCommand[] = [];
  const taken = new Set(turns.held.flatMap((turn) => turn.held));
  const held = [...turns.held];
  const waiting: QueuedTurn[] = [];
  let epochs = turns.epochs;
  for (const turn of inOrder(turns.queue)) {
    const wanted = scope(turns, turn);
    if (wanted.some((device) => taken.has(device))) {
      waiting.push(turn);
    } else {
      const granted = Object.fromEntries(wanted.map((device) => [device, (epochs[device] ?? 0) + 1]));
      epochs = { ...epochs, ...granted };
      const { arrival: _arrival, isUnknown: _isUnknown, ...asked } = turn;
      held.push({ ...asked, held: wanted, epochs: granted, grantedAtMs: nowMs, contended: false });
      commands.push({ kind: 'grant', operation: turn.operation, epochs: granted });
    }
    // Also what still waits keeps its devices from those behind it: nobody overtakes.
    for (const device of wanted) taken.add(device);
  }
  return { turns: { ...turns, epochs, held, queue: waiting }, commands };
}

function regrantAbove(turns: Turns, operation: OperationRef, highest: Epochs): Reduced {
  const epochs = raised(turns.epochs, highest);
  const holder = turns.held.find((turn) => isSame(turn.operation, operation));
  if (!holder) return { turns: { ...turns, epochs }, commands: [] };
  // The same refusal again: the grant above it has been given.
  if (holder.held.every((device) => (holder.epochs[device] ?? 0) > (highest[device] ?? 0))) {
    return { turns: { ...turns, epochs }, commands: [{ kind: 'grant', operation, epochs: holder.epochs }] };
  }
  const granted = Object.fromEntries(holder.held.map((device) => [device, (epochs[device] ?? 0) + 1]));
  return {
    turns: {
      ...turns,
      epochs: { ...epochs, ...granted },
      held: turns.held.map((turn) => (turn === holder ? { ...turn, epochs: granted } : turn)),
    },
    commands: [{ kind: 'grant', operation, epochs: granted }],
  };
}

/**
 * Whether the end of an operation is news: of one that holds a turn, or that an earlier chain of this host had granted
 * one. What it states was behind the agent's fence until its end.
 */
export const isNews = ({ held, queue, released }: Turns, operation: OperationRef): boolean =>
  held.some((turn) => isSame(turn.operation, operation)) ||
  !(released.includes(operation.runId) || queue.some((turn) => isSame(turn.operation, operation)));

const succeeds = (waiting: QueuedTurn, holder: HeldTurn): boolean =>
  waiting.isUnknown !== true &&
  !(waiting.goal.kind === 'mode' && holder.goal.kind === 'mode' && waiting.goal.mode === holder.goal.mode);

const isOfHost = ({ goal }: TurnRequest): boolean => goal.kind === 'reconcile' || goal.kind === 'idle-unload';

const isSame = (a: OperationRef, b: OperationRef): boolean => a.runId === b.runId && a.workflowId === b.workflowId;

const remembering = (released: string[], ended: OperationRef[]): string[] =>
  [...new Set([...released, ...ended.map((operation) => operation.runId)])].slice(-REMEMBERED_RELEASES);

const scope = (turns: Turns, asked: TurnRequest): string[] =>
  asked.devices === 'all' ? turns.devices : asked.devices.filter((device) => turns.devices.includes(device));

const overlap = (a: string[], b: string[]): boolean => a.some((device) => b.includes(device));

const inOrder = (queue: QueuedTurn[]): QueuedTurn[] =>
  [...queue].sort((a, b) => b.priority - a.priority || a.arrival - b.arrival);

function raised(epochs: Epochs, highest: Epochs): Epochs {
  const result = { ...epochs };
  for (const [device, epoch] of Object.entries(highest)) result[device] = Math.max(result[device] ?? 0, epoch);
  return result;
}
