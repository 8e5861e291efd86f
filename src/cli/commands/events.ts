import { Command, InvalidArgumentError } from 'commander';
import type { JournalEntry } from '../../contracts/journal.js';
import { type AgentClient, agentClient, ConnectionLost } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { configOf, outputOf } from '../globalOptions.js';
import type { Style } from '../output.js';

const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('Give a whole number of at least 1.');
  return value;
};

/** `vramflow events [--follow]`: what happened on the host (M15), one a line. */
export function eventsCommand(context: CliContext): Command {
  return new Command('events')
    .description('what happened on the host; with --follow also what happens from now on')
    .option('-f, --follow', 'go on until Ctrl-C')
    .option('-n, --lines <count>', 'so many of the past', count, 20)
    .action(async (options: { follow?: boolean; lines: number }, command: Command) => {
      const { config } = configOf(command, context);
      const output = outputOf(command, context);
      const agent = agentClient(config, context);
      const past = await agent.get<JournalEntry[]>(`/v1/journal?limit=${options.lines}`);
      if (past.length === 0)
        output.talk('Nothing has happened yet; a switch such as `vramflow mode recording` will show here.');
      for (const entry of past) output.item(entry, renderEntry);
      if (!options.follow) return;
      for await (const entry of follow(agent, past.at(-1)?.sequence ?? 0)) output.item(entry, renderEntry);
    });
}

/** Journal entries as they come, from a sequence on; also on over connections that the agent ends. */
export async function* follow(agent: AgentClient, after: number): AsyncIterable<JournalEntry> {
  for (let seen = after; ; ) {
    try {
      for await (const line of agent.lines(`/v1/events?after=${seen}`)) {
        if (!line.startsWith('data: ')) continue;
        const entry = JSON.parse(line.slice('data: '.length)) as JournalEntry;
        seen = entry.sequence;
        yield entry;
      }
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
    }
  }
}

export const renderEntry = (entry: JournalEntry, style: Style): string =>
  `${style.dim(entry.time)} ${style.cyan(entry.type.padEnd(15))} ${entry.message}${entry.workflowId ? style.dim(`  ${entry.workflowId}`) : ''}`;
