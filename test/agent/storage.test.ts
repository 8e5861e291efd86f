import { appendFileSync, chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it, test, vi } from 'vitest';
import { Journal } from '../../src/agent/journal.js';
import { Learned } from '../../src/agent/learned.js';
import { lockFolder, SecondAgent } from '../../src/agent/lock.js';
import { StateFile } from '../../src/agent/stateFile.js';
import { ensureToken, isToken, readToken, TokenError } from '../../src/agent/token.js';
import { Uses } from '../../src/agent/uses.js';
import type { JournalEntry } from '../../src/contracts/journal.js';
import { testFolder } from './folder.js';

afterEach(() => {
  vi.useRealTimers();
});

describe('a state file', () => {
  it('keeps what was set, for the next start, for its owner only', () => {
    const path = join(testFolder(), 'deep', 'state.json');
    const file = new StateFile(path, { n: 0 });
    expect(file.get()).toEqual({ n: 0 });
    file.set({ n: 1 });
    expect(new StateFile(path, { n: 0 }).get()).toEqual({ n: 1 });
    expect(statSync(path).mode & 0o077).toBe(0);
    expect(existsSync(`${path}.new`)).toBe(false);
  });

  it('sets a broken file aside, and goes on with the default', () => {
    const path = join(testFolder(), 'state.json');
    writeFileSync(path, '{"n": 1');
    expect(new StateFile(path, { n: 0 }).get()).toEqual({ n: 0 });
    expect(readFileSync(`${path}.broken`, 'utf8')).toBe('{"n": 1');
    expect(existsSync(path)).toBe(false);
  });

  it('ignores what a crash left beside it half written', () => {
    const path = join(testFolder(), 'state.json');
    new StateFile(path, { n: 0 }).set({ n: 1 });
    writeFileSync(`${path}.new`, '{"n"');
    const file = new StateFile(path, { n: 0 });
    expect(file.get()).toEqual({ n: 1 });
    file.set({ n: 2 });
    expect(new StateFile(path, { n: 0 }).get()).toEqual({ n: 2 });
  });

  it('does not take a folder for an absent file', () => {
    expect(() => new StateFile(testFolder(), {})).toThrow(/EISDIR/);
  });
});

const say = (journal: Journal, message: string): JournalEntry => journal.append({ type: 'warning', message });
const messages = (entries: JournalEntry[]): string[] => entries.map((entry) => entry.message);

