/** When the host looks, and what it makes of what it sees. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Edge, SIGNAL } from '../../src/contracts/messages.js';
import { workflowId } from '../../src/contracts/names.js';
import { VLM } from './hardware.js';
import { realServer, type Server } from './servers.js';
import { World } from './world.js';

/** What the periodic look would find long afterwards. */
const SOON_MS = 60_000;

describe('a look at the host', { timeout: 120_000 }, () => {
  let server: Server;
  let world: World;
  beforeAll(async () => {
    server = await realServer();
    world = await World.start(server);
  }, 60_000);
  afterAll(async () => {
    await world.stop();
    await server.stop();
  });

  it('that an operation overtakes is made up for: what died while it was wanted comes back once that has ended', async () => {
    const agent = await world.host();
    await world.run(agent, { kind: 'model', tenant: VLM, verb: 'load', demand: false }, 'load');
    const gpuHost = world.client.workflow.getHandle(workflowId.gpuHost(agent.host));
    await world.until(async () => (await world.hostState(agent)).turns.length === 0);
    const passed = (name: string) => agent.points.filter((point) => new RegExp(`^${name}#\\d+ before$`).test(point));
    const [looks, observes] = [passed('describeAgent').length, passed('observe').length];
    const isSeen = async (): Promise<boolean> => {
      const events = (await gpuHost.fetchHistory()).events ?? [];
      const look = events.findLast(
        (event) => event.activityTaskScheduledEventAttributes?.activityType?.name === 'describeAgent',
      );
      const answered = events.findIndex((event) =>
        look?.eventId?.equals(event.activityTaskCompletedEventAttributes?.scheduledEventId ?? 0),
      );
      return answered >= 0 && events.slice(answered).some((event) => event.workflowTaskCompletedEventAttributes);
    };
    let move: Awaited<ReturnType<World['start']>> | null = null;
    agent.script = async (point): Promise<'go-on'> => {
      if (point === `describeAgent#${looks + 1} before`) {
        move = await world.start(agent, { kind: 'embedder', device: 'cpu' }, 'move');
        await world.until(() => passed('observe').length > observes);
      }
      if (point === `observe#${observes + 1} before`) {
        await world.until(() => agent.points.includes(`describeAgent#${looks + 1} after`));
        await world.until(isSeen);
      }
      return 'go-on';
    };
    agent.hardware.vlm = 'absent';
    await gpuHost.signal(SIGNAL.agentOnline);
    await world.until(() => agent.hardware.vlm === 'loaded', SOON_MS);
    expect(await world.end(move ?? expect.fail('no operation came between'))).toMatchObject({ status: 'done' });
    agent.script = () => 'go-on';
    await world.retire(agent);
  });

  it('has the leases that wait look again only for an edge that may have made room', async () => {
    const agent = await world.host();
    const gpuHost = world.client.workflow.getHandle(workflowId.gpuHost(agent.host));
    // Nobody takes its tasks: what it is told stays in its history.
    const lease = await world.client.workflow.start('lease', {
      workflowId: workflowId.lease(agent.host, 'waits'),
      taskQueue: 'nobody',
    });
    const told = async (): Promise<string[]> => {
      const { events } = await lease.fetchHistory();
      const signals = (events ?? []).flatMap(({ workflowExecutionSignaledEventAttributes: signal }) => signal ?? []);
      return signals.map(({ input }) => String(input?.payloads?.[0]?.data));
    };
    await gpuHost.signal(SIGNAL.leaseWaits, { id: 'waits', priority: 1 });
    await world.until(async () => (await told()).length > 0);
    const before = (await told()).length;
    const edge = (kind: Edge['kind'], fell?: boolean) =>
      gpuHost.signal(SIGNAL.edge, {
        kind,
        subject: 'a test',
        details: '',
        ...(fell === undefined ? {} : { fell }),
        observation: agent.hardware.observation(agent.host, 0),
      });
    await edge('vram-changed', false);
    await edge('vram-changed', true);
    // Too soon after the one before.
    await edge('foreign-process', true);
    await edge('tenant-appeared');
    await edge('tenant-left');
    // One that goes before it: the last word of the host.
    await gpuHost.signal(SIGNAL.leaseWaits, { id: 'first', priority: 2 });
    await world.until(async () => (await told()).some((word) => word.includes('2')), 10_000);
    // Words that are sent at once may come in any order.
    await world.until(async () => (await told()).length - before >= 3, 10_000);
    expect((await told()).length - before).toBe(3);
    await lease.terminate('the test is over');
    await world.retire(agent);
  });
});
