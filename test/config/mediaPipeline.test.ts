/** examples/media-pipeline.yaml is the inventory of P12. */
import { expect, it } from 'vitest';
import { checkFile } from '../../src/config/load.js';

const { config } = checkFile('examples/media-pipeline.yaml', '/home/nobody');

/** As the requirements write it; memory in GB. */
const P12 = `
| service   | kind   | run by                   | VRAM | priority | health              | phase |
|-----------|--------|--------------------------|------|----------|---------------------|-------|
| comfyui   | native | python main.py --listen  | 20   | 100      | :8188/system_stats  | 4     |
| cosyvoice | docker | container mcn_cosyvoice  | 4    | 50       | :50000/docs         | 3     |
| vidi      | native | vidi_server              | 4    | 40       | :8099/health        | 2     |
| ollama    | docker | container mcn_ollama     | 18   | 10       | :11434/api/tags     | –     |
`;
const [, , ...rows] = P12.trim()
  .split('\n')
  .map((row) =>
    row
      .split('|')
      .map((cell) => cell.trim())
      .slice(1, -1),
  );

const phasesOf = (name: string) =>
  Object.keys(config.phases).filter((phase) => (config.phases[phase] as string[]).includes(name));

it.each(rows)('%s: %s, %s', (name, kind, by, gb, priority, health, phase) => {
  const service = config.services[name];
  expect({
    kind: service?.run === undefined ? 'docker' : 'native',
    by: service?.run?.join(' ') ?? `container ${service?.container}`,
    mb: service?.vram_mb,
    priority: service?.priority,
    health: service?.health?.http,
    phases: phasesOf(name),
  }).toEqual({
    kind,
    by,
    mb: Number(gb) * 1024,
    priority: Number(priority),
    health: `http://127.0.0.1${health}`,
    phases: phase === '–' ? [] : [phase],
  });
  // Who holds the port of a native service is looked at before it starts.
  if (kind === 'native') expect(service?.ports).toEqual([Number(new URL(`http://x${health}`).port)]);
});

it('has these services, these phases and this GPU, and no others', () => {
  expect(Object.keys(config.services)).toEqual(rows.map(([name]) => name));
  expect(Object.keys(config.phases)).toEqual(['2', '3', '4']);
  expect(config.gpu.total_mb).toBe(24_576);
});