describe('the journal', () => {
  it('numbers its entries from one, over restarts', () => {
    const folder = testFolder();
    const first = new Journal(folder);
    expect([say(first, 'a').sequence, say(first, 'b').sequence]).toEqual([1, 2]);
    first.close();
    const second = new Journal(folder);
    expect(say(second, 'c').sequence).toBe(3);
    expect(messages(second.read())).toEqual(['a', 'b', 'c']);
    second.close();
  });

  it('passes over a line that was left half written, and loses none after it', () => {
    const folder = testFolder();
    const first = new Journal(folder);
    say(first, 'a');
    first.close();
    appendFileSync(join(folder, 'journal.jsonl'), '{"sequence":2,"time":"20');
    const second = new Journal(folder);
    expect(say(second, 'b').sequence).toBe(2);
    second.close();
    const third = new Journal(folder);
    expect(messages(third.read())).toEqual(['a', 'b']);
    expect(say(third, 'c').sequence).toBe(3);
    third.close();
  });

  it('reads the last ones without a sequence, the next ones after one, and chosen types', () => {
    const journal = new Journal(testFolder());
    for (const message of ['a', 'b', 'c', 'd']) say(journal, message);
    journal.append({ type: 'mode_changed', message: 'e' });
    expect(messages(journal.read({ limit: 2 }))).toEqual(['d', 'e']);
    expect(messages(journal.read({ after: 1, limit: 2 }))).toEqual(['b', 'c']);
    expect(messages(journal.read({ types: ['mode_changed'] }))).toEqual(['e']);
    expect(journal.read({ after: 5 })).toEqual([]);
    journal.close();
  });

  it('tells its listeners until they stop', () => {
    const journal = new Journal(testFolder());
    const heard: string[] = [];
    const stop = journal.onEntry((entry) => heard.push(entry.message));
    say(journal, 'a');
    stop();
    say(journal, 'b');
    expect(heard).toEqual(['a']);
    journal.close();
  });

  /** A line as a former life of the agent left it. */
  const line = (sequence: number, type: JournalEntry['type'] = 'vram_changed') =>
    `${JSON.stringify({ sequence, time: '', type, subject: null, message: `${sequence}`, workflowId: null, details: {} })}\n`;
  const lines = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => line(from + n)).join('');

  it('is whole in two files of 5,000, and the sequence goes on over the turn of the file', () => {
    const folder = testFolder();
    writeFileSync(join(folder, 'journal.jsonl'), lines(1, 4_999));
    writeFileSync(join(folder, 'journal.1.jsonl'), line(0));
    const journal = new Journal(folder);
    const seen: number[] = [];
    let after = 4_990;
    const follow = () => {
      for (const entry of journal.read({ after, limit: 3 })) {
        seen.push(entry.sequence);
        after = entry.sequence;
      }
    };
    for (const message of ['x', 'y', 'z']) {
      say(journal, message);
      follow();
    }
    for (let n = 0; n < 5; n += 1) follow();
    expect(seen).toEqual([4_991, 4_992, 4_993, 4_994, 4_995, 4_996, 4_997, 4_998, 4_999, 5_000, 5_001, 5_002]);
    expect(journal.read()[0]?.sequence).toBe(1);
    journal.close();
    const next = new Journal(folder);
    expect(next.read().map((entry) => entry.sequence)).toEqual(Array.from({ length: 5_002 }, (_, n) => n + 1));
    expect(say(next, 'later').sequence).toBe(5_003);
    next.close();
  });

  const sequences = (journal: Journal) => journal.read().map(({ sequence }) => sequence);

  it('forgets chatter first: what came of operations outlives it, over turns of the file and restarts', () => {
    const folder = testFolder();
    writeFileSync(join(folder, 'journal.1.jsonl'), line(1, 'operation') + line(2) + line(3, 'quarantined'));
    let last = 3;
    for (let turn = 0; turn < 3; turn += 1) {
      writeFileSync(join(folder, 'journal.jsonl'), lines(last + 1, last + 5_000));
      last += 5_001;
      const journal = new Journal(folder);
      say(journal, 'turns the file');
      expect(sequences(journal).slice(0, 3)).toEqual([1, 3, last - 5_000]);
      journal.close();
    }
    const journal = new Journal(folder);
    expect(messages(journal.read({ types: ['operation'], limit: 5 }))).toEqual(['1']);
    expect(messages(journal.read({ after: 1, limit: 1 }))).toEqual(['3']);
    expect(journal.lastSequence()).toBe(last);
    journal.close();
  });

  it('keeps no more than 5,000 of what is no chatter', () => {
    const folder = testFolder();
    const operations = Array.from({ length: 5_000 }, (_, n) => line(n + 2, 'operation')).join('');
    writeFileSync(join(folder, 'journal.1.jsonl'), line(1, 'operation') + operations);
    writeFileSync(join(folder, 'journal.jsonl'), lines(5_002, 10_001));
    const journal = new Journal(folder);
    say(journal, 'turns the file');
    expect(sequences(journal)).toEqual(Array.from({ length: 10_001 }, (_, n) => n + 2));
    journal.close();
  });

  it('shows nothing twice when a turn of the file was killed half-way, and takes it up', () => {
    const folder = testFolder();
    writeFileSync(join(folder, 'journal.1.jsonl'), line(1, 'operation') + line(2));
    writeFileSync(join(folder, 'journal.jsonl'), lines(3, 5_002));
    writeFileSync(join(folder, 'journal.kept.json'), `[${line(1, 'operation')}]`);
    const journal = new Journal(folder);
    expect(sequences(journal).slice(0, 4)).toEqual([1, 2, 3, 4]);
    say(journal, 'turns the file');
    expect(sequences(journal).slice(0, 3)).toEqual([1, 3, 4]);
    journal.close();
  });
});

