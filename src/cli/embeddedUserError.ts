/** What the embedded parts throw, as the person at the keyboard should see it. */
import { EmbeddedServerError } from '../embedded/errors.js';
import { EXIT } from './exitCodes.js';
import { UserError } from './userError.js';

/** @throws always: a `UserError` for an `EmbeddedServerError`, anything else as it is */
export function embeddedUserError(error: unknown): never {
  if (!(error instanceof EmbeddedServerError)) throw error;
  throw new UserError(error.message, {
    exitCode: EXIT.unavailable,
    remedy: error.remedy,
    code: error.kind,
    cause: error,
  });
}
