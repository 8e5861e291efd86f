import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Epochs, OperationRef, TurnRequest } from '../../src/contracts/operation.js';
import { noTurns, reduceTurns, type TurnCommand, type TurnEvent, type Turns } from '../../src/domain/turns.js';

const ALL = ['cpu', 'g0', 'g1', 'g2'];
const RUNS = { numRuns: 300 };

/** What happens next; the numbers choose among what there is then. */
type Move =
  | { do: 'ask'; mode: boolean; devices: string[] | 'all'; priority: number }
  | { do: 'release' | 'refuse' | 'again'; pick: number; keep: number }
  | { do: 'devices'; devices: string[] }
  | { do: 'new-chain' };

const someDevices = fc.subarray(ALL, { minLength: 1 });
const move: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      mode: fc.boolean(),
      devices: fc.oneof(fc.constant('all' as const), someDevices),
      priority: fc.constantFrom(10, 20, 50, 50, 100),
    }),
  },
  {
    weight: 7,
    arbitrary: fc.record({
      do: fc.constantFrom('release' as const, 'release' as const, 'refuse' as const, 'again' as const),
      pick: fc.nat(),
      keep: fc.nat(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('devices' as const), devices: someDevices }) },
);
const moves = fc.array(move, { minLength: 20, maxLength: 60 });
const movesOverChains = fc.array(
  fc.oneof({ weight: 12, arbitrary: move }, { weight: 1, arbitrary: fc.constant<Move>({ do: 'new-chain' }) }),
  { minLength: 20, maxLength: 60 },
);

const at = <T>(list: T[], pick: number): T | undefined => list[pick % Math.max(list.length, 1)];
const overlap = (a: string[], b: string[]): boolean => a.some((device) => b.includes(device));
const scope = (turns: Turns, { devices }: TurnRequest): string[] =>
  devices === 'all' ? turns.devices : devices.filter((device) => turns.devices.includes(device));

/** As `expect`, many times cheaper: a run makes thousands of checks. */
function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(`broken: ${what}`);
}

/** A host with its judge: each event is followed by a check of every promise. */
class World {
  turns = noTurns();
  /** What the agent has on disk. */
  seen: Epochs = {};
  readonly asked: TurnRequest[] = [];
  readonly events: TurnEvent[] = [];
  readonly grants = new Map<string, Epochs>();
  readonly ended = new Set<string>();
  /** `superseded by`, so that no pair comes twice. */
  readonly superseded = new Set<string>();
  private readonly owner = new Map<string, string>();

  play(move: Move): void {
    switch (move.do) {
      case 'ask': {
        const operation = { workflowId: `w${this.asked.length}`, runId: `r${this.asked.length}` };
        const goal: TurnRequest['goal'] = move.mode
          ? { kind: 'mode', mode: move.priority < 50 ? 'recording' : 'autopilot' }
          : { kind: 'model', tenant: 'model/a', verb: 'load', demand: false };
        const request = { operation, devices: move.devices, goal, requestedBy: 'a test', priority: move.priority };
        this.asked.push(request);
        return this.apply({ kind: 'request', request });
      }
      case 'again': {
        const event = at(this.events, move.pick);
        return event && this.apply(event);
      }
      case 'release': {
        // Also of one that only waits, or has not even been heard of (out of order).
        const operation = at(this.asked, move.pick)?.operation;
        return operation && this.apply({ kind: 'release', operation });
      }
      case 'refuse': {
        const holder = at(this.turns.held, move.pick);
        const highest = Object.fromEntries(
          ALL.map((device, n) => [device, (this.seen[device] ?? 0) + ((move.keep + n) % 4)]),
        );
        return holder && this.apply({ kind: 'refuse-epoch', operation: holder.operation, highest });
      }
      case 'devices':
        return this.apply({ kind: 'devices', devices: move.devices, highest: {} });
      case 'new-chain':
        this.turns = noTurns();
        this.events.splice(0);
        return this.apply({ kind: 'devices', devices: ALL, highest: { ...this.seen } });
    }
  }

