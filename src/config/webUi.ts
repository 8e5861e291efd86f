import type { Config } from './schema.js';

/** The page of a workflow in the Web UI; null where the server is somebody else's and its UI is not known. */
export function webLink({ temporal }: Pick<Config, 'temporal'>, workflowId: string, runId: string): string | null {
  const own = temporal.address === undefined ? `http://127.0.0.1:${temporal.ui_port}` : null;
  const base = temporal.ui_url?.replace(/\/+$/, '') ?? own;
  if (base === null) return null;
  return `${base}/namespaces/${temporal.namespace}/workflows/${encodeURIComponent(workflowId)}/${runId}/history`;
}
