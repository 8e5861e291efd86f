import type { Config } from '../config/schema.js';
import { type AskedGoal, startOf } from '../contracts/start.js';
import { describeGoal } from '../domain/describeGoal.js';
import type { CliContext } from './context.js';
import { exitWith } from './exit.js';
import { operate } from './operate.js';
import type { Output } from './output.js';

/** Starts the operation for a goal and ends with its exit code. */
export async function ask(
  config: Config,
  context: CliContext,
  output: Output,
  goal: AskedGoal,
  wait: boolean,
): Promise<void> {
  const { host } = config;
  const { workflow, tenant } = startOf(host, goal, '');
  const code = await operate(config, context, output, {
    workflow,
    workflowId: (request) => startOf(host, goal, request).workflowId,
    input: { host, goal, requestedBy: 'the command line', priority: 50 },
    ...(tenant === null ? {} : { tenant }),
    summary: `${describeGoal(goal)}, asked for on the command line`,
    wait,
  });
  exitWith(code);
}
