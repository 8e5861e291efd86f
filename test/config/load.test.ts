import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ENVIRONMENT } from '../../src/config/environment.js';
import { formatPath } from '../../src/config/keyPath.js';
import { checkFile, withOverlay } from '../../src/config/load.js';
import { ConfigError } from '../../src/config/problem.js';
import { settablePaths } from '../../src/config/schemaWalk.js';
import { Sandbox } from './sandbox.js';

describe('with no source at all', () => {
  it('the defaults of the requirements hold (M1, M2, M15, M16)', () => {
    const { config, files, origins } = new Sandbox().load();
    expect(config).toMatchObject({
      host: hostname(),
      ollama_endpoint: 'http://localhost:11434',
      vlm_model: 'qwen3-vl:8b',
      clip_model: 'ViT-B-32',
      idle_timeout_seconds: 300,
      vram_threshold_for_clip_gpu_mb: 1024,
      max_load_retries: 3,
      load_timeout_seconds: 30,
      unload_timeout_seconds: 5,
      vram_event_threshold_mb: 100,
      vram_poll_ms: 1000,
      degraded_retry_seconds: 30,
      models: { 'qwen3-vl:8b': { vram_mb: 10_752, priority: 50, pinned: false, allow_cpu: false } },
      clip: { vram_mb: 500, gpu_provider: 'cuda' },
      gpu: { reader: 'auto', nvidia_smi: ['nvidia-smi'] },
      agent: { listen: '127.0.0.1:8470' },
    });
    expect(Object.keys(config.modes)).toEqual(['idle', 'recording', 'autopilot']);
    expect(files).toEqual([]);
    expect(new Set([...origins.values()].map(({ from }) => from))).toEqual(new Set(['default']));
  });
});

describe('examples/rpa-assistant.yaml', () => {
  it('shows the defaults, as it says', () => {
    const sandbox = new Sandbox();
    expect(checkFile('examples/rpa-assistant.yaml', sandbox.home).config).toEqual(sandbox.load().config);
  });
});

describe('precedence', () => {
  it('is flag > environment > project file > user file > default, key by key', () => {
    const sandbox = new Sandbox()
      .user('max_load_retries: 1\nload_timeout_seconds: 1\nunload_timeout_seconds: 1\nreserve_mb: 1\n')
      .project('max_load_retries: 2\nload_timeout_seconds: 2\nunload_timeout_seconds: 2\n');
    const { config, origins, files } = sandbox.load({
      env: { VRAMFLOW_MAX_LOAD_RETRIES: '3', VRAMFLOW_LOAD_TIMEOUT_SECONDS: '3' },
      overrides: { max_load_retries: '4' },
    });
    expect(config).toMatchObject({
      max_load_retries: 4,
      load_timeout_seconds: 3,
      unload_timeout_seconds: 2,
      reserve_mb: 1,
      idle_timeout_seconds: 300,
    });
    expect(origins.get('max_load_retries')).toEqual({ from: 'flag' });
    expect(origins.get('load_timeout_seconds')).toEqual({
      from: 'environment',
      variable: 'VRAMFLOW_LOAD_TIMEOUT_SECONDS',
    });
    expect(origins.get('unload_timeout_seconds')).toEqual({
      from: 'project',
      file: sandbox.projectFile,
      line: 3,
      column: 1,
    });
    expect(origins.get('reserve_mb')).toMatchObject({ from: 'user', file: sandbox.userFile, line: 4 });
    expect(origins.get('idle_timeout_seconds')).toEqual({ from: 'default' });
    expect(files.map(({ role }) => role)).toEqual(['project', 'user']);
  });

  it('merges maps key by key and replaces lists', () => {
    const sandbox = new Sandbox()
      .user('models: { "a:1": { vram_mb: 100, pinned: true } }\ngpu: { nvidia_smi: [x, y, z] }\n')
      .project('models: { "a:1": { vram_mb: 200 }, "b:1": { vram_mb: 300 } }\ngpu: { nvidia_smi: [w] }\n');
    const { config, origins } = sandbox.load();
    expect(config.models['a:1']).toMatchObject({ vram_mb: 200, pinned: true });
    expect(config.models['b:1']).toMatchObject({ vram_mb: 300, pinned: false });
    expect(config.gpu.nvidia_smi).toEqual(['w']);
    expect(origins.get('models.a:1.pinned')).toMatchObject({ from: 'user' });
    expect(origins.get('models.a:1.vram_mb')).toMatchObject({ from: 'project' });
  });

  it('takes the file of --config before the one of VRAMFLOW_CONFIG before vramflow.yaml', () => {
    const sandbox = new Sandbox().project('reserve_mb: 1\n');
    sandbox.write(join(sandbox.cwd, 'b.yaml'), 'reserve_mb: 2\n').write(join(sandbox.cwd, 'c.yaml'), 'reserve_mb: 3\n');
    const env = { VRAMFLOW_CONFIG: 'b.yaml' };
    expect(sandbox.load().config.reserve_mb).toBe(1);
    expect(sandbox.load({ env }).config.reserve_mb).toBe(2);
    expect(sandbox.load({ env, config: 'c.yaml' }).config.reserve_mb).toBe(3);
  });

  it('finds the user file by XDG_CONFIG_HOME', () => {
    const sandbox = new Sandbox();
    const xdg = join(sandbox.root, 'xdg');
    sandbox.write(join(xdg, 'vramflow', 'config.yaml'), 'reserve_mb: 7\n');
    expect(sandbox.load({ env: { XDG_CONFIG_HOME: xdg } }).config.reserve_mb).toBe(7);
  });
});

