/** The shape of one configuration file: every key with its meaning, unit, range and default. */
import { z } from 'zod';
import { MODEL_NAME } from './modelName.js';
import { text } from './traits.js';

/** 1 TiB: more than any GPU has, so a larger figure is a slip of the unit. */
const MAX_MB = 1_048_576;
const WEEK_SECONDS = 604_800;

const megabytes = (min: number) => z.int().min(min).max(MAX_MB);
const seconds = (min: number, max: number) => z.number().min(min).max(max);
const priority = (fallback: number) =>
  z.int().min(0).max(100).default(fallback).describe('Higher wins: room is made only at the cost of lower or equal.');

/** Names that become part of workflow ids and task queues. */
export const ID_PATTERN = /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$/;
const id = text(z.string().regex(ID_PATTERN), 'letters, digits, dots and dashes, at most 63');
const modelName = text(z.string().regex(MODEL_NAME), 'the name of a model, for example qwen3-vl:8b');
const modeName = text(z.string().regex(/^[A-Za-z0-9][\w-]{0,62}$/), 'letters, digits, dashes and underscores');
const filePath = text(z.string().min(1), 'a path', { path: true });
const argv = text(z.array(z.string().min(1)).min(1), 'a program and its arguments as a list, for example [nvidia-smi]');
const port = z.int().min(1).max(65_535);

const hostAndPort = text(
  z
    .string()
    .regex(/^(?:\[[0-9A-Fa-f:]+\]|[\w.-]+):\d{1,5}$/, { abort: true })
    .refine((value) => Number(value.slice(value.lastIndexOf(':') + 1)) <= 65_535),
  'a host and a port, for example 127.0.0.1:8470',
);

