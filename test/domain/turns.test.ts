import { describe, expect, it } from 'vitest';
import type { OperationGoal, OperationRef, TurnRequest } from '../../src/contracts/operation.js';
import { isNews, noTurns, reduceTurns, type TurnCommand, type TurnEvent, type Turns } from '../../src/domain/turns.js';

const MODE: OperationGoal = { kind: 'mode', mode: 'recording' };
const LOAD: OperationGoal = { kind: 'model', tenant: 'model/a', verb: 'load', demand: false };

const ref = (name: string): OperationRef => ({ workflowId: `w/${name}`, runId: name });
const ask = (name: string, change: Partial<TurnRequest> = {}): TurnEvent => ({
  kind: 'request',
  request: { operation: ref(name), devices: 'all', goal: LOAD, requestedBy: 'a test', priority: 50, ...change },
});
const release = (name: string): TurnEvent => ({ kind: 'release', operation: ref(name) });
const devices = (...names: string[]): TurnEvent => ({ kind: 'devices', devices: names, highest: {} });

/** Applies events; what is asked for is the words of the last one's commands. */
function after(...events: TurnEvent[]): { turns: Turns; said: string[]; all: string[] } {
  let turns = noTurns();
  let said: string[] = [];
  const all: string[] = [];
  for (const event of events) {
    const next = reduceTurns(turns, event, 0);
    turns = next.turns;
    said = next.commands.map(inWords);
    all.push(...said);
  }
  return { turns, said, all };
}

function inWords(command: TurnCommand): string {
  const who = command.operation.runId;
  if (command.kind === 'grant') {
    const epochs = Object.entries(command.epochs).map(([device, epoch]) => `${device}:${epoch}`);
    return [`grant ${who}`, ...epochs].join(' ');
  }
  if (command.kind === 'supersede') return `supersede ${who} by ${command.by.runId}`;
  return command.waits ? `successor waits, ${who}` : `nobody waits, ${who}`;
}

const HOST = devices('cpu', 'g0');

describe('a turn', () => {
  it('is granted once the devices are known, with an epoch for each', () => {
    expect(after(ask('a')).said).toEqual([]);
    expect(after(ask('a'), HOST).said).toEqual(['grant a cpu:1 g0:1']);
  });

  it('is granted again with the same epochs when the request is repeated', () => {
    expect(after(HOST, ask('a'), ask('a')).said).toEqual(['grant a cpu:1 g0:1']);
    expect(after(HOST, ask('a'), release('a'), ask('a')).said).toEqual([]);
  });

  it('tells the holder that a successor waits, once for each', () => {
    expect(after(HOST, ask('a'), ask('b')).said).toEqual(['successor waits, a']);
    expect(after(HOST, ask('a'), ask('b'), ask('b')).said).toEqual([]);
  });

  it('tells the holder when nobody waits any more', () => {
    const { said } = after(HOST, ask('a'), ask('b'), ask('c'), release('b'));
    expect(said).toEqual([]);
    expect(after(HOST, ask('a'), ask('b'), release('b')).said).toEqual(['nobody waits, a']);
    expect(after(HOST, ask('a'), ask('b'), release('b'), ask('c')).said).toEqual(['successor waits, a']);
  });

  it('tells a new holder that someone waits already', () => {
    const { said } = after(HOST, ask('a'), ask('b'), ask('c'), release('a'));
    expect(said).toEqual(['grant b cpu:2 g0:2', 'successor waits, b']);
  });

  it('tells the holder of no reconciliation, nor of an idle unload: they stand in the way of nothing that is put back', () => {
    const reconcile = ask('r', { goal: { kind: 'reconcile', reason: 'a look' }, priority: 10 });
    const idle = ask('i', { goal: { kind: 'idle-unload', tenant: 'model/a' }, priority: 20 });
    expect(after(HOST, ask('a'), reconcile, idle).all).toEqual(['grant a cpu:1 g0:1']);
    expect(after(HOST, ask('a'), reconcile, ask('b')).said).toEqual(['successor waits, a']);
  });

  it('goes by priority, then arrival', () => {
    const { all } = after(
      HOST,
      ask('a'),
      ask('low', { priority: 10 }),
      ask('b'),
      ask('high', { priority: 90 }),
      release('a'),
    );
    expect(all.at(-2)).toBe('grant high cpu:2 g0:2');
  });

  it('is side by side with one on other devices, but overtakes nobody who waits for its device', () => {
    const two = devices('cpu', 'g0', 'g1');
    expect(after(two, ask('a', { devices: ['g0'] }), ask('b', { devices: ['g1'] })).said).toEqual(['grant b g1:1']);
    const { said } = after(two, ask('a', { devices: ['g0'] }), ask('b'), ask('c', { devices: ['g1'] }));
    expect(said).toEqual([]);
  });

  it('is granted anew above the epochs that the agent has seen, once for one refusal', () => {
    const refused: TurnEvent = { kind: 'refuse-epoch', operation: ref('a'), highest: { g0: 41 } };
    expect(after(HOST, ask('a'), refused).said).toEqual(['grant a cpu:2 g0:42']);
    expect(after(HOST, ask('a'), refused, refused).said).toEqual(['grant a cpu:2 g0:42']);
    expect(after(HOST, ask('a'), refused, release('a'), ask('b')).said).toEqual(['grant b cpu:3 g0:43']);
  });

  it('frees nothing and grants nothing for a run that holds none', () => {
    expect(after(HOST, ask('a'), release('other')).turns.held).toHaveLength(1);
    expect(after(HOST, { kind: 'refuse-epoch', operation: ref('x'), highest: { g0: 9 } }, ask('a')).said).toEqual([
      'grant a cpu:1 g0:10',
    ]);
  });
});

