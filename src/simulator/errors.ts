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

/** Throws a BadRequest that lists what is known. */
export function unknownName(what: string, asked: string, known: Iterable<string>): never {
  throw new BadRequest(`unknown ${what} '${asked}'; known: ${[...known].join(', ') || 'none'}`);
}
