import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:net';
import { platform } from 'node:os';

/** Another agent holds the same folder. */
export class SecondAgent extends Error {
  override readonly name = 'SecondAgent';
}

/**
 * One agent per folder: whoever listens at the folder's name in the kernel's abstract socket space is it, and the kernel
 * frees the name with the process, however it ends. Elsewhere than on Linux a local port of that name does the same.
 * @throws SecondAgent
 */
export function lockFolder(folder: string): Promise<Server> {
  const name = createHash('sha256').update(folder).digest('hex').slice(0, 24);
  const server = createServer((socket) => socket.destroy());
  server.unref();
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const taken = 'code' in error && error.code === 'EADDRINUSE';
      reject(taken ? new SecondAgent(`another agent runs on ${folder}: end it first (vramflow down)`) : error);
    });
    const listening = () => resolve(server);
    if (platform() === 'linux') server.listen({ path: `\0vramflow-${name}` }, listening);
    else
      server.listen({ host: '127.0.0.1', port: 20_000 + (Number.parseInt(name.slice(0, 6), 16) % 20_000) }, listening);
  });
}