test('a reader with `after` sees each entry of the journal once, in order, over restarts and half lines', () => {
  const move = fc.oneof(
    { weight: 5, arbitrary: fc.constant('write' as const) },
    { weight: 3, arbitrary: fc.constant('read' as const) },
    fc.constantFrom('restart' as const, 'cut' as const),
  );
  fc.assert(
    fc.property(fc.array(move, { maxLength: 25 }), fc.integer({ min: 1, max: 4 }), (moves, limit) => {
      const folder = testFolder();
      let journal = new Journal(folder);
      const written: number[] = [];
      const seen: number[] = [];
      const read = () => {
        // A reader that has seen nothing yet asks for all: `after` 0 means the newest.
        const found = journal.read({ after: seen.at(-1) ?? 0, ...(seen.length > 0 ? { limit } : {}) });
        seen.push(...found.map((entry) => entry.sequence));
        return found.length;
      };
      for (const one of moves) {
        if (one === 'write') written.push(say(journal, 'x').sequence);
        else if (one === 'read') read();
        else {
          journal.close();
          if (one === 'cut') appendFileSync(join(folder, 'journal.jsonl'), '{"sequence":99999,"ti');
          journal = new Journal(folder);
        }
      }
      while (read() > 0);
      journal.close();
      expect(seen).toEqual(written);
      expect(written).toEqual(written.map((_, n) => n + 1));
    }),
    { numRuns: 200 },
  );
});

