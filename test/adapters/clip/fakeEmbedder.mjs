// A program with the embedder's protocol and a fault of choice: `node fakeEmbedder.mjs <fault> --device … --socket …`.
// It is a program, not a module of the tests: the launcher starts it.
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({ allowPositionals: true, strict: false });
const fault = positionals[0];
const value = (name) => process.argv[process.argv.indexOf(`--${name}`) + 1];
const device = value('device');
console.log(`fault ${fault}`, Object.keys(values).join(' '));

if (fault === 'dies') {
  console.error('libfoo.so: cannot open');
  process.exit(3);
}
if (fault === 'deaf') process.on('SIGTERM', () => console.log('heard SIGTERM'));

const health = {
  state: fault === 'hangs' || fault === 'deaf' ? 'starting' : fault.startsWith('fails') ? 'failed' : 'ready',
  device: fault === 'elsewhere' ? 'cpu' : device,
  provider: fault === 'quietly-on-cpu' || device === 'cpu' ? 'cpu' : value('gpu-provider'),
  model: value('model'),
  dimension: 2,
  pid: process.pid,
  error: fault.startsWith('fails:') ? fault.slice('fails:'.length) : null,
};

createServer((request, response) => {
  request.resume();
  const answer = (status, body) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  };
  if (request.url === '/health') return answer(health.state === 'ready' ? 200 : 503, health);
  if (fault === 'garbage') return answer(200, '<html>');
  if (fault === 'too-few') return answer(200, { embeddings: [], dimension: 2 });
  if (fault === 'full') return answer(507, { error: { code: 'out-of-memory', message: 'no room for 8 images' } });
  if (fault === 'silent') return undefined;
  if (fault === 'stays' && request.url === '/shutdown') return answer(202, {});
  if (request.url === '/shutdown') {
    answer(202, {});
    return response.on('close', () => process.exit(0));
  }
  return answer(200, { embeddings: [[1, 0]], dimension: 2 });
}).listen(value('socket'));
