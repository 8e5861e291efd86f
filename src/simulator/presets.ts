/** One simulated device. Sizes in MB (MiB). */
export interface CardSpec {
  readonly uuid: string;
  readonly name: string;
  readonly totalMb: number;
  /** Kept back by the driver: in neither `memory.used` nor `memory.free`. */
  readonly reservedMb: number;
  readonly computeCapability: string;
  readonly idleTemperatureC: number;
  readonly powerLimitW: number;
}

export interface ModelSpec {
  /** With its tag, as Ollama lists it. */
  readonly name: string;
  /** What its runner holds at the default context of 2048 tokens, once loaded. */
  readonly sizeMb: number;
  readonly family: string;
  readonly parameters: string;
  readonly quantization: string;
  readonly capabilities: readonly ('completion' | 'vision' | 'tools' | 'embedding')[];
  readonly embeddingLength: number;
}

/** A process that is there from the start, such as a desktop. */
export interface ForeignSpec {
  readonly gpu: number;
  readonly mb: number;
  readonly kind: 'compute' | 'graphics';
  readonly name: string;
}

export interface Preset {
  readonly cards: readonly CardSpec[];
  readonly models: readonly ModelSpec[];
  readonly foreign: readonly ForeignSpec[];
}

/** Ids of several cards differ in their first letters, as those of real ones do. */
const FIRST_CARD = 0x51717e00;

function card(serial: number, name: string, totalMb: number, reservedMb: number, powerLimitW: number): CardSpec {
  return {
    uuid: `GPU-${(FIRST_CARD + serial - 1).toString(16)}-0000-4000-8000-${String(serial).padStart(12, '0')}`,
    name,
    totalMb,
    reservedMb,
    computeCapability: '8.9',
    idleTemperatureC: 38 + serial,
    powerLimitW,
  };
}

function model(
  name: string,
  sizeMb: number,
  family: string,
  parameters: string,
  capabilities: ModelSpec['capabilities'] = ['completion'],
  embeddingLength = 4096,
): ModelSpec {
  const quantization = capabilities.includes('embedding') ? 'F16' : 'Q4_K_M';
  return { name, sizeMb, family, parameters, quantization, capabilities, embeddingLength };
}

const QWEN3_VL_8B = model('qwen3-vl:8b', 10_500, 'qwen3vl', '8.8B', ['completion', 'vision', 'tools']);
const LLAVA_7B = model('llava:7b', 6200, 'llama', '7B', ['completion', 'vision']);
const QWEN25_14B = model('qwen2.5:14b', 11_500, 'qwen2', '14.8B', ['completion', 'tools'], 5120);
const NOMIC_EMBED = model('nomic-embed-text:latest', 600, 'nomic-bert', '137M', ['embedding'], 768);
const BIG_70B = model('big:70b', 43_000, 'llama', '70.6B', ['completion', 'tools'], 8192);
const MOONDREAM = model('moondream:latest', 2100, 'phi2', '1B', ['completion', 'vision'], 2048);
const QWEN25_3B = model('qwen2.5:3b', 2600, 'qwen2', '3.1B', ['completion', 'tools'], 2048);

/** What a desktop takes: small, but never nothing, and seen by no list of compute processes. */
function desktop(serverMb: number, shellMb: number): readonly ForeignSpec[] {
  return [
    { gpu: 0, mb: serverMb, kind: 'graphics', name: '/usr/lib/xorg/Xorg' },
    { gpu: 0, mb: shellMb, kind: 'graphics', name: '/usr/bin/gnome-shell' },
  ];
}

const RTX_3090 = 'NVIDIA GeForce RTX 3090';

/** The hosts that the simulator can play. Totals are what nvidia-smi prints for these cards. */
export const PRESETS: Readonly<Record<string, Preset>> = {
  rtx4090: {
    cards: [card(1, 'NVIDIA GeForce RTX 4090', 24_564, 346, 450)],
    models: [QWEN3_VL_8B, LLAVA_7B, QWEN25_14B, NOMIC_EMBED, BIG_70B],
    foreign: desktop(412, 131),
  },
  'laptop-6gb': {
    cards: [card(11, 'NVIDIA GeForce RTX 3060 Laptop GPU', 6144, 152, 115)],
    models: [QWEN3_VL_8B, LLAVA_7B, QWEN25_3B, MOONDREAM, NOMIC_EMBED],
    foreign: desktop(218, 87),
  },
  'five-gpus': {
    cards: [
      card(21, RTX_3090, 24_576, 310, 350),
      card(22, RTX_3090, 24_576, 310, 350),
      card(23, 'NVIDIA GeForce RTX 3060', 12_288, 170, 170),
      card(24, RTX_3090, 24_576, 310, 350),
      card(25, RTX_3090, 24_576, 310, 350),
    ],
    models: [QWEN3_VL_8B, LLAVA_7B, QWEN25_14B, QWEN25_3B, NOMIC_EMBED, BIG_70B],
    foreign: [],
  },
  /** For M17: Ollama is there and runs everything from system memory. */
  'no-gpu': { cards: [], models: [QWEN3_VL_8B, LLAVA_7B, MOONDREAM, NOMIC_EMBED], foreign: [] },
};
