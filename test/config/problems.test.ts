import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import { ConfigError, type Problem } from '../../src/config/problem.js';
import { Sandbox } from './sandbox.js';

/** `line:column key message remedy`, which is what a person reads. */
const read = ({ line, column, key, message, remedy }: Problem) => `${line}:${column} ${key} ${message} ${remedy}`;

/** P12. */
const MEDIA = `gpu: { total_mb: 24576 }
services:
  comfyui: { run: [main], vram_mb: 20480 }
  cosyvoice: { container: c, vram_mb: 4096 }
  vidi: { run: [vidi_server], vram_mb: 4096 }
  ollama: { container: o, vram_mb: 18432 }
`;

/** The text of a project file → what is said about it. */
const CASES: [what: string, yaml: string, said: string[]][] = [
  [
    'a misspelt key',
    'log_level: info\nidle_timout_seconds: 3\n',
    ['2:1 idle_timout_seconds is not a known key. Did you mean idle_timeout_seconds?'],
  ],
  [
    'a key without its end',
    'idle_timeout: 3\n',
    ['1:1 idle_timeout is not a known key. Did you mean idle_timeout_seconds?'],
  ],
  ['a key in another style', 'vramPollMs: 500\n', ['1:1 vramPollMs is not a known key. Did you mean vram_poll_ms?']],
  ['a key one level too high', 'reader: none\n', ['1:1 reader is not a known key. Did you mean gpu.reader?']],
  [
    'a key that is like no other',
    'gpu:\n  zebra: 1\n',
    ['2:3 gpu.zebra is not a known key. Remove it; known here: reader, nvidia_smi, total_mb.'],
  ],
  [
    'a number in quotes',
    'reserve_mb: "512"\n',
    ['1:1 reserve_mb must be a whole number from 0 to 1048576, but is the text "512". Remove the quotes.'],
  ],
  [
    'a number out of range',
    'clip:\n  priority: 500\n',
    [
      '2:3 clip.priority must be a whole number from 0 to 100, but is 500. Change it, or leave it out for the default, 40.',
    ],
  ],
  [
    'bytes for MB',
    'models:\n  qwen2.5:14b:\n    vram_mb: 9000000000\n',
    [
      '3:5 models."qwen2.5:14b".vram_mb must be a whole number from 1 to 1048576, but is 9000000000. Write it as `vram_mb: 8192`, for example, or leave it out.',
    ],
  ],
  [
    'zero for never',
    'idle_timeout_seconds: 0\n',
    [
      '1:1 idle_timeout_seconds must be a number from 0.1 to 604800, or never, but is 0. Change it, or leave it out for the default, 300.',
    ],
  ],
  [
    'a word that is not one of them',
    'gpu: { reader: nvml }\n',
    [
      '1:8 gpu.reader must be one of auto, nvidia-smi, none, but is the text "nvml". Change it, or leave it out for the default, "auto".',
    ],
  ],
  [
    'yes for true',
    'models: { "a:1": { vram_mb: 1, pinned: yes } }\n',
    ['1:32 models.a:1.pinned must be true or false, but is the text "yes". Write true or false.'],
  ],
  [
    'a value left empty',
    'host:\n',
    [
      '1:1 host must be letters, digits, dots and dashes, at most 63, but is empty. Write it as `host: a-name`, for example, or leave it out.',
    ],
  ],
  [
    'an endpoint without a scheme',
    'ollama_endpoint: localhost:11434\n',
    [
      '1:1 ollama_endpoint must be an http or https address without user and password, for example http://localhost:11434, but is the text "localhost:11434". Change it, or leave it out for the default, "http://localhost:11434".',
    ],
  ],
  [
    'a port that does not exist',
    'agent:\n  listen: 127.0.0.1:99999\n',
    [
      '2:3 agent.listen must be a host and a port, for example 127.0.0.1:8470, but is the text "127.0.0.1:99999". Change it, or leave it out for the default, "127.0.0.1:8470".',
    ],
  ],
  [
    'doors that other machines reach',
    'agent: { listen: "0.0.0.0:8470" }\ngateway: { listen: "[::]:8000" }\n',
    [
      '1:10 agent.listen is 0.0.0.0:8470, which other machines reach: it answers on loopback only. Write 127.0.0.1:8470; from another machine, come through a tunnel (SSH, WireGuard).',
      '2:12 gateway.listen is [::]:8000, which other machines reach: it answers on loopback only. Write 127.0.0.1:8000; from another machine, come through a tunnel (SSH, WireGuard).',
    ],
  ],
  [
    'an item of a list',
    'gpu:\n  nvidia_smi:\n    - ssh\n    - 5\n',
    ['4:7 gpu.nvidia_smi.1 must be a text, but is 5. Write it as `text`, for example.'],
  ],
  [
    'a map for a value',
    'reserve_mb: { a: 1 }\n',
    [
      '1:1 reserve_mb must be a whole number from 0 to 1048576, but is a map. Change it, or leave it out for the default, 0.',
    ],
  ],
  [
    'a value for a map',
    'gpu: none\n',
    [
      '1:1 gpu must be a map with keys such as reader, nvidia_smi, total_mb, but is the text "none". Write it as `gpu: { reader: auto }`, for example, or leave it out.',
    ],
  ],
  [
    'a list for a map by name',
    'models: [llava]\nservices: 5\nphases: { one: 7 }\n',
    [
      '1:1 models must be a map, but is a list. Write it as `models: { qwen3-vl:8b: { vram_mb: 8192 } }`, for example, or leave it out.',
      '2:1 services must be a map, but is 5. Write it as `services: { a-name: { run: [nvidia-smi] } }`, for example, or leave it out.',
      expect.stringMatching(/^3:11 phases\.one must be .+, but is 7\. Write it as `one: \[a-name\]`, for example\.$/),
    ],
  ],
  [
    'mistakes of form beside wrong references: all at once, and no mistake twice',
    'reserve_mb: lots\nmodes: { demo: { models: { "llava:7b": gpu } } }\nservices:\n  tts: { run: [tts], vram_mb: many, health: { http: "http://far/x" } }\n  stt: 5\nphases: { a: [tts, stt, tst] }\n',
    [
      expect.stringContaining('1:1 reserve_mb must be a whole number'),
      '2:28 modes.demo.models.llava:7b is not a model of this configuration. Add it to models, or remove it here.',
      expect.stringContaining('4:22 services.tts.vram_mb must be a whole number'),
      expect.stringContaining('4:47 services.tts.health.http is on far, not on this machine.'),
      expect.stringContaining('5:3 services.stt must be a map'),
      '6:25 phases.a.2 names tst, which is no service of this configuration. Add it to services, or remove it here.',
    ],
  ],
  [
    'a status that is none, that is not of a page, or that no answer can have',
    'services:\n  a: { run: [a], vram_mb: 1, health: { http: "http://127.0.0.1:1/", status: many } }\n  b: { run: [b], vram_mb: 1, health: { tcp: "127.0.0.1:1", status: 401 } }\n  c: { run: [c], vram_mb: 1, health: { http: "http://127.0.0.1:1/", status: [399, 200] } }\n  d: { run: [d], vram_mb: 1, health: { http: "http://127.0.0.1:1/", status: [200, 299, 300] } }\n',
    [
      expect.stringContaining(
        '2:69 services.a.health.status must be a status, or the first and the last of a range, for example [200, 399], but is the text "many". Write it as `status: [200, 399]`, for example',
      ),
      '3:60 services.b.health.status is for pages only. Remove it, or check by http.',
      '4:69 services.c.health.status goes from 399 down to 200: no answer is in it. Write [200, 399].',
      expect.stringContaining('services.d.health.status'),
    ],
  ],
  [
    'a misspelt section: what refers to it is no second mistake',
    'servics: { tts: { run: [tts], vram_mb: 1 } }\nphases: { a: [tts] }\n',
    ['1:1 servics is not a known key. Did you mean services?'],
  ],
  [
    'a mode with spaces',
    'modes:\n  my mode: {}\n',
    [
      '2:3 modes."my mode" is not a good name: it must be letters, digits, dashes and underscores. Rename it, for example to my-mode.',
    ],
  ],
  [
    'the same key twice',
    'models:\n  llava: { vram_mb: 1 }\nlog_level: info\nmodels:\n  llava: { vram_mb: 2 }\n',
    ['4:1 models is there already in line 1. Keep one of them.'],
  ],
  [
    'the same model twice',
    'models:\n  llava: { vram_mb: 1 }\n  llava:latest: { vram_mb: 2 }\n',
    ['3:3 models.llava:latest names a model that is here already: without a tag, latest is meant. Keep one of them.'],
  ],
  [
    'a tab',
    'gpu:\n\treader: none\n',
    ['2:1 null is not valid YAML: tabs are not allowed as indentation. Indent with spaces: YAML does not allow tabs.'],
  ],
  [
    'an alias',
    'gpu: &g { reader: none }\nclip: *g\n',
    ['2:7 clip is an alias, which is not supported. Write the value out here.'],
  ],
  [
    'a list for a file',
    '- a\n- b\n',
    ['1:1 null must be a map of keys and values. Write lines such as `log_level: info`.'],
  ],
  [
    'a key that is a map',
    '? {a: 1}\n: 2\n',
    ['1:3 null has a key that is not a plain name. Write the key as one word.'],
  ],
  [
    'an unknown model in a mode',
    'modes:\n  demo:\n    models:\n      qwen3-v1:8b: gpu\n',
    [
      '4:7 modes.demo.models.qwen3-v1:8b is not a model of this configuration. Did you mean qwen3-vl:8b? Otherwise add it to models.',
    ],
  ],
  [
    'a VLM of unknown size',
    'vlm_model: llava:7b\n',
    [
      '1:1 vlm_model names llava:7b, and nothing tells how much VRAM it takes. Set vram_mb under llava:7b in models to the MB that `ollama ps` shows while it is loaded.',
    ],
  ],
  [
    'vlm among the models',
    'models:\n  vlm: { priority: 3 }\n',
    [
      "2:3 models.vlm is the short name for vlm_model, and only modes know it. Write the model's own name, qwen3-vl:8b.",
    ],
  ],
  [
    'one port for two',
    'temporal:\n  ui_port: 7233\n',
    ['2:3 temporal.ui_port is 7233, which temporal.port has already. Give the two different ports.'],
  ],
  [
    'a mode that can never fit',
    'gpu: { total_mb: 11000 }\nreserve_mb: 100\nmodes:\n  both:\n    models: { vlm: gpu }\n    clip: gpu\n',
    [
      '4:3 modes.both wants 11352 MB on the GPU (qwen3-vl:8b 10752 + clip 500 + reserve 100), but gpu.total_mb is 11000. Take one of them off the GPU in this mode.',
    ],
  ],
  [
    'a phase that can never fit (P12: comfyui and ollama together)',
    `${MEDIA}phases:\n  "4": [comfyui, vidi]\n  wish: [comfyui, ollama]\n  named: { services: [ollama, vidi, cosyvoice] }\n`,
    [
      '9:3 phases.wish needs 38912 MB (comfyui 20480 + ollama 18432 + reserve 0), but gpu.total_mb is 24576. Take a service out of this phase.',
      '10:12 phases.named.services needs 26624 MB (ollama 18432 + vidi 4096 + cosyvoice 4096 + reserve 0), but gpu.total_mb is 24576. Take a service out of this phase.',
    ],
  ],
  [
    'two services of one phase on one port',
    'services:\n  a: { run: [a], vram_mb: 0, ports: [8000, 8001] }\n  b: { run: [b], vram_mb: 0, ports: [8001] }\nphases: { one: [a, b], two: [b] }\n',
    ['4:20 phases.one.1 puts a and b together, and both listen on port 8001. Give one of them another port.'],
  ],
  [
    'one number for two phases',
    'phases:\n  "2": []\n  speech: { number: 2 }\n  "02": []\n',
    [
      '3:3 phases.speech has the number 2, as 2 has. Give one of them another number.',
      '4:3 phases.02 has the number 2, as 2 has. Give one of them another number.',
    ],
  ],
  [
    'a service twice in a phase',
    'services: { a: { run: [a], vram_mb: 0 } }\nphases: { one: [a, a] }\n',
    ['2:20 phases.one.1 names a twice. Remove one.'],
  ],
  [
    'a phase in a phase: they do not nest, so there is no circle',
    'services: { a: { run: [a], vram_mb: 0 } }\nphases: { one: [a, two], two: { services: [one] }, three: { phases: [one] } }\n',
    [
      '2:20 phases.one.1 names two, which is a phase: a phase lists services, not other phases. Write the services of two here.',
      '2:44 phases.two.services.0 names one, which is a phase: a phase lists services, not other phases. Write the services of one here.',
      '2:61 phases.three.phases is not a known key. Remove it; known here: number, services.',
    ],
  ],
  [
    'a service of no kind, of two kinds, and with keys of another kind',
    'services:\n  none: { vram_mb: 0 }\n  both: { run: [a], image: a, vram_mb: 0 }\n  mixed: { container: a, directory: /srv, gpu_access: cdi, vram_mb: 0 }\n',
    [
      '2:3 services.none does not say what it is. Set run (a program), container (one that exists) or image (one to create).',
      '3:21 services.both.image is run and image at once. Keep one of them.',
      '4:26 services.mixed.directory belongs to a service with run, and this one has container. Remove it.',
      '4:43 services.mixed.gpu_access belongs to a service with image, and this one has container. Remove it.',
    ],
  ],
  [
    'maps that a service of its kind has no use for',
    'services:\n  native: { run: [a], mounts: { /a: /b }, vram_mb: 0 }\n  there: { container: a, env: { A: b }, mounts: { /a: /b }, vram_mb: 0 }\n',
    [
      '2:23 services.native.mounts belongs to a service with image, and this one has run. Remove it.',
      '3:26 services.there.env belongs to a service with run or image, and this one has container. Remove it.',
      '3:41 services.there.mounts belongs to a service with image, and this one has container. Remove it.',
    ],
  ],
  [
    'a model of unknown size',
    'models:\n  llava:\n    pinned: true\n',
    [
      '2:3 models.llava names llava, and nothing tells how much VRAM it takes. Set vram_mb under llava in models to the MB that `ollama ps` shows while it is loaded.',
    ],
  ],
  [
    'several at once, in the order of their lines',
    'clip: { vram_mb: 0 }\nzebra: 1\nlog_level: loud\n',
    [
      '1:9 clip.vram_mb must be a whole number from 1 to 1048576, but is 0. Change it, or leave it out for the default, 500.',
      expect.stringMatching(/^2:1 zebra is not a known key\. Remove it; known here: host, /),
      '3:1 log_level must be one of debug, info, warn, error, but is the text "loud". Change it, or leave it out for the default, "info".',
    ],
  ],
  [
    'two services that serve Ollama',
    'services:\n  a: { run: [a], vram_mb: 9, serves: ollama }\n  b: { run: [b], vram_mb: 9, serves: ollama }\n',
    [
      '3:30 services.b.serves is ollama, and a serves it already: there is one ollama_endpoint. Remove it from one of them.',
    ],
  ],
];

