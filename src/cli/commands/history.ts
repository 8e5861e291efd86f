import { Command } from 'commander';
import type { JournalEntry } from '../../contracts/journal.js';
import type { OperationOutcome } from '../../contracts/operation.js';
import { agentClient } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { configOf, outputOf } from '../globalOptions.js';
import { table } from '../output.js';

/** `vramflow history`: the operations, newest last, from the journal; it outlives Temporal's retention. */
export function historyCommand(context: CliContext): Command {
  return new Command('history')
    .description('the operations of this host, with who asked and what came out')
    .action(async (_options, command: Command) => {
      const { config } = configOf(command, context);
      const agent = agentClient(config, context);
      const entries = await agent.get<JournalEntry[]>('/v1/journal?type=operation&limit=50');
      // An agent of an earlier version knows no types.
      const operations = entries.filter(({ type }) => type === 'operation');
      outputOf(command, context).data(operations, (_value, style) => {
        const rows = operations.map((entry) => {
          const outcome = entry.details['outcome'] as OperationOutcome;
          return [
            entry.time,
            outcome.status,
            `${(outcome.totalMs / 1000).toFixed(1)} s`,
            String(entry.details['requestedBy']),
            entry.message,
          ];
        });
        if (rows.length === 0)
          return 'no operation has ended yet; `vramflow mode <mode>` or `vramflow model load <model>` is one';
        return table(
          ['time', 'outcome', 'took', 'asked by', 'what'].map((title) => ({ title })),
          rows,
          style,
        );
      });
    });
}
