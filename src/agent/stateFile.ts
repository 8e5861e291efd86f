import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * A small JSON document on disk that survives a kill and a power cut: written beside, synced, renamed.
 * A file that cannot be read as JSON is set aside as `<name>.broken`, and the default counts.
 */
export class StateFile<T> {
  private value: T;

  constructor(
    readonly path: string,
    initial: T,
    /** False for what a power cut makes void anyway: a kill loses nothing, and no write waits for the disk. */
    private readonly outlivesPower = true,
  ) {
    mkdirSync(dirname(path), { recursive: true });
    this.value = this.read() ?? initial;
  }

  get(): T {
    return this.value;
  }

  set(value: T): void {
    const beside = `${this.path}.new`;
    const file = openSync(beside, 'w', 0o600);
    try {
      // A disk that fills up takes a part of it without an error: only the next write tells.
      const bytes = Buffer.from(`${JSON.stringify(value)}\n`);
      for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
      if (this.outlivesPower) fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(beside, this.path);
    if (this.outlivesPower) syncFolder(dirname(this.path));
    this.value = value;
  }

  private read(): T | null {
    let text: string;
    try {
      text = readFileSync(this.path, 'utf8');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
      throw error;
    }
    try {
      return JSON.parse(text) as T;
    } catch {
      renameSync(this.path, `${this.path}.broken`);
      return null;
    }
  }
}

/** The rename itself is on disk only then. Windows syncs no folders, and needs none. */
function syncFolder(folder: string): void {
  if (process.platform === 'win32') return;
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
