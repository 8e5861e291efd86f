/** Law 7: a host that is simulated says so, whatever a command prints as data. */
import type { CliContext } from './context.js';

/** Who has been told: each call of the command line once, on stderr. */
const told = new WeakSet<CliContext>();

export function saySimulated(context: CliContext): void {
  if (told.has(context)) return;
  told.add(context);
  context.stderr.write('SIMULATED host: nothing of this is real hardware\n');
}
