/**
 * Every crash point of the workflows, with each victim: the agent dies before, during and after each of its activities
 * takes effect and is rebuilt from its disk; the control worker forgets all before each workflow task; an activity of the
 * control worker dies before and after its effect; Ollama dies with its models at each point.
 */
import { CompleteAsyncError } from '@temporalio/activity';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { workflowId } from '../../src/contracts/names.js';
import type { OperationGoal, OperationOutcome } from '../../src/contracts/operation.js';
import { GPU, MODEL, VLM } from './hardware.js';
import { judgeOutcome, judgeRecord } from './judgeScripted.js';
import type { Script, ScriptedAgent } from './scriptedAgent.js';
import { realServer } from './servers.js';
import { World } from './world.js';

interface Scenario {
  name: string;
  /** What is there before. */
  prepare: (agent: ScriptedAgent) => void;
  goal: OperationGoal;
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
];

/** The agent's death with a control worker that forgets is the hardest; the others are for the whole product. */
const VICTIMS =
  process.env['VRAMFLOW_SOAK'] === '1'
    ? (['agent and control', 'agent', 'ollama'] as const)
    : (['agent and control'] as const);
/** A death takes three real seconds, until the missing heartbeat is noticed; so many hosts wait for it side by side. */
const AT_ONCE = 16;
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

describe.each(VICTIMS)('every crash point of the workflows: %s', (victim) => {
  let world: World;
  beforeAll(async () => {
    world = await World.start(await realServer(), { forgetful: victim === 'agent and control' });
  }, 60_000);
  afterAll(() => world.stop(), 60_000);

  it.each(SCENARIOS)('$name', { timeout: 120_000 }, async (scenario) => {
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
        const complaints = [...(await judge(world, agent, outcome, victim)), ...(await judgeTimer(world, agent))];
        wrong.push(...complaints.map((what) => `${point}: ${what}`));
        await world.retire(agent);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, dieAtNext));
    expect(wrong).toEqual([]);
  });
});

describe('every crash point of the control worker’s activities', () => {
  let world: World;
  /** What dies next, by host. */
  const deaths = new Map<string, 'before' | 'after'>();
  beforeAll(async () => {
    world = await World.start(await realServer(), {
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

  it('the idle timer is there although its start dies before or after its effect', async () => {
    const ended = (['before', 'after'] as const).map(async (when) => {
      const agent = await world.host();
      deaths.set(agent.host, when);
      const outcome = await world.run(agent, { kind: 'mode', mode: 'recording' }, 'r1');
      expect(deaths.has(agent.host), when).toBe(false);
      const complaints = [...(await judge(world, agent, outcome, 'agent')), ...(await judgeTimer(world, agent))];
      return complaints.map((what) => `${when}: ${what}`);
    });
    expect((await Promise.all(ended)).flat()).toEqual([]);
  }, 60_000);
});

/** The points that the scenario passes when nothing dies, from the operation's first one on. */
async function pointsOf(world: World, scenario: Scenario): Promise<string[]> {
  const agent = await world.host(scenario.prepare);
  const before = agent.points.length;
  const outcome = await world.run(agent, scenario.goal, 'whole');
  expect(outcome.status, outcome.summary).toBe('done');
  expect(judgeRecord(agent.hardware.record)).toEqual([]);
  return agent.points.slice(before).filter((point) => !/^(describeAgent|idleRemaining)/.test(point));
}

async function judge(
  world: World,
  agent: ScriptedAgent,
  outcome: OperationOutcome,
  victim: (typeof VICTIMS)[number],
): Promise<string[]> {
  const complaints = [...judgeRecord(agent.hardware.record)];
  // Ollama may take its models away after the last look of the operation.
  if (victim !== 'ollama') complaints.push(...judgeOutcome(outcome, agent.hardware));
  if (victim !== 'ollama' && outcome.status !== 'done')
    complaints.push(`it ended ${outcome.status}: ${outcome.summary}`);
  if (agent.hardware.embedders.length !== 1) complaints.push(`CLIP runs ${agent.hardware.embedders.length} times`);
  await world.until(async () => {
    const { turns, queue } = await world.hostState(agent);
    return turns.length === 0 && queue.length === 0;
  });
  return complaints;
}

/** M12: whatever died, a model that is there has its timer. */
async function judgeTimer(world: World, { host, hardware }: ScriptedAgent): Promise<string[]> {
  if (hardware.vlm !== 'loaded') return [];
  const { status } = await world.client.workflow.getHandle(workflowId.idleUnload(host, MODEL)).describe();
  return status.name === 'RUNNING' ? [] : [`the idle timer is ${status.name}`];
}
