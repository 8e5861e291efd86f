import { createServer, type Server } from 'node:http';

/** What a service's page is asked by. */
interface PageOptions {
  /** Of loopback. */
  readonly ports: readonly number[];
  /** The status for a path; null while the service in the container does not listen yet. */
  readonly answer: (path: string) => number | null;
}

/**
 * The pages of a container on real ports. As with Docker's proxy, the ports are taken from the start on; until the service
 * listens, connections are cut.
 */
export class ContainerPage {
  readonly #options: PageOptions;
  #servers: Server[] = [];

  constructor(options: PageOptions) {
    this.#options = options;
  }

  /** @throws the system's error when a port is taken; then none is. */
  async open(): Promise<void> {
    try {
      for (const port of this.#options.ports) this.#servers.push(await this.#listen(port));
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    const servers = this.#servers;
    this.#servers = [];
    await Promise.all(
      servers.map((server) => {
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        server.closeAllConnections();
        return closed;
      }),
    );
  }

  async #listen(port: number): Promise<Server> {
    const { answer } = this.#options;
    const server = createServer((request, response) => {
      const status = answer(new URL(request.url ?? '/', 'http://container').pathname);
      if (status === null) response.destroy();
      else response.writeHead(status, { 'content-type': 'text/plain' }).end(status === 200 ? 'ok\n' : 'not ok\n');
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', resolve);
    });
    return server;
  }
}
