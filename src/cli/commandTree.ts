/** A command with all that it has started: its children, and what left them and carries its marker. */
import type { ChildProcess } from 'node:child_process';
import { type EndTarget, endTarget } from '../adapters/processes/ending.js';
import { newMarker } from '../adapters/processes/spawn.js';
import { readTable, signalMembers, treeIn } from '../adapters/processes/tree.js';
import { OWNER_VARIABLE, type ProcessSight, readBootId, stillLives } from '../processes/proc.js';

export class CommandTree {
  private readonly marker = newMarker();
  private child: ChildProcess | null = null;
  private seen: ProcessSight[] = [];
  private ending: Promise<unknown> | null = null;

  /** The environment in which it is to be started. */
  marked(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
    return { ...env, [OWNER_VARIABLE]: this.marker };
  }

  /** What was started in that environment. */
  watch(child: ChildProcess): void {
    this.child = child;
  }

  /** SIGTERM, then SIGKILL for what outlives `termMs`. Resolves when nothing of it lives, or 5 s after that. */
  end(termMs: number): Promise<unknown> {
    const { signal } = new AbortController();
    this.ending ??= this.target().then((target) => endTarget(target, { ask: null, graceMs: 0, termMs, signal }));
    return this.ending;
  }

  private async target(): Promise<EndTarget> {
    // Without /proc the command itself is all that is known.
    if ((await readBootId()) === null) {
      return {
        ended: () => Promise.resolve(!this.childLives()),
        signal: (name) => Promise.resolve(this.child?.kill(name) ? 'ours' : 'gone'),
      };
    }
    return {
      ended: async () => {
        for (const member of this.seen) if (await stillLives(member)) return false;
        return (await this.look()).length === 0;
      },
      signal: async (name) => {
        await signalMembers(await this.look(), name);
        return 'ours';
      },
    };
  }

  /** Its members at this moment; those that were members before still are, whatever their parent is by now. */
  private async look(): Promise<ProcessSight[]> {
    const table = await readTable();
    // Until its end was seen here, its pid is its own.
    const leader = this.childLives() ? (table.find(({ pid }) => pid === this.child?.pid) ?? null) : null;
    const { marker, seen } = this;
    this.seen = treeIn(table, { marker, leader, ownSession: false, listed: [], seen });
    return this.seen;
  }

  private childLives(): boolean {
    return this.child?.pid !== undefined && this.child.exitCode === null && this.child.signalCode === null;
  }
}
