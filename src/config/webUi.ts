import type { Config } from './schema.js';

/** The page of a workflow in the Web UI; null where the server is somebody else's and its UI is not known. */
export function webLink(config: Config, workflowId: string, runId: string): string | null {
  if (config.temporal.address !== undefined) return null;
  const base = `http://127.0.0.1:${config.temporal.ui_port}/namespaces/${config.temporal.namespace}/workflows`;
  return `${base}/${encodeURIComponent(workflowId)}/${runId}/history`;
}