describe('a project file with', () => {
  it.each(CASES)('%s', (_what, yaml, said) => {
    const sandbox = new Sandbox().project(yaml);
    const problems = sandbox.problems();
    expect(problems.map(read)).toEqual(said);
    expect(problems.every(({ file }) => file === sandbox.projectFile)).toBe(true);
  });
});

describe('other sources', () => {
  it('a variable is named in its problem', () => {
    const [problem] = new Sandbox().problems({ env: { VRAMFLOW_VRAM_POLL_MS: 'often' } });
    expect(problem).toMatchObject({ file: null, key: 'vram_poll_ms', source: 'environment VRAMFLOW_VRAM_POLL_MS' });
  });

  it('a misspelt variable is found, one of other parts is left alone', () => {
    const problems = new Sandbox().problems({ env: { VRAMFLOW_OLAMA_ENDPOINT: 'http://x', VRAMFLOW_OWNER: 'me' } });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({
      source: 'environment VRAMFLOW_OLAMA_ENDPOINT',
      remedy: 'Did you mean VRAMFLOW_OLLAMA_ENDPOINT?',
    });
  });

  it('an unknown variable is a warning with the nearest one, and stops nothing; one of other parts is none', () => {
    const env = {
      VRAMFLOW_OLLAMA: 'none',
      VRAMFLOW_ZEBRA: '1',
      VRAMFLOW_CLIP_PART: '/x',
      VRAMFLOW_HOST: 'h',
      OTHER: '',
    };
    const { warnings, config } = new Sandbox().load({ env });
    expect(config.host).toBe('h');
    expect(warnings.map(({ source, message, remedy }) => `${source} ${message} ${remedy}`)).toEqual([
      'environment VRAMFLOW_OLLAMA is not a variable that vramflow knows. Did you mean VRAMFLOW_OLLAMA_ENDPOINT?',
      expect.stringMatching(/^environment VRAMFLOW_ZEBRA is not a variable that vramflow knows\. Remove it; /),
    ]);
  });

  it('a flag that names no key', () => {
    const [problem] = new Sandbox().problems({ overrides: { 'gpu.raeder': 'none' } });
    expect(problem).toMatchObject({ source: 'flag', key: 'gpu.raeder', remedy: 'Did you mean reader?' });
  });

  it.each(['__proto__.zebra', 'gpu.__proto__.zebra'])('the flag %s, which no map can have', (key) => {
    const [problem] = new Sandbox().problems({ overrides: { [key]: '1' } });
    expect(problem).toMatchObject({ source: 'flag', message: 'is not a key path.' });
    expect({}).not.toHaveProperty('zebra');
  });

  it('files and environment are reported together', () => {
    const sandbox = new Sandbox().user('gpu: [\n').project('zebra: 1\n');
    const problems = sandbox.problems({ env: { VRAMFLOW_RESERVE_MB: '-1' } });
    expect(problems.map(({ source }) => source)).toEqual(['environment VRAMFLOW_RESERVE_MB', 'user', 'project']);
  });
});

