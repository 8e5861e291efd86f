/**
 * The agent's part in the life of its host's workflow: it registers, and sees to it that the workflow gets on.
 *
 * A history that no worker can take on (a change of version, a fault of the SDK) would stop every operation of the host
 * for good, so such a chain of runs is ended and another begun. Mode, phase, policy, epochs and residency are on the agent's
 * disk or can be observed; what else was wanted is read in what the old chain has published; and the epochs fence off what it
 * had granted. Lost is what it was told but never took in: how an operation ended meanwhile, or that a tenant left.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import type { Logger } from 'pino';
import { signalHost } from '../activities/control.js';
import { endWedged } from '../activities/wedge.js';
import { SecondAgent } from '../agent/lock.js';
import { type AgentRegistration, SIGNAL } from '../contracts/messages.js';
import { workflowId } from '../contracts/names.js';
import { readHostState } from '../gateway/publishedState.js';

/** A call to the server, ms. */
const CALL_MS = 5_000;
/** Between two looks for the answer to a registration, ms. */
const ANSWER_MS = 100;
/** After so many looks without an answer something is wrong. */
const LOOKS = 50;
/** How often the workflow is looked at, ms: as often as the server tries a task again. */
const WATCH_MS = 10_000;

interface Chain {
  client: Client;
  host: string;
  log: Logger;
  signal: AbortSignal;
}

/**
 * Two agents for one host: the second is refused (law 5: one owner). Waits for a control worker to answer.
 * @throws SecondAgent
 */
export async function register(chain: Chain, registration: AgentRegistration): Promise<void> {
  const { client, host, log, signal } = chain;
  let announced = false;
  for (let tried = 0; ; tried += 1) {
    signal.throwIfAborted();
    try {
      if (!announced) await send(chain, SIGNAL.announceAgent, [registration]);
      announced = true;
      const state = await client.withDeadline(Date.now() + CALL_MS, () => readHostState(client, host));
      if (state?.agent?.instance === registration.instance) return;
      if (state?.refusedAgent?.instance === registration.instance) {
        throw new SecondAgent(`host ${host} has an agent already: ${state.refusedAgent.reason}`);
      }
      if (tried % LOOKS === LOOKS - 1) {
        log.warn('waiting for a control worker to register this agent');
        // A chain that began anew in between has not heard it.
        announced = !(await endIfWedged(chain)) && (await isRunning(chain));
      }
    } catch (error) {
      if (error instanceof SecondAgent) throw error;
      log.warn({ error: String(error) }, 'cannot register this agent yet');
    }
    await pause(ANSWER_MS, undefined, { signal });
  }
}

/** Sees to it that the host has a workflow that gets on, until the signal. */
export async function watchHost(chain: Chain): Promise<void> {
  const { log, signal } = chain;
  while (!signal.aborted) {
    try {
      // One that is gone, too: its successor finds out by itself who is the agent.
      if ((await endIfWedged(chain)) || !(await isRunning(chain))) await wakeHost(chain);
    } catch (error) {
      // The server is away: who runs it sees to that.
      log.debug({ error: String(error) }, 'cannot look at the workflow of this host');
    }
    await pause(WATCH_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Starts the workflow where it does not run, and has it look at the host. */
export const wakeHost = (chain: Chain): Promise<void> => send(chain, SIGNAL.agentOnline, []);

async function send({ client, host }: Chain, signal: string, signalArgs: unknown[]): Promise<void> {
  await client.withDeadline(Date.now() + CALL_MS, () => signalHost(client, host, signal, signalArgs));
}

async function isRunning({ client, host }: Chain): Promise<boolean> {
  try {
    const { status } = await client.withDeadline(Date.now() + CALL_MS, () =>
      client.workflow.getHandle(workflowId.gpuHost(host)).describe(),
    );
    return status.name === 'RUNNING';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}

/** @returns whether the chain was ended */
async function endIfWedged({ client, host, log }: Chain): Promise<boolean> {
  const reason = await client.withDeadline(Date.now() + CALL_MS, () => endWedged(client, workflowId.gpuHost(host)));
  if (reason !== null) log.warn({ host, reason }, 'the workflow of this host was wedged: a new one is begun');
  return reason !== null;
}
