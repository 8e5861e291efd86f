/**
 * Every crash point of the workflows, with each victim: the agent dies before, during and after each of its activities
 * takes effect and is rebuilt from its disk; the control worker forgets all before each workflow task; an activity of the
 * control worker dies before and after its effect; Ollama dies with its models at each point. During a stop, the service is
 * gone and its memory is not back; during a start, it runs and is not ready.
 */
import { CompleteAsyncError } from '@temporalio/activity';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serviceTenant, workflowId } from '../../src/contracts/names.js';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import type { AskedGoal } from '../../src/contracts/start.js';
import { GPU, MODEL, VLM } from './hardware.js';
import { judgeOutcome, judgeRecord, judgeServices } from './judgeScripted.js';
import type { Script, ScriptedAgent } from './scriptedAgent.js';
import { realServer, type Server } from './servers.js';
import { World } from './world.js';

interface Scenario {
  name: string;
  /** What is there before. */
  prepare: (agent: ScriptedAgent) => void;
  goal: AskedGoal;
  /** The services that run at the end; none where nothing is said. */
  running?: string[];
}

const SCENARIOS: Scenario[] = [
  {
    name: 'autopilot → recording',
    prepare: ({ hardware }) => {
      hardware.embedders = [GPU];
    },
    goal: { kind: 'mode', mode: 'recording' },
  },
  {
    name: 'recording → autopilot',
    prepare: ({ hardware }) => {
      hardware.vlm = 'loaded';
    },
    goal: { kind: 'mode', mode: 'autopilot' },
  },
  {
    name: 'model load',
    prepare: ({ hardware }) => {
      hardware.embedders = [GPU];
    },
    goal: { kind: 'model', tenant: VLM, verb: 'load', demand: true },
  },
  {
    name: 'model unload',
    prepare: ({ hardware }) => {
      hardware.vlm = 'loaded';
    },
    goal: { kind: 'model', tenant: VLM, verb: 'unload', demand: false },
  },
  {
    name: 'phase 3 → 4',
    prepare: ({ hardware }) => hardware.services.runs('cosyvoice'),
    goal: { kind: 'phase', phase: '4' },
    running: ['comfyui'],
  },
  {
    name: 'service start that pre-empts as many as needed and no more',
    prepare: ({ hardware }) => {
      hardware.services.runs('server');
      hardware.services.runs('vidi');
    },
    goal: { kind: 'service', tenant: serviceTenant('comfyui'), verb: 'start' },
    running: ['comfyui', 'vidi'],
  },
];

/** The agent's death with a control worker that forgets is the hardest; the others are for the whole product. */
const VICTIMS =
  process.env['VRAMFLOW_SOAK'] === '1'
    ? (['agent and control', 'agent', 'ollama'] as const)
    : (['agent and control'] as const);
/**
 * A death takes three real seconds, until the missing heartbeat is noticed; so many hosts of each scenario wait for it side
 * by side. With twice as many a busy machine takes longer: hosts that wait look after their turns meanwhile.
 */
const AT_ONCE = 2;
/** They run side by side: each may take as long as all of them. */
const TEST_MS = 600_000;
/** For this many points Ollama does not answer after it died. */
const OLLAMA_AWAY_POINTS = 3;

const never: Script = () => 'go-on';

/** Dies once, at the first time that it comes to this point. */
const dieAt = (point: string): Script => {
  let died = false;
  return (passed) => {
    if (died || passed !== point) return 'go-on';
    died = true;
    return 'die';
  };
};

/** Ollama dies at this point, its models with it, and answers again a few points later. */
const ollamaDiesAt = (point: string, { hardware }: ScriptedAgent): Script => {
  let away = 0;
  return (passed) => {
    if (passed === point) {
      hardware.ollamaAnswers = false;
      hardware.vlm = 'absent';
      away = OLLAMA_AWAY_POINTS;
    } else if (away > 0) {
      away -= 1;
      hardware.ollamaAnswers = away === 0;
    }
    return 'go-on';
  };
};

let server: Server;
beforeAll(async () => {
  server = await realServer();
}, 60_000);
afterAll(() => server.stop(), 60_000);