describe('a file that cannot be read', () => {
  it('is a problem when somebody named it', () => {
    const [problem] = new Sandbox().problems({ config: 'nowhere.yaml' });
    expect(problem?.message).toBe('cannot be read: there is no such file.');
    expect(problem?.remedy).toBe('Name a file that you may read.');
  });

  it('is a problem when it is a folder', () => {
    const sandbox = new Sandbox();
    mkdirSync(join(sandbox.cwd, 'folder'));
    expect(sandbox.problems({ config: 'folder' })[0]?.message).toBe('cannot be read: it is a folder.');
  });

  it('is a problem when nobody named it, but it is there', () => {
    const sandbox = new Sandbox();
    mkdirSync(sandbox.userFile, { recursive: true });
    expect(sandbox.problems()[0]).toMatchObject({
      file: sandbox.userFile,
      message: 'cannot be read: it is a folder.',
      remedy: 'Make it a file that you may read, or remove it.',
    });
  });
});

describe('whatever the text', () => {
  it('a load ends in a configuration or in a ConfigError with a remedy for each problem', () => {
    const sandbox = new Sandbox();
    const key = fc.constantFrom(
      'models',
      'modes',
      'gpu',
      'clip',
      'host',
      'reserve_mb',
      '__proto__',
      'constructor',
      '<<',
      'x',
    );
    const anything = fc.anything({
      key,
      maxDepth: 3,
      values: [fc.string(), fc.double(), fc.boolean(), fc.constant(null)],
    });
    const text = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      anything.map((value) => JSON.stringify(value) ?? ''),
    );
    fc.assert(
      fc.property(text, (yaml) => {
        sandbox.project(yaml);
        try {
          loadConfig({ argv: { overrides: {} }, env: {}, cwd: sandbox.cwd, homeDir: sandbox.home });
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
          for (const problem of (error as ConfigError).problems) {
            expect(problem.remedy).not.toBe('');
            expect(problem.file).toBe(sandbox.projectFile);
            expect(problem.line).toBeGreaterThan(0);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
