/** What vramflow needs of a namespace: its search attributes, and on its own server 30 days of retention. */
import type { Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import proto from '@temporalio/proto';

import { SEARCH_ATTRIBUTES } from '../contracts/names.js';
import { EmbeddedServerError } from './errors.js';

/** Closed workflows stay readable for a month; the dev server's default is one day. */
export const RETENTION_SECONDS = 30 * 24 * 3600;

const KEYWORD = proto.temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD;
/** gRPC status codes. */
const ALREADY_EXISTS = 6;
const UNIMPLEMENTED = 12;

/**
 * Adds the search attributes that are missing. Idempotent, also with several callers at once.
 * @throws EmbeddedServerError `namespace` when one exists with another type, or when the server refuses
 */
export async function ensureSearchAttributes(connection: Connection, namespace: string): Promise<void> {
  const names = Object.values(SEARCH_ATTRIBUTES);
  const present = await listed(connection, namespace);
  const wrong = names.filter((name) => (present[name] ?? KEYWORD) !== KEYWORD);
  if (wrong.length > 0) {
    throw new EmbeddedServerError(
      'namespace',
      `Namespace ${namespace} has ${wrong.join(', ')} with another type than Keyword.`,
      `Remove it with \`temporal operator search-attribute remove --namespace ${namespace} --name ${wrong[0]}\`, or use another namespace.`,
    );
  }
  const missing = names.filter((name) => present[name] === undefined);
  if (missing.length === 0) return;
  try {
    await connection.operatorService.addSearchAttributes({
      namespace,
      searchAttributes: Object.fromEntries(missing.map((name) => [name, KEYWORD])),
    });
  } catch (error) {
    // Another caller added it meanwhile.
    if ((error as { code?: unknown }).code === ALREADY_EXISTS) return;
    throw new EmbeddedServerError(
      'namespace',
      `The server does not take the search attributes ${missing.join(', ')}: ${error instanceof Error ? error.message : String(error)}`,
      `Add them by hand: ${missing.map((name) => `temporal operator search-attribute create --namespace ${namespace} --name ${name} --type Keyword`).join(' && ')}`,
      { cause: error },
    );
  }
}

async function listed(connection: Connection, namespace: string) {
  try {
    return (await connection.operatorService.listSearchAttributes({ namespace })).customAttributes ?? {};
  } catch (error) {
    // The time-skipping test server cannot list; adding tells what is there already.
    if ((error as { code?: unknown }).code === UNIMPLEMENTED) return {};
    throw error;
  }
}

/** Sets the retention of closed workflows where it is another. */
export async function ensureRetention(connection: Connection, namespace: string): Promise<void> {
  const { config } = await connection.workflowService.describeNamespace({ namespace });
  if (Number(config?.workflowExecutionRetentionTtl?.seconds ?? 0) === RETENTION_SECONDS) return;
  await connection.workflowService.updateNamespace({
    namespace,
    config: { workflowExecutionRetentionTtl: msToTs(RETENTION_SECONDS * 1000) },
  });
}
