// The real embedder, which beside its work holds memory of a simulated card while it lives, as one on CUDA would.
// `node clipOnSimulatedCard.mjs <admin address of the simulator> <embedder> --device … `
import { once } from 'node:events';
import { request } from 'node:http';

const [, , simulator, embedder, ...args] = process.argv;
const option = (name) => (args.includes(name) ? args[args.indexOf(name) + 1] : null);

if (option('--device') === 'cuda') {
  const hold = request(new URL('/embedder/hold', simulator), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
  });
  hold.end(JSON.stringify({ pid: process.pid, device: 'cuda', gpu: option('--gpu'), name: process.execPath }));
  // The open answer is the holding; it ends with this process.
  const [answer] = await once(hold, 'response');
  if (answer.statusCode !== 200) throw new Error(`the simulated card refuses: ${answer.statusCode}`);
  answer.resume().on('error', () => {});
}

process.argv.splice(1, 3, embedder);
await import(embedder);
