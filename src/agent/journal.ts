import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { JournalEntry, JournalType } from '../contracts/journal.js';
import { StateFile } from './stateFile.js';

/** What a writer gives; the journal adds sequence and time. */
export interface NewEntry {
  type: JournalType;
  subject?: string | null;
  message: string;
  workflowId?: string | null;
  details?: Record<string, unknown>;
}

/** The newest two files of this many entries are whole; of older ones as many are kept that are no chatter. */
const ENTRIES_A_FILE = 5_000;

/** They may come each second, and would push out in hours what months are asked about. */
const CHATTER: readonly JournalType[] = ['vram_changed', 'foreign_process'];

/** Entries that wait for a disk with room; older ones are then lost at the agent's end. */
const UNWRITTEN_MAX = 1_000;

const NEWLINE = 0x0a;

/** The host's log on disk: JSON lines, a sequence that only grows, synced at each entry. */
export class Journal {
  private entries: JournalEntry[];
  private readonly kept: StateFile<JournalEntry[]>;
  private file: number;
  private inFile: number;
  private readonly unwritten: JournalEntry[] = [];
  private writeProblem: string | null = null;
  private readonly listeners = new Set<(entry: JournalEntry) => void>();

  constructor(private readonly folder: string) {
    mkdirSync(folder, { recursive: true });
    this.kept = new StateFile<JournalEntry[]>(join(folder, 'journal.kept.json'), []);
    const current = readEntries(this.current);
    const whole = [...readEntries(this.former), ...current];
    // A rotation that was killed half-way leaves entries in both.
    const older = this.kept.get().filter(({ sequence }) => sequence < (whole[0]?.sequence ?? Number.POSITIVE_INFINITY));
    this.entries = [...older, ...whole];
    this.inFile = current.length;
    this.file = openSync(this.current, 'a', 0o600);
    // The next entry begins on a line of its own, or it would be lost with the one that a power cut left half written.
    if (endsInTheMiddle(this.current)) writeSync(this.file, '\n');
  }

  append({ type, subject = null, message, workflowId = null, details = {} }: NewEntry): JournalEntry {
    const sequence = this.lastSequence() + 1;
    const entry = { sequence, time: new Date().toISOString(), type, subject, message, workflowId, details };
    this.entries.push(entry);
    this.unwritten.push(entry);
    this.write();
    for (const listener of this.listeners) listener(entry);
    return entry;
  }

  /** Of the newest entry; 0 before the first. */
  lastSequence(): number {
    return this.entries.at(-1)?.sequence ?? 0;
  }

  /** Why entries are not on disk, or null. They are written with the next one that can be. */
  problem(): string | null {
    return this.writeProblem;
  }

  private write(): void {
    try {
      if (this.inFile >= ENTRIES_A_FILE) this.rotate();
      for (let entry = this.unwritten[0]; entry !== undefined; entry = this.unwritten[0]) {
        appendWhole(this.file, `${JSON.stringify(entry)}\n`);
        this.inFile += 1;
        this.unwritten.shift();
      }
      fdatasyncSync(this.file);
      this.writeProblem = null;
    } catch (error) {
      // A full disk must not take the agent down: what happened stays readable here, and the status says so.
      const reason = error instanceof Error ? error.message : String(error);
      this.writeProblem = `the journal cannot be written: ${reason}`;
      if (this.unwritten.length > UNWRITTEN_MAX) this.unwritten.shift();
    }
  }

  /** Entries after a sequence, oldest first; of the given types only, if any are given. */
  read(options: { after?: number; limit?: number; types?: JournalType[] } = {}): JournalEntry[] {
    const { after = 0, limit = this.entries.length, types } = options;
    const found = this.entries.filter((entry) => entry.sequence > after && (!types || types.includes(entry.type)));
    return after > 0 ? found.slice(0, limit) : found.slice(-limit);
  }

  onEntry(listener: (entry: JournalEntry) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  close(): void {
    closeSync(this.file);
  }

  private rotate(): void {
    const older = this.entries.slice(0, -(this.inFile + this.unwritten.length));
    const kept = older.filter(({ type }) => !CHATTER.includes(type)).slice(-ENTRIES_A_FILE);
    // Made first: where a full disk has no room for them, the file that is there stays in use.
    this.kept.set(kept);
    const next = openSync(this.next, 'a', 0o600);
    renameSync(this.current, this.former);
    renameSync(this.next, this.current);
    closeSync(this.file);
    this.entries = [...kept, ...this.entries.slice(older.length)];
    this.file = next;
    this.inFile = 0;
  }

  private get current(): string {
    return join(this.folder, 'journal.jsonl');
  }

  private get next(): string {
    return join(this.folder, 'journal.next.jsonl');
  }

  private get former(): string {
    return join(this.folder, 'journal.1.jsonl');
  }
}

/** All of it or nothing: a disk that fills up in the middle leaves no half line. */
function appendWhole(file: number, text: string): void {
  const { size } = fstatSync(file);
  try {
    const bytes = Buffer.from(text);
    for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
  } catch (error) {
    ftruncateSync(file, size);
    throw error;
  }
}

function endsInTheMiddle(path: string): boolean {
  const text = readFileSync(path);
  return text.length > 0 && text.at(-1) !== NEWLINE;
}

/** A line that a power cut left half written is passed over. */
function readEntries(path: string): JournalEntry[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as JournalEntry];
      } catch {
        return [];
      }
    });
}
