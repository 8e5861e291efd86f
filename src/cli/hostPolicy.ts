import type { Config } from '../config/schema.js';
import { toHostPolicy } from '../config/toPolicy.js';
import type { AgentView } from '../contracts/operation.js';
import type { HostPolicy } from '../contracts/policy.js';
import { agentClient } from './agentClient.js';
import type { CliContext } from './context.js';
import { EXIT } from './exitCodes.js';
import { UserError } from './userError.js';

/** What the host's agent runs with: its operations go by that. Without an agent, what the configuration here says. */
export async function hostPolicy(config: Config, context: CliContext): Promise<HostPolicy> {
  try {
    const { policy } = await agentClient(config, context).get<AgentView>('/v1/view');
    if (policy.host === config.host) return policy;
  } catch (error) {
    if (!(error instanceof UserError) || error.exitCode !== EXIT.unavailable) throw error;
  }
  return toHostPolicy(config);
}