  apply(event: TurnEvent): void {
    const before = this.turns;
    const asText = JSON.stringify(before);
    const { turns, commands } = reduceTurns(before, event, this.events.length);
    must(JSON.stringify(before) === asText, 'the reducer leaves its input alone');
    this.events.push(event);
    this.turns = turns;
    this.judge(before, event, commands);
    if (event.kind === 'release') this.ended.add(event.operation.runId);
  }

  private judge(before: Turns, event: TurnEvent, commands: TurnCommand[]): void {
    const { held, queue, epochs, devices } = this.turns;
    const all = held.flatMap((turn) => turn.held);
    must(new Set(all).size === all.length, 'no device is held twice');
    for (const [device, epoch] of Object.entries(before.epochs)) {
      must((epochs[device] ?? 0) >= epoch, 'epochs only grow');
    }
    const runs = [...held, ...queue].map((turn) => turn.operation.runId);
    must(new Set(runs).size === runs.length, 'a run is there once');
    const grants = commands.filter((command) => command.kind === 'grant');
    must(devices.length > 0 || grants.length === 0, 'nothing is granted before the devices are known');
    for (const command of grants) this.judgeGrant(before, event, command);
    this.judgeSuperseding(before, event, commands);
    if (devices.length === 0) return;
    const taken = new Set(all);
    for (const turn of [...queue].sort((a, b) => b.priority - a.priority || a.arrival - b.arrival)) {
      const wanted = scope(this.turns, turn);
      must(
        wanted.some((device) => taken.has(device)),
        'whoever waits, waits for somebody',
      );
      for (const device of wanted) taken.add(device);
    }
  }

  private judgeGrant(
    before: Turns,
    event: TurnEvent,
    { operation, epochs }: { operation: OperationRef; epochs: Epochs },
  ): void {
    must(!this.ended.has(operation.runId), 'who has ended is granted nothing');
    const former = this.grants.get(operation.runId);
    if (former && (event.kind !== 'refuse-epoch' || this.isRepeated(event))) {
      const same = Object.entries(epochs).every(([device, epoch]) => former[device] === epoch);
      must(same, 'a second grant is the first again, or what is left of it; only a new refusal makes a new one');
    }
    for (const [device, epoch] of Object.entries(epochs)) {
      const refused = event.kind === 'refuse-epoch' ? (event.highest[device] ?? 0) : 0;
      must(epoch > refused, 'a grant is above the epochs that the agent has seen');
      const key = `${device} ${epoch}`;
      must((this.owner.get(key) ?? operation.runId) === operation.runId, 'an epoch is of one run');
      this.owner.set(key, operation.runId);
      this.seen[device] = Math.max(this.seen[device] ?? 0, epoch);
    }
    this.grants.set(operation.runId, epochs);
    if (before.held.some((turn) => turn.operation.runId === operation.runId)) return;
    const granted = this.turns.held.find((turn) => turn.operation.runId === operation.runId);
    const arrival = before.queue.find((turn) => turn.operation.runId === operation.runId)?.arrival ?? before.arrivals;
    for (const waiting of this.turns.queue) {
      if (!granted || !overlap(scope(this.turns, waiting), granted.held)) continue;
      const isBehind =
        waiting.priority < granted.priority || (waiting.priority === granted.priority && waiting.arrival > arrival);
      must(isBehind, 'nobody overtakes');
    }
  }

  private isRepeated(event: TurnEvent): boolean {
    return this.events.filter((one) => one === event).length > 1;
  }

