import {
  closeSync,
  existsSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { JournalEntry, JournalType } from '../contracts/journal.js';

/** What a writer gives; the journal adds sequence and time. */
export interface NewEntry {
  type: JournalType;
  subject?: string | null;
  message: string;
  workflowId?: string | null;
  details?: Record<string, unknown>;
}

/** Two files of at most this many entries are kept: the bound of the journal. */
const ENTRIES_A_FILE = 5_000;

const NEWLINE = 0x0a;

/** The host's log on disk: JSON lines, a sequence that only grows, synced at each entry. */
export class Journal {
  private entries: JournalEntry[];
  private file: number;
  private inFile: number;
  private readonly listeners = new Set<(entry: JournalEntry) => void>();

  constructor(private readonly folder: string) {
    mkdirSync(folder, { recursive: true });
    const current = readEntries(this.current);
    this.entries = [...readEntries(this.former), ...current];
    this.inFile = current.length;
    this.file = openSync(this.current, 'a', 0o600);
    // The next entry begins on a line of its own, or it would be lost with the one that a power cut left half written.
    if (endsInTheMiddle(this.current)) writeSync(this.file, '\n');
  }

  append({ type, subject = null, message, workflowId = null, details = {} }: NewEntry): JournalEntry {
    const sequence = (this.entries.at(-1)?.sequence ?? 0) + 1;
    const entry = { sequence, time: new Date().toISOString(), type, subject, message, workflowId, details };
    if (this.inFile >= ENTRIES_A_FILE) this.rotate();
    writeSync(this.file, `${JSON.stringify(entry)}\n`);
    fdatasyncSync(this.file);
    this.inFile += 1;
    this.entries.push(entry);
    for (const listener of this.listeners) listener(entry);
    return entry;
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
    closeSync(this.file);
    renameSync(this.current, this.former);
    this.entries = this.entries.slice(-this.inFile);
    this.file = openSync(this.current, 'a', 0o600);
    this.inFile = 0;
  }

  private get current(): string {
    return join(this.folder, 'journal.jsonl');
  }

  private get former(): string {
    return join(this.folder, 'journal.1.jsonl');
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