describe('the end of an operation', () => {
  it('is news of a holder, and of one that an earlier chain of the host had granted; not twice, nor of one that waits', () => {
    const { turns } = after(HOST, ask('a'), release('a'), ask('b'), ask('c'));
    const isHeeded = (name: string) => isNews(turns, ref(name));
    expect(['a', 'b', 'c', 'of an earlier chain'].filter(isHeeded)).toEqual(['b', 'of an earlier chain']);
  });
});

describe('a newer mode switch (M11)', () => {
  /** Each run goes to a mode of its own. */
  const mode = (name: string, priority = 50) => ask(name, { goal: { kind: 'mode', mode: `mode ${name}` }, priority });

  it('tells the running one, and takes the place of those that wait', () => {
    expect(after(HOST, mode('a'), mode('b')).said).toEqual(['supersede a by b', 'successor waits, a']);
    const { said, turns } = after(HOST, ask('x'), mode('a'), mode('b', 10));
    expect(said).toEqual(['supersede a by b']);
    expect(turns.held.map(({ contended }) => contended)).toEqual([true]);
    expect(turns.queue.map((turn) => turn.operation.runId)).toEqual(['b']);
  });

  it('to the same mode lets the running one go on, and takes the place of those that wait', () => {
    const same = (name: string) => ask(name, { goal: MODE });
    const { all, turns } = after(HOST, same('a'), same('b'), same('c'));
    expect(all).toEqual(['grant a cpu:1 g0:1', 'supersede b by c']);
    expect(turns.queue.map((turn) => turn.operation.runId)).toEqual(['c']);
    expect(after(HOST, same('a'), same('b'), mode('c')).said).toEqual([
      'supersede b by c',
      'supersede a by c',
      'successor waits, a',
    ]);
  });

  it('that the configuration does not know takes no place: it is refused in its turn', () => {
    const unknown: TurnEvent = { ...mode('b'), isUnknown: true } as TurnEvent;
    const { all, turns } = after(HOST, mode('a'), unknown);
    expect(all).toEqual(['grant a cpu:1 g0:1']);
    expect(turns.newestMode?.operation.runId).toBe('a');
    expect(after(HOST, mode('a'), unknown, release('a')).said).toEqual(['grant b cpu:2 g0:2']);
  });

  it('leaves other operations alone', () => {
    expect(after(HOST, ask('x'), ask('y'), mode('a')).all.filter((said) => said.startsWith('supersede'))).toEqual([]);
  });

  it('is the one that was started last, whichever asks first, also after that one has ended', () => {
    const started = (name: string, startedAtMs: number) =>
      ask(name, { goal: { kind: 'mode', mode: `mode ${name}` }, startedAtMs });
    expect(after(HOST, started('b', -1), started('a', -2)).said).toEqual(['supersede a by b']);
    const { said, turns } = after(HOST, started('b', -1), release('b'), started('a', -2), started('a', -2));
    expect(said).toEqual([]);
    expect(turns).toMatchObject({ held: [], queue: [] });
    // A clock that was set back makes nobody the newest for ever.
    expect(after(HOST, started('b', 3_600_000), release('b'), started('a', -1)).said).toEqual(['grant a cpu:2 g0:2']);
  });

  it('stays the newest when an older request comes again, before the older run has heard of it', () => {
    const { said, turns } = after(HOST, ask('x'), mode('a'), mode('b'), mode('a'));
    expect(said).toEqual([]);
    expect(turns.queue.map((turn) => turn.operation.runId)).toEqual(['b']);
  });
});