  private judgeSuperseding(before: Turns, event: TurnEvent, commands: TurnCommand[]): void {
    const told = commands.filter((command) => command.kind === 'supersede');
    for (const { operation, by } of told) {
      must(Number(operation.runId.slice(1)) < Number(by.runId.slice(1)), 'the newer supersedes the older');
      const pair = `${operation.runId} ${by.runId}`;
      must(!this.superseded.has(pair), 'a run is told once for each newer one');
      this.superseded.add(pair);
      const wasHeld = before.held.some((turn) => turn.operation.runId === operation.runId);
      if (!wasHeld) this.ended.add(operation.runId);
    }
    if (told.length === 0) return;
    must(event.kind === 'request', 'only a request supersedes');
    const asked = event.kind === 'request' && event.request.goal.kind === 'mode' ? event.request.goal.mode : null;
    const older = [...before.held.filter(({ goal }) => goal.kind === 'mode' && goal.mode !== asked), ...before.queue];
    const modes = older.filter((turn) => turn.goal.kind === 'mode');
    const names = (list: { operation: OperationRef }[]) => list.map(({ operation }) => operation.runId).sort();
    must(
      String(names(told)) === String(names(modes)),
      'every older mode switch is told, but a running one to the same mode',
    );
    const waiting = this.turns.queue.filter((turn) => turn.goal.kind === 'mode');
    must(waiting.length <= 1, 'one mode switch waits at the most');
  }
}

describe('turns', () => {
  test('one holder a device, in order, with epochs that only grow, whatever comes twice or late', () => {
    let grants = 0;
    let supersedings = 0;
    fc.assert(
      fc.property(moves, (list) => {
        const world = new World();
        world.apply({ kind: 'devices', devices: ALL, highest: {} });
        for (const move of list) world.play(move);
        grants += world.grants.size;
        supersedings += world.superseded.size;
      }),
      RUNS,
    );
    expect(grants).toBeGreaterThan(RUNS.numRuns);
    expect(supersedings).toBeGreaterThan(RUNS.numRuns);
  });

  test('grants nothing before the devices are known, and everything in order once they are', () => {
    fc.assert(
      fc.property(moves, (list) => {
        const world = new World();
        for (const move of list)
          if (move.do === 'ask' || move.do === 'release' || move.do === 'again') world.play(move);
        expect(world.grants.size).toBe(0);
        world.apply({ kind: 'devices', devices: ALL, highest: { g0: 7 } });
        expect(world.turns.held.length).toBe(world.grants.size);
        for (const epochs of world.grants.values()) expect(epochs['g0'] ?? 8).toBeGreaterThan(7);
      }),
      RUNS,
    );
  });

  test('a new chain of the host goes on above every epoch that the agent has seen', () => {
    fc.assert(
      fc.property(movesOverChains, (list) => {
        const world = new World();
        world.apply({ kind: 'devices', devices: ALL, highest: {} });
        for (const move of list) world.play(move);
      }),
      RUNS,
    );
  });

  test('the queue empties once the holders release: no wedge', () => {
    fc.assert(
      fc.property(moves, (list) => {
        const world = new World();
        world.apply({ kind: 'devices', devices: ALL, highest: {} });
        for (const move of list) world.play(move);
        for (let left = world.asked.length; left > 0 && world.turns.held.length > 0; left -= 1) {
          const holder = world.turns.held[0];
          if (holder) world.apply({ kind: 'release', operation: holder.operation });
        }
        expect(world.turns).toMatchObject({ held: [], queue: [] });
      }),
      RUNS,
    );
  });

  test('is plain data: what continue-as-new carries goes on the same', () => {
    fc.assert(
      fc.property(moves, moves, (first, second) => {
        const [a, b] = [new World(), new World()];
        for (const world of [a, b]) world.apply({ kind: 'devices', devices: ALL, highest: {} });
        for (const move of first) for (const world of [a, b]) world.play(move);
        b.turns = JSON.parse(JSON.stringify(b.turns)) as Turns;
        for (const move of second) for (const world of [a, b]) world.play(move);
        expect(b.turns).toEqual(a.turns);
      }),
      { numRuns: 200 },
    );
  });
});
