import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@temporalio/client';
import { Worker } from '@temporalio/worker';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { createConcludeActivities } from '../activities/conclude.js';
import { signalHost } from '../activities/control.js';
import { createEmbedderActivities } from '../activities/embedder.js';
import { createIdleActivities } from '../activities/idle.js';
import { createModelActivities } from '../activities/models.js';
import { createObserveActivities } from '../activities/observe.js';
import { createReservationActivities } from '../activities/reservations.js';
import { createServiceActivities } from '../activities/services.js';
import type { Agent } from '../agent/agent.js';
import { createEndpoint } from '../agent/endpoint.js';
import { lockFolder, SecondAgent } from '../agent/lock.js';
import { OnDemand } from '../agent/onDemand.js';
import { StateFile } from '../agent/stateFile.js';
import { ensureToken } from '../agent/token.js';
import { agentFolder, endpointFile, type Folders } from '../config/folders.js';
import type { Config } from '../config/schema.js';
import { webLink } from '../config/webUi.js';
import { SIGNAL } from '../contracts/messages.js';
import { CONTROL_QUEUE, hostQueue, SEARCH_ATTRIBUTES, tenantName, workflowId } from '../contracts/names.js';
import type { OperationInput, OperationOutcome } from '../contracts/operation.js';
import { createLeases } from '../gateway/leases.js';
import { connectedClient, createOperations } from '../gateway/operations.js';
import { createGateway, type GatewayOptions } from '../gateway/server.js';
import { buildAgent } from './buildAgent.js';
import { connect } from './connection.js';
import { register, wakeHost, watchHost } from './hostChain.js';
import { hostIntents } from './hostIntents.js';
import { reapRemoved } from './reapRemoved.js';
import { WORKER_TUNING } from './tuning.js';

export interface AgentRole {
  config: Config;
  folders: Folders;
  simulated: boolean;
  version: string;
  log: Logger;
  signal: AbortSignal;
}

export const tokenFile = (config: Config, folders: Folders): string =>
  config.agent.token_file ?? join(folders.data, 'token');

/** Runs the worker beside the hardware and its HTTP endpoint, until the signal. @throws SecondAgent */
export async function runAgent(role: AgentRole): Promise<void> {
  const { config, folders, log, signal, version } = role;
  // What a simulated host teaches says nothing of the real one.
  const folder = join(agentFolder(folders, config.host), role.simulated ? 'simulated' : 'real');
  const startedAt = Date.now();
  const lock = await lockFolder(folder);
  const instance = randomUUID();
  const { agent, reporter, connectReporter } = await buildAgent(role, folder, instance);
  // Status, plans and the journal answer before Temporal does.
  let clientWhenThere: Client | null = null;
  const onDemand = new OnDemand(agent, (tenant) => startLoad(clientWhenThere, config.host, tenant));
  const token = ensureToken(tokenFile(config, folders));
  const endpoint = createEndpoint({
    agent,
    onDemand,
    hostIntents: () => hostIntents(clientWhenThere, config.host),
    token,
    version,
    startedAt,
  });
  await listen(endpoint, config, folders);
  const operations = createOperations(
    config.host,
    () => clientWhenThere,
    (id, run) => webLink(config, id, run),
  );
  const leases = () => createLeases(connectedClient(clientWhenThere), config.host);
  const gateway = await openGateway(config, { agent, operations, leases, token });
  try {
    const { native, connection, client } = await connect(config, log, signal);
    clientWhenThere = client;
    const registration = { instance, lockDomain: `${hostname()}:${folder}` };
    const chain = { client, host: config.host, log, signal };
    await register(chain, registration).catch(async (error: unknown) => {
      // It may have started CLIP, which outlives its agent; nobody would use this one, nor end it.
      if (error instanceof SecondAgent) {
        await agent.embedder.end().catch((failed: unknown) => log.warn({ error: String(failed) }, 'CLIP does not end'));
      }
      throw error;
    });
    connectReporter(async (edge) => {
      await client.withDeadline(Date.now() + 10_000, () => signalHost(client, config.host, SIGNAL.edge, [edge]));
    });
    const worker = await Worker.create({
      ...WORKER_TUNING,
      connection: native,
      namespace: config.temporal.namespace,
      taskQueue: hostQueue(config.host),
      activities: { ...agentActivities(agent), identifyAgent: () => Promise.resolve(registration) },
      identity: `vramflow-agent@${config.host}/${process.pid}`,
    });
    signal.addEventListener('abort', () => worker.shutdown(), { once: true });
    const running = worker.run();
    // Only now that it is this host's agent, and answers for it: another one may have other services.
    await reapRemoved({ config, folder, journal: agent.journal, log, signal });
    await wakeHost(chain);
    const watching = watchHost(chain);
    agent.journal.append({ type: 'agent_started', subject: config.host, message: `agent ${instance} is up` });
    log.info({ queue: hostQueue(config.host) }, 'the agent runs');
    await running;
    await watching;
    await connection.close();
    await native.close();
  } finally {
    rmSync(endpointFile(folders, config.host), { force: true });
    reporter.stop();
    await endpoint.close();
    await gateway?.close();
    await agent.stop();
    lock.close();
  }
}

const agentActivities = (agent: Agent) => ({
  ...createObserveActivities(agent),
  ...createModelActivities(agent),
  ...createEmbedderActivities(agent),
  ...createServiceActivities(agent),
  ...createReservationActivities(agent),
  ...createIdleActivities(agent),
  ...createConcludeActivities(agent),
});

async function listen(endpoint: FastifyInstance, config: Config, folders: Folders): Promise<void> {
  const url = await endpoint.listen(hostAndPort(config.agent.listen));
  new StateFile<{ url: string; pid: number } | null>(endpointFile(folders, config.host), null).set({
    url,
    pid: process.pid,
  });
}

function hostAndPort(address: string): { host: string; port: number } {
  const cut = address.lastIndexOf(':');
  return { host: address.slice(0, cut).replace(/^\[|\]$/g, ''), port: Number(address.slice(cut + 1)) };
}

async function openGateway(config: Config, parts: Omit<GatewayOptions, 'openRoutes'>): Promise<FastifyInstance | null> {
  const { listen: address, open_routes: openRoutes } = config.gateway;
  if (address === undefined) return null;
  const gateway = createGateway({ ...parts, openRoutes });
  await gateway.listen(hostAndPort(address));
  return gateway;
}

/** The operation of an on-demand request; its client is the agent itself. */
async function startLoad(
  client: Client | null,
  host: string,
  tenant: string,
): Promise<{ workflowId: string; outcome: Promise<OperationOutcome> }> {
  const input: OperationInput = {
    host,
    goal: { kind: 'model', tenant, verb: 'load', demand: true },
    requestedBy: 'an on-demand request',
    priority: 50,
  };
  const handle = await connectedClient(client).workflow.start('modelOperation', {
    workflowId: workflowId.modelOperation(host, tenantName(tenant), 'load', randomUUID().slice(0, 8)),
    taskQueue: CONTROL_QUEUE,
    args: [input],
    searchAttributes: { [SEARCH_ATTRIBUTES.host]: [host], [SEARCH_ATTRIBUTES.tenant]: [tenant] },
    staticSummary: `loads ${tenantName(tenant)} for a request`,
  });
  return { workflowId: handle.workflowId, outcome: handle.result() as Promise<OperationOutcome> };
}