/** No user and password: fetch refuses them, and they would show in logs. */
const isBareHttpUrl = (value: string): boolean => {
  if (!URL.canParse(value)) return false;
  const url = new URL(value);
  return /^https?:$/.test(url.protocol) && !url.username && !url.password && !url.search && !url.hash;
};
const endpoint = text(
  z
    .string()
    .regex(/^https?:\/\//, { abort: true })
    .refine(isBareHttpUrl),
  'an http or https address without user and password, for example http://localhost:11434',
);

const endpointPage = text(
  z
    .string()
    .regex(/^https?:\/\//, { abort: true })
    .refine((value) => URL.canParse(value) && !new URL(value).username && !new URL(value).hash),
  'an http or https address, for example http://127.0.0.1:8188/health',
);

const idleTimeout = z.union([seconds(0.1, WEEK_SECONDS), z.literal('never')]);
const loadTimeout = seconds(0.1, 3600);
const unloadTimeout = seconds(0.1, 600);

/** What `models` says of one model. */
export const modelSchema = z.strictObject({
  vram_mb: megabytes(1)
    .optional()
    .describe('MB it takes on GPUs when loaded; `ollama ps` shows it. Built in for qwen3-vl:8b.'),
  priority: priority(50),
  pinned: z.boolean().default(false).describe('Never unloaded to make room for something else.'),
  allow_cpu: z
    .boolean()
    .default(false)
    .describe('May run from system memory although the host has a GPU; otherwise a partial load is a failure.'),
  idle_timeout_seconds: idleTimeout.optional().describe('As the key of this name at the top, for this model only.'),
  load_timeout_seconds: loadTimeout.optional().describe('As the key of this name at the top, for this model only.'),
  unload_timeout_seconds: unloadTimeout.optional().describe('As the key of this name at the top, for this model only.'),
});

const clip = z.strictObject({
  vram_mb: megabytes(1).default(500).describe('MB that CLIP takes on a GPU.'),
  // Below a model's: CLIP has another place to go, a model has not.
  priority: priority(40),
  model_path: filePath
    .optional()
    .describe('A folder with the ONNX files; without it clip_model is fetched on first use.'),
  gpu_provider: z
    .enum(['cuda', 'cpu'])
    .default('cuda')
    .describe('What runs CLIP when it is moved to the GPU; `cpu` only to try moves on a machine without one.'),
  move_timeout_seconds: seconds(0.1, 600).default(30).describe('Seconds that one move between devices may take.'),
  command: argv.optional().describe('Starts another embedder that speaks the same protocol, as the simulator does.'),
});

const gpu = z.strictObject({
  reader: z
    .enum(['auto', 'nvidia-smi', 'none'])
    .default('auto')
    .describe(
      'Where GPU figures come from. auto: nvidia-smi where it is; none: declared figures only, marked degraded.',
    ),
  nvidia_smi: argv.default(['nvidia-smi']).describe('The program to read GPUs with, and its first arguments.'),
  total_mb: megabytes(1)
    .optional()
    .describe(
      'The VRAM of the GPUs in MB. No mode or phase may ask for more, which shows before a start; with `reader: none` it stands for the measurement.',
    ),
});

const mode = z.strictObject({
  models: z
    .record(modelName, z.enum(['gpu', 'absent']))
    .default({})
    .describe('Where the mode wants each model. `vlm` stands for vlm_model. A model not named stays as it is.'),
  clip: z
    .enum(['gpu', 'gpu-if-room', 'cpu', 'keep'])
    .default('keep')
    .describe(
      'Where the mode wants CLIP. gpu-if-room: on the GPU while more than vram_threshold_for_clip_gpu_mb is free and the VLM is not there.',
    ),
});

const serviceName = text(
  z.string().regex(/^[A-Za-z0-9][\w.-]{0,62}$/),
  'letters, digits, dots, dashes and underscores',
);
const serviceSeconds = seconds(0.1, 3600);

const statusCode = z.int().min(100).max(599);
const statusCodes = text(
  z.union([statusCode, z.tuple([statusCode, statusCode])]),
  'a status, or the first and the last of a range, for example [200, 399]',
);

/** How a service tells that it works; exactly one of the four. */
const health = z.strictObject({
  http: endpointPage
    .optional()
    .describe('A page that answers 200–299, for example http://127.0.0.1:8188/system_stats.'),
  status: statusCodes
    .optional()
    .describe('With http: the status that the page answers, or the first and the last of a range; 200–299 by default.'),
  body: z.string().min(1).optional().describe('With http: text that the page must hold.'),
  tcp: hostAndPort.optional().describe('An address that takes connections, for example 127.0.0.1:50000.'),
  log: z.string().min(1).optional().describe('Text in its output that says that it is ready.'),
  command: argv.optional().describe('A program that ends with 0 while the service works.'),
  allow_remote: z.boolean().default(false).describe('The address may be on another machine.'),
  interval_seconds: serviceSeconds.default(5).describe('Seconds between two checks of a ready service.'),
  timeout_seconds: seconds(0.1, 10).default(5).describe('Seconds that one check may take.'),
  failures: z.int().min(1).max(100).default(3).describe('So many failed checks in a row make a service unhealthy.'),
});

/** A service: exactly one of `run`, `container` and `image`. */
const service = z.strictObject({
  run: argv.optional().describe('A native service: the program and its arguments, for example [python, main.py].'),
  directory: filePath.optional().describe('With run: the folder that it runs in.'),
  adopt: argv.optional().describe('With run: the beginning of the command line of one started by hand, to take over.'),
  container: z.string().min(1).optional().describe('A Docker container that exists, by its name.'),
  image: z.string().min(1).optional().describe('A Docker image: vramflow creates the container.'),
  command: argv.optional().describe('With image: the program and its arguments.'),
  mounts: z.record(filePath, z.string().min(1)).default({}).describe('With image: folder here → folder there.'),
  gpu_access: z
    .enum(['nvidia', 'cdi'])
    .optional()
    .describe('With image: how Docker hands it a GPU; nvidia unless told: the NVIDIA Container Toolkit. cdi: by name.'),
  env: z
    .record(z.string().min(1), z.string())
    .default({})
    .describe('With run or image: its environment variables; health.command has them too, of any service.'),
  ports: z.array(port).default([]).describe('TCP ports that it listens on, on loopback.'),
  vram_mb: megabytes(0).describe('MB of VRAM that it may take; 0 for none.'),
  serves: z
    .literal('ollama')
    .optional()
    .describe('ollama: what answers at ollama_endpoint runs in it. Its models then count as part of this service.'),
  priority: priority(50),
  pinned: z.boolean().default(false).describe('Never stopped to make room for something else.'),
  health: health
    .optional()
    .describe(
      "How it tells that it is ready; without it a container's own HEALTHCHECK counts, and where there is none, that it has run for 1.5 s.",
    ),
  start_timeout_seconds: serviceSeconds
    .default(120)
    .describe('Seconds that a start may take; the last fifth, at most 6 s, is kept to end what is not ready by then.'),
  stop_timeout_seconds: serviceSeconds
    .default(30)
    .describe('Seconds that a stop may take, the graceful part included; then it is killed.'),
});

const phase = z.union([
  z.array(serviceName),
  z.strictObject({
    number: z.int().min(0).max(9999).optional().describe('Its number, for callers that count.'),
    services: z.array(serviceName).default([]).describe('The services that run in it; all others stop.'),
  }),
]);

const docker = z.strictObject({
  socket: filePath.default('/var/run/docker.sock').describe("Docker's socket."),
});

const gateway = z.strictObject({
  listen: hostAndPort
    .optional()
    .describe('Where other programs reach vramflow over HTTP, for example 127.0.0.1:8000; without it they do not.'),
  open_routes: z
    .array(z.enum(['/gpu/*', '/api/*']))
    .default([])
    .describe(
      'Routes that programs on this machine may call without a token. Host and Origin are checked all the same.',
    ),
});

const temporal = z.strictObject({
  address: hostAndPort.optional().describe('A Temporal server that runs already; without it vramflow runs its own.'),
  namespace: id.default('default').describe('The Temporal namespace.'),
  port: port.default(7233).describe("The port of vramflow's own Temporal server, on loopback."),
  ui_port: port.default(8233).describe("The port of that server's web page, on loopback."),
  ui_url: endpoint
    .optional()
    .describe('Where the Web UI of the server at `address` answers, for links; without it there are none.'),
  binary: filePath
    .optional()
    .describe('The `temporal` program to run; without it the PATH is searched, then the cache.'),
});

const agent = z.strictObject({
  listen: hostAndPort
    .default('127.0.0.1:8470')
    .describe('Where the agent answers the command line; port 0 takes a free one.'),
  token_file: filePath.optional().describe('A file with the token that callers of the agent must show.'),
});

/** The whole file. Unknown keys are errors; a key that is left out has its default. */
export const fileSchema = z
  .strictObject({
    host: id.optional().describe("This machine's name in workflow ids; by default its hostname."),
    ollama_endpoint: endpoint.default('http://localhost:11434').describe('Where Ollama answers.'),
    vlm_model: modelName.default('qwen3-vl:8b').describe('The vision model that recording mode loads.'),
    clip_model: z.string().min(1).default('ViT-B-32').describe('The CLIP model that makes embeddings.'),
    idle_timeout_seconds: idleTimeout
      .default(300)
      .describe('A model without a request for so many seconds is unloaded; `never` keeps it.'),
    vram_threshold_for_clip_gpu_mb: megabytes(0)
      .default(1024)
      .describe('CLIP goes to the GPU only where more MB than this are free.'),
    max_load_retries: z
      .int()
      .min(0)
      .max(20)
      .default(3)
      .describe('Retries of a load or unload after the first attempt.'),
    load_timeout_seconds: loadTimeout.default(30).describe('Seconds that one attempt to load a model may take.'),
    unload_timeout_seconds: unloadTimeout
      .default(5)
      .describe('Seconds that one attempt to unload a model may take, the grace for requests in flight included.'),
    reserve_mb: megabytes(0).default(0).describe('MB kept free on each GPU.'),
    vram_event_threshold_mb: megabytes(1)
      .default(100)
      .describe('A change of used VRAM from so many MB on is an event.'),
    vram_poll_ms: z.int().min(100).max(60_000).default(1000).describe('Milliseconds between two readings of the GPUs.'),
    degraded_retry_seconds: seconds(0.1, 3600)
      .default(30)
      .describe('Seconds between two looks for an Ollama that is away.'),
    reconcile_seconds: seconds(1, 86_400)
      .default(300)
      .describe('Seconds between two looks for drift without an event.'),
    models: z
      .record(modelName, modelSchema)
      .default({})
      .describe('The models by their Ollama names. The VLM is always one of them.'),
    clip: clip.prefault({}).describe('The embedder.'),
    gpu: gpu.prefault({}).describe('How the GPUs are read.'),
    modes: z
      .record(modeName, mode)
      .default({})
      .describe('The modes by name. One that is named idle, recording or autopilot replaces the built-in one whole.'),
    services: z.record(serviceName, service).default({}).describe('Programs that hold the GPU, by name.'),
    phases: z
      .record(text(z.string().regex(/^[A-Za-z0-9][\w.-]{0,62}$/), 'a number or a name'), phase)
      .default({})
      .describe('The phases: which services run together. A key that is a number is its number too.'),
    docker: docker.prefault({}).describe('The Docker daemon, for services in containers.'),
    gateway: gateway.prefault({}).describe('The door for other programs.'),
    temporal: temporal.prefault({}).describe('The Temporal server.'),
    agent: agent.prefault({}).describe('The agent beside the hardware.'),
    data_dir: filePath.optional().describe('Where vramflow keeps its data; by default $XDG_DATA_HOME/vramflow.'),
    log_level: z.enum(['debug', 'info', 'warn', 'error']).default('info').describe('The least level that is logged.'),
  })
  .meta({ title: 'vramflow', description: 'The configuration of vramflow. MB means MiB.' });

/** One configuration as the files say it, defaults filled in. */
export type Settings = z.output<typeof fileSchema>;
export type ModelSettings = Settings['models'][string];
export type ServiceSettings = Settings['services'][string];
export type ModeSettings = Settings['modes'][string];

/** The configuration as the program uses it: complete. */
export type Config = Omit<Settings, 'host' | 'models'> & {
  host: string;
  /** By Ollama's full name, tag included; the VLM is always one of them. */
  models: Record<string, ModelSettings & { vram_mb: number }>;
};
