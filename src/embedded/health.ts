/** Proof over gRPC that a Temporal server answers. */
import { Connection } from '@temporalio/client';

/** What the server's own health checks name. */
const SERVICE = 'temporal.api.workflowservice.v1.WorkflowService';
const SERVING = 1;

/**
 * A connection to a server that says it serves and knows the namespace, or why not.
 * @param timeoutMs bound of the whole
 */
export async function connectHealthy(
  address: string,
  namespace: string,
  timeoutMs: number,
): Promise<Connection | { reason: string }> {
  let connection: Connection | undefined;
  try {
    connection = await Connection.connect({ address, connectTimeout: timeoutMs });
    const healthy = connection;
    await healthy.withDeadline(Date.now() + timeoutMs, async () => {
      const { status } = await healthy.healthService.check({ service: SERVICE });
      if ((status as number) !== SERVING) throw new TypeError(`it answers health status ${String(status)}`);
      await healthy.workflowService.describeNamespace({ namespace });
    });
    return healthy;
  } catch (error) {
    await connection?.close();
    return { reason: error instanceof Error ? error.message : String(error) };
  }
}