describe.each(VICTIMS)('every crash point of the workflows: %s', (victim) => {
  let world: World;
  /** By host: how an activity of the control worker dies next. */
  const deaths = new Map<string, 'before' | 'after'>();
  beforeAll(async () => {
    world = await World.start(server, {
      forgetful: victim === 'agent and control',
      aroundControl: async (_name, host, run) => {
        const death = deaths.get(host);
        deaths.delete(host);
        if (death === 'before') throw new CompleteAsyncError();
        const result = await run();
        if (death === 'after') throw new CompleteAsyncError();
        return result;
      },
    });
  }, 60_000);
  afterAll(() => world.stop(), 60_000);

  it.concurrent.each(SCENARIOS)('$name', { timeout: TEST_MS }, async (scenario) => {
    const points = await pointsOf(world, scenario);
    expect(points.length).toBeGreaterThan(6);
    const wrong: string[] = [];
    const dieAtNext = async (): Promise<void> => {
      for (let point = points.shift(); point !== undefined; point = points.shift()) {
        const agent = await world.host(scenario.prepare);
        agent.script = victim === 'ollama' ? ollamaDiesAt(point, agent) : dieAt(point);
        const outcome = await world.run(agent, scenario.goal, 'r1');
        if (victim !== 'ollama') expect(agent.deaths, point).toBe(1);
        agent.script = never;
        agent.hardware.ollamaAnswers = true;
        const complaints = await judge(world, agent, outcome, { victim, running: scenario.running });
        wrong.push(...complaints.map((what) => `${point}: ${what}`));
        await world.retire(agent);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, dieAtNext));
    expect(wrong).toEqual([]);
  });

  it.concurrent(
    'the idle timer is there although its start dies before or after its effect',
    async () => {
      const ended = (['before', 'after'] as const).map(async (when) => {
        const agent = await world.host();
        deaths.set(agent.host, when);
        const outcome = await world.run(agent, { kind: 'mode', mode: 'recording' }, 'r1');
        expect(deaths.has(agent.host), when).toBe(false);
        const complaints = await judge(world, agent, outcome, { victim: 'agent' });
        await world.retire(agent);
        return complaints.map((what) => `${when}: ${what}`);
      });
      expect((await Promise.all(ended)).flat()).toEqual([]);
    },
    TEST_MS,
  );
});

/** The points that the scenario passes when nothing dies, from the operation's first one on. */
async function pointsOf(world: World, scenario: Scenario): Promise<string[]> {
  const agent = await world.host(scenario.prepare);
  const before = agent.points.length;
  const outcome = await world.run(agent, scenario.goal, 'whole');
  expect(outcome.status, outcome.summary).toBe('done');
  expect([...judgeRecord(agent.hardware.record), ...judgeServices(agent.hardware, scenario.running ?? [])]).toEqual([]);
  return agent.points.slice(before).filter((point) => !/^(describeAgent|idleRemaining)/.test(point));
}

async function judge(
  world: World,
  agent: ScriptedAgent,
  outcome: OperationOutcome,
  { victim, running = [] }: { victim: (typeof VICTIMS)[number]; running?: string[] | undefined },
): Promise<string[]> {
  const { hardware } = agent;
  const complaints = [...judgeRecord(hardware.record), ...judgeServices(hardware, running)];
  // Ollama may take its models away after the last look of the operation.
  if (victim !== 'ollama' || running.length > 0) {
    complaints.push(...judgeOutcome(outcome, hardware));
    if (outcome.status !== 'done') complaints.push(`it ended ${outcome.status}: ${outcome.summary}`);
  }
  if (hardware.embedders.length !== 1) complaints.push(`CLIP runs ${hardware.embedders.length} times`);
  await world.until(async () => {
    const { turns, queue } = await world.hostState(agent);
    return turns.length === 0 && queue.length === 0;
  });
  return [...complaints, ...(await judgeTimer(world, agent))];
}

/** M12: whatever died, a model that is there has its timer. */
async function judgeTimer(world: World, { host, hardware }: ScriptedAgent): Promise<string[]> {
  if (hardware.vlm !== 'loaded') return [];
  const { status } = await world.client.workflow.getHandle(workflowId.idleUnload(host, MODEL)).describe();
  return status.name === 'RUNNING' ? [] : [`the idle timer is ${status.name}`];
}