describe('what was used last (M12)', () => {
  const usesIn = (folder: string, now: () => number) =>
    new Uses(new StateFile<Record<string, number>>(join(folder, 'uses.json'), {}), now);

  it('is the later of the last use and the start', () => {
    let now = 1_000;
    const uses = usesIn(testFolder(), () => now);
    now = 5_000;
    expect(uses.idleFor('a')).toBe(4_000);
    expect(uses.lastUse('a')).toBeNull();
    uses.touch('a');
    now = 6_500;
    expect(uses.idleFor('a')).toBe(1_500);
    expect(uses.lastUse('a')).toBe(5_000);
    uses.flush();
  });

  it('is on disk half a second after a burst, once', () => {
    vi.useFakeTimers();
    const folder = testFolder();
    const uses = usesIn(folder, () => 7_000);
    const path = join(folder, 'uses.json');
    for (const tenant of ['a', 'b', 'a']) uses.touch(tenant);
    expect(existsSync(path)).toBe(false);
    vi.advanceTimersByTime(500);
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({ a: 7_000, b: 7_000 });
    expect(vi.getTimerCount()).toBe(0);
    expect(usesIn(folder, () => 8_000).lastUse('a')).toBe(7_000);
  });

  it('is not later than the start when the clock had been ahead', () => {
    const folder = testFolder();
    writeFileSync(join(folder, 'uses.json'), '{"a":4000000}');
    let now = 1_000;
    const uses = usesIn(folder, () => now);
    now = 3_000;
    expect(uses.idleFor('a')).toBe(2_000);
  });

  it('never goes back, whatever the clock does', () => {
    vi.useFakeTimers();
    fc.assert(
      fc.property(
        fc.array(fc.record({ now: fc.nat(100), at: fc.option(fc.nat(150)), restart: fc.boolean() }), { maxLength: 30 }),
        (moves) => {
          let now = 1;
          let latest = 1;
          const folder = testFolder();
          let uses = usesIn(folder, () => now);
          let last = 0;
          for (const move of moves) {
            now = move.now;
            latest = Math.max(latest, now);
            if (move.restart) {
              // A start does not come before the uses that it finds: that is another test.
              now = latest;
              uses.flush();
              uses = usesIn(folder, () => now);
            }
            if (move.at === null) uses.touch('a');
            else uses.touch('a', move.at);
            const use = uses.lastUse('a') ?? 0;
            expect(use).toBeGreaterThanOrEqual(last);
            expect(use).toBeLessThanOrEqual(latest);
            expect(uses.idleFor('a')).toBeGreaterThanOrEqual(0);
            last = use;
          }
          uses.flush();
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('what was learned', () => {
  it('is the last footprint and a moving mean of load times, on disk', () => {
    const path = join(testFolder(), 'learned.json');
    const learned = new Learned(new StateFile(path, {}));
    expect(learned.get('a', null)).toEqual({});
    learned.record('a', ['G1'], { chargeMb: 100, peakMb: 120, loadMs: 1_000, stopMs: 800 });
    learned.record('a', ['G1'], { chargeMb: 90, peakMb: 110, loadMs: 2_000 });
    learned.record('b', ['G1'], { chargeMb: 1, peakMb: 1, loadMs: 1 });
    const known = { chargeMb: 90, peakMb: 110, loadMs: 1_500, stopMs: 800 };
    expect(new Learned(new StateFile(path, {})).get('a', ['G1'])).toEqual(known);
  });

  it('is kept by GPU: what was not measured there is as last seen elsewhere', () => {
    const learned = new Learned(new StateFile(join(testFolder(), 'learned.json'), {}));
    learned.record('a', ['G2', 'G1'], { chargeMb: 130, loadMs: 5_000 });
    learned.record('a', ['G1'], { chargeMb: 100, loadMs: 1_000, stopMs: 400 });
    learned.record('a', ['G2'], { chargeMb: 110, loadMs: 3_000 });
    learned.record('ab', ['G1'], { chargeMb: 999, loadMs: 9 });
    expect(learned.get('a', ['G1'])).toEqual({ chargeMb: 100, loadMs: 1_000, stopMs: 400 });
    expect(learned.get('a', ['G1', 'G2'])).toEqual({ chargeMb: 130, loadMs: 5_000, stopMs: 400 });
    expect(learned.get('a', ['G3'])).toEqual({ chargeMb: 110, loadMs: 3_000, stopMs: 400 });
    expect(learned.get('a', null)).toMatchObject({ chargeMb: 110 });
    expect(learned.mostMb('a')).toBe(130);
    expect(learned.times('a', null)).toEqual({
      stopMs: 400,
      loadMsOn: { 'G1+G2': 5_000, G1: 1_000, G2: 3_000 },
    });
  });

  it('reads what a version wrote that kept it by tenant alone', () => {
    const path = join(testFolder(), 'learned.json');
    writeFileSync(path, JSON.stringify({ a: { chargeMb: 100, peakMb: 120, loadMs: 1_000 } }));
    const learned = new Learned(new StateFile(path, {}));
    expect(learned.get('a', ['G1'])).toEqual({ chargeMb: 100, peakMb: 120, loadMs: 1_000 });
    expect(learned.mostMb('a')).toBe(100);
    expect(learned.times('a', null)).toEqual({});
    learned.record('a', ['G1'], { loadMs: 4_000 });
    expect(learned.get('a', ['G1'])).toEqual({ chargeMb: 100, peakMb: 120, loadMs: 4_000 });
  });
});

describe('the token', () => {
  it('is made once, for its owner only', () => {
    const path = join(testFolder(), 'deep', 'token');
    const token = ensureToken(path);
    expect(token).toMatch(/^[0-9a-f]{64}$/);
    expect(statSync(path).mode & 0o077).toBe(0);
    expect(ensureToken(path)).toBe(token);
    expect(readToken(path)).toBe(token);
  });

  it('is refused when others can read it, and when it is none', () => {
    const path = join(testFolder(), 'token');
    expect(() => readToken(path)).toThrow(/vramflow up/);
    ensureToken(path);
    chmodSync(path, 0o644);
    expect(() => ensureToken(path)).toThrow(/chmod 600/);
    writeFileSync(path, 'short\n');
    expect(() => readToken(path)).toThrow(TokenError);
    expect(() => readToken(testFolder())).toThrow(/EISDIR/);
  });

  it('is compared whole', () => {
    expect(isToken('secret-secret-12', 'secret-secret-12')).toBe(true);
    for (const wrong of ['', 'secret', 'secret-secret-13', 'secret-secret-123']) {
      expect(isToken(wrong, 'secret-secret-12')).toBe(false);
    }
  });
});

describe('the lock of a folder', () => {
  it('has one holder at a time', async () => {
    const folder = testFolder();
    const lock = await lockFolder(folder);
    await expect(lockFolder(folder)).rejects.toThrow(SecondAgent);
    await (await lockFolder(testFolder()))[Symbol.asyncDispose]();
    await new Promise((resolve) => lock.close(resolve));
    const again = await lockFolder(folder);
    await new Promise((resolve) => again.close(resolve));
  });
});
