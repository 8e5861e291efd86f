/** A disk that fills up, and has room again: nothing that was on it is lost, and the agent goes on. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Journal } from '../../src/agent/journal.js';
import { StateFile } from '../../src/agent/stateFile.js';
import { statusOf } from '../../src/agent/status.js';
import { testFolder } from './folder.js';
import { agentOnFakes } from './pieces.js';

/** Bytes that can be written yet, and whether a new file can be made. */
const disk = vi.hoisted(() => ({ roomBytes: Number.POSITIVE_INFINITY, takesFiles: true }));

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const full = () => Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  return {
    ...fs,
    openSync: (path: string, flags: string, mode?: number) => {
      if (!disk.takesFiles && !fs.existsSync(path)) throw full();
      return fs.openSync(path, flags, mode);
    },
    // As the system does it: what has room is written, and only the next call hears that there is none.
    writeSync: (file: number, data: string | Buffer, offset = 0) => {
      const bytes = Buffer.from(data).subarray(offset);
      if (disk.roomBytes === 0) throw full();
      const written = Math.min(bytes.length, disk.roomBytes);
      disk.roomBytes -= written;
      return fs.writeSync(file, bytes, 0, written);
    },
  };
});

afterEach(() => {
  disk.roomBytes = Number.POSITIVE_INFINITY;
  disk.takesFiles = true;
});

describe('a state file on a disk that fills up', () => {
  it('stays as it was when only a part of the new one has room', () => {
    const path = join(testFolder(), 'epochs.json');
    const file = new StateFile<Record<string, number>>(path, {});
    file.set({ gpu: 7 });
    disk.roomBytes = 5;
    expect(() => file.set({ gpu: 8 })).toThrow(/ENOSPC/);
    expect(file.get()).toEqual({ gpu: 7 });
    expect(new StateFile<Record<string, number>>(path, {}).get()).toEqual({ gpu: 7 });
  });
});

describe('the journal on a disk that fills up', () => {
  const FULL_FILE = 5_000;

  it('keeps its file while no new one can be made, and turns it once there is room', () => {
    const folder = testFolder();
    const line = (sequence: number) => `${JSON.stringify({ sequence, type: 'warning', message: 'before' })}\n`;
    writeFileSync(join(folder, 'journal.jsonl'), Array.from({ length: FULL_FILE }, (_, n) => line(n + 1)).join(''));
    const journal = new Journal(folder);
    const say = (message: string) => journal.append({ type: 'warning', message });
    disk.takesFiles = false;
    say('there is no room');
    expect(journal.problem()).toContain('ENOSPC');
    disk.takesFiles = true;
    say('there is room');
    expect(journal.problem()).toBeNull();
    journal.close();
    const written = readFileSync(join(folder, 'journal.jsonl'), 'utf8').trim().split('\n');
    expect(written.map((text) => JSON.parse(text).message)).toEqual(['there is no room', 'there is room']);
    const next = new Journal(folder);
    expect(next.read()).toHaveLength(FULL_FILE + 2);
    next.close();
  });
});

describe('an agent on a full disk', () => {
  const VLM = 'model/qwen3-vl:8b';

  it('goes on, also when what it remembers changes, and says so; with room again it is written', async () => {
    const { agent, ollama, folder } = await agentOnFakes({ clip: false });
    agent.setDisplaced({ [VLM]: 'lease train' });
    disk.takesFiles = false;
    // A direct request brings it back.
    ollama.put('qwen3-vl:8b');
    await agent.watch.look();
    expect(agent.displaced).toEqual({});
    expect(statusOf(agent, '1', 0).degraded_reason).toContain('cannot be written: ENOSPC');
    disk.takesFiles = true;
    agent.setMode('recording');
    expect(statusOf(agent, '1', 0).degraded_reason ?? '').not.toContain('ENOSPC');
    expect(new StateFile(join(folder, 'state.json'), {}).get()).toEqual({
      mode: 'recording',
      errors: {},
      displaced: {},
    });
  });
});
