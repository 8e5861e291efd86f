/** Everything that can go wrong between "no Temporal" and "Temporal answers", as one typed error. */

export type EmbeddedErrorKind =
  /** No link of the chain gave a server; the message has each link's reason. */
  | 'no-server'
  /** An address was given and nothing answers there. */
  | 'unreachable'
  /** Another program listens on a port that is needed. */
  | 'port-in-use'
  | 'data-folder'
  /** The database was last written by a newer server. */
  | 'database-newer'
  /** The process ended before it answered. */
  | 'died'
  /** The process lives, but did not answer in time. */
  | 'not-ready'
  /** A process cannot be proven ours, so it is not signalled (law 5). */
  | 'unproven'
  /** A lock is held for longer than the wait allows. */
  | 'locked'
  /** Search attributes or retention were refused. */
  | 'namespace'
  /** A child of the supervisor keeps dying. */
  | 'child-failed';

/** `message` says what happened, `remedy` what to do about it (P10). */
export class EmbeddedServerError extends Error {
  override readonly name = 'EmbeddedServerError';

  constructor(
    readonly kind: EmbeddedErrorKind,
    message: string,
    readonly remedy: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}
