import { closest, distance } from 'fastest-levenshtein';

/** A request to the simulator that it cannot follow. The message says what is known instead. */
export class BadRequest extends Error {
  override readonly name = 'BadRequest';
}

/** An allocation that does not fit the card. Sizes in MB. */
export class OutOfMemory extends Error {
  override readonly name = 'OutOfMemory';
  constructor(
    readonly gpu: string,
    readonly askedMb: number,
    readonly freeMb: number,
  ) {
    super(`out of memory: ${askedMb} MB asked of ${gpu}, ${freeMb} MB free`);
  }
}

/** What the simulated Ollama answers with: a status and its own error text. */
export class OllamaError extends Error {
  override readonly name = 'OllamaError';
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** What the simulated Docker daemon answers with: a status and its own error text. */
export class DockerError extends Error {
  override readonly name = 'DockerError';
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** Throws a BadRequest that lists what is known, and names what was probably meant. */
export function unknownName(what: string, asked: string, known: Iterable<string>): never {
  const names = [...known];
  const near = names.length === 0 ? '' : closest(asked, names);
  const meant = near !== '' && distance(asked, near) <= Math.max(2, asked.length / 3) ? ` did you mean '${near}'?` : '';
  throw new BadRequest(`unknown ${what} '${asked}';${meant} known: ${names.join(', ') || 'none'}`);
}