describe('the environment', () => {
  it('has a variable for every single value, named after its key', () => {
    const expected = settablePaths().map((path) => [`VRAMFLOW_${path.join('_').toUpperCase()}`, formatPath(path)]);
    expect(ENVIRONMENT).toEqual(Object.fromEntries(expected));
  });

  it('gives numbers, words and lists their type', () => {
    const { config, origins } = new Sandbox().load({
      env: {
        VRAMFLOW_IDLE_TIMEOUT_SECONDS: '1.5',
        VRAMFLOW_GPU_READER: 'nvidia-smi',
        VRAMFLOW_GPU_NVIDIA_SMI: '[python3, fake.py]',
        VRAMFLOW_HOST: '4090',
        VRAMFLOW_RESERVE_MB: '',
      },
    });
    expect(config).toMatchObject({ idle_timeout_seconds: 1.5, host: '4090', reserve_mb: 0 });
    expect(config.gpu).toEqual({ reader: 'nvidia-smi', nvidia_smi: ['python3', 'fake.py'] });
    expect(origins.get('gpu.nvidia_smi')).toEqual({ from: 'environment', variable: 'VRAMFLOW_GPU_NVIDIA_SMI' });
  });

  it('says `never` for a model that stays', () => {
    const { config } = new Sandbox().load({ env: { VRAMFLOW_IDLE_TIMEOUT_SECONDS: 'never' } });
    expect(config.idle_timeout_seconds).toBe('never');
  });
});

describe('values take one form', () => {
  it('paths are relative to the file that names them, else to the working folder; ~ is the home', () => {
    const sandbox = new Sandbox().user('data_dir: store\n').project('clip: { model_path: ~/clip }\n');
    const { config } = sandbox.load({ env: { VRAMFLOW_AGENT_TOKEN_FILE: 'token' } });
    expect(config.data_dir).toBe(join(sandbox.home, '.config', 'vramflow', 'store'));
    expect(config.clip.model_path).toBe(join(sandbox.home, 'clip'));
    expect(config.agent.token_file).toBe(join(sandbox.cwd, 'token'));
  });

  it('paths that are keys of a map, too', () => {
    const sandbox = new Sandbox().project(
      'services: { a: { image: a, vram_mb: 1, mounts: { models: /m, ~/in: /i, /abs: /a } } }\n',
    );
    const { config, origins } = sandbox.load();
    const models = join(sandbox.cwd, 'models');
    expect(config.services['a']?.mounts).toEqual({ [models]: '/m', [join(sandbox.home, 'in')]: '/i', '/abs': '/a' });
    expect(origins.get(formatPath(['services', 'a', 'mounts', models]))).toMatchObject({ from: 'project', line: 1 });
    sandbox.project('services: { a: { image: a, vram_mb: 1, mounts: { models: /m, ./models: /n } } }\n');
    expect(sandbox.problems()).toMatchObject([{ message: 'names a folder that is here already.' }]);
  });

  it('a model without a tag is its latest, wherever it is named', () => {
    const { config } = new Sandbox()
      .project(
        'vlm_model: llava\nmodels: { llava: { vram_mb: 9 } }\nmodes: { look: { models: { llava: gpu, vlm: gpu } } }\n',
      )
      .load();
    expect(config.vlm_model).toBe('llava:latest');
    expect(Object.keys(config.models)).toEqual(['llava:latest']);
    expect(config.modes['look']?.models).toEqual({ 'llava:latest': 'gpu', vlm: 'gpu' });
  });

  it('the endpoint has no slash at its end', () => {
    expect(new Sandbox().load({ overrides: { ollama_endpoint: 'http://box:1/' } }).config.ollama_endpoint).toBe(
      'http://box:1',
    );
  });

  it('a section whose lines are all commented out is empty', () => {
    const { config } = new Sandbox().project('models:\n#  a: 1\ngpu:\nmodes:\n  idle:\n').load();
    expect(config.modes['idle']).toEqual({ models: {}, clip: 'keep' });
    expect(config.gpu.reader).toBe('auto');
  });

  it('a mode of the file replaces the built-in one of its name whole, and leaves the others', () => {
    const { config } = new Sandbox().project('modes: { recording: { clip: gpu }, demo: {} }\n').load();
    expect(config.modes['recording']).toEqual({ models: {}, clip: 'gpu' });
    expect(Object.keys(config.modes).toSorted()).toEqual(['autopilot', 'demo', 'idle', 'recording']);
  });
});

describe('withOverlay', () => {
  it('lies on top of everything and says so', () => {
    const loaded = new Sandbox().load({ overrides: { ollama_endpoint: 'http://real:1' } });
    const simulated = withOverlay(
      loaded,
      { ollama_endpoint: 'http://127.0.0.1:9', gpu: { nvidia_smi: ['sim'] } },
      'simulate',
    );
    expect(simulated.config.ollama_endpoint).toBe('http://127.0.0.1:9');
    expect(simulated.origins.get('ollama_endpoint')).toEqual({ from: 'simulate' });
    expect(simulated.origins.get('gpu.nvidia_smi')).toEqual({ from: 'simulate' });
    expect(loaded.config.ollama_endpoint).toBe('http://real:1');
  });

  it('is checked like every source', () => {
    const loaded = new Sandbox().load();
    expect(() => withOverlay(loaded, { vram_poll_ms: 1 }, 'simulate')).toThrow(ConfigError);
  });
});
