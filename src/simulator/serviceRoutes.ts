import type { FastifyInstance } from 'fastify';
import { flag, number, object, optional, text } from './adminInput.js';
import { type Clock, SystemClock } from './clock.js';
import type { ServiceOrder, Services } from './services.js';
import { streamLines } from './streamLines.js';

/** What the processes that play native services ask of the simulator. */
export function serviceRoutes(app: FastifyInstance, { services, clock }: { services: Services; clock: Clock }): void {
  const realMs = (simulatedMs: number): number => simulatedMs / (clock instanceof SystemClock ? clock.speed : 1);
  app.post('/service/hold', (request, reply) => {
    const body = object(request.body);
    const visibleDevices = optional(body, 'visibleDevices', (b, key) => String(b[key]));
    const hello = { pid: number(body, 'pid'), name: text(body, 'name'), visibleDevices, isUp: flag(body, 'isUp') };
    // Told before the answer is taken over, a refusal is an answer like others.
    const orders: ServiceOrder[] = [];
    let send = (order: ServiceOrder): void => void orders.push(order);
    const disconnect = services.connect(hello, (order) => send(order));
    reply.raw.on('close', disconnect);
    const write = streamLines(reply);
    send = (order) => write(order.kind === 'play' ? { ...order, stopMs: realMs(order.stopMs) } : order);
    for (const order of orders) send(order);
    return reply;
  });
  app.post('/service/page', (request) => {
    const body = object(request.body);
    return services.page(number(body, 'pid'), text(body, 'path'));
  });
  app.post('/service/term', (request) => ({ ignored: services.ignoresTerm(text(object(request.body), 'name')) }));
}
