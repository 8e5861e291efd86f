import { rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Clock } from './clock.js';
import type { Containers } from './containers.js';
import { route } from './dockerRoutes.js';
import { DockerError } from './errors.js';
import type { FaultBoard } from './faults.js';

interface DockerServerDependencies {
  readonly clock: Clock;
  readonly faults: FaultBoard;
  readonly containers: Containers;
}

/** The daemon's door: HTTP on a Unix socket. It can be away, and its containers go on meanwhile. */
export class DockerServer {
  readonly socketPath: string;
  readonly #dependencies: DockerServerDependencies;
  #server: Server | null = null;
  #wanted = false;
  #reconciled: Promise<void> = Promise.resolve();

  constructor(socketPath: string, dependencies: DockerServerDependencies) {
    this.socketPath = socketPath;
    this.#dependencies = dependencies;
    dependencies.faults.onChange(() => void this.#reconcile());
  }

  /** Resolves once it accepts connections, unless a fault keeps it away. @throws the system's error for the path */
  async start(): Promise<void> {
    this.#wanted = true;
    await this.#reconcile();
  }

  /** Connections are cut and refused from now on. */
  async stop(): Promise<void> {
    this.#wanted = false;
    await this.#reconcile();
  }

  /** Brings the listening in line with what is wanted, one change after the other. */
  #reconcile(): Promise<void> {
    this.#reconciled = this.#reconciled.then(async () => {
      const reachable = this.#wanted && this.#dependencies.faults.active('docker-unavailable') === null;
      if (reachable && this.#server === null) this.#server = await this.#listen();
      else if (!reachable && this.#server !== null) await this.#close(this.#server);
    });
    return this.#reconciled;
  }

  async #listen(): Promise<Server> {
    const server = createServer((request, response) => {
      this.#serve(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    // One that was killed leaves its socket behind.
    rmSync(this.socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.socketPath, resolve);
    });
    return server;
  }

  async #close(server: Server): Promise<void> {
    this.#server = null;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString('utf8');
    const url = new URL(request.url ?? '/', 'http://docker');
    try {
      const answer = await route(this.#dependencies, request.method ?? 'GET', url, { body, response });
      if (answer === null) return;
      const { status, json, text } = answer;
      if (json !== undefined) sendJson(response, status, json);
      else response.writeHead(status, { 'content-type': 'text/plain' }).end(text);
    } catch (error) {
      const status = error instanceof DockerError ? error.status : 500;
      sendJson(response, status, { message: (error as Error).message });
    }
  }
}

function sendJson(response: ServerResponse, status: number, content: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(content));
}
