/**
 * The sentences in which nvidia-smi reports trouble, as users quote them in public issue threads, and what to do
 * about each. Its exit codes do not tell these cases apart reliably; its words do.
 */

export interface Diagnosis {
  kind: 'no-devices' | 'driver' | 'gpu-lost' | 'permission' | 'unknown-field' | 'program-missing';
  /** What is wrong and the remedy, one or two sentences. */
  problem: string;
  /** The PCI address that the sentence names, as it stands there. */
  busId: string | null;
}

interface Rule {
  kind: Diagnosis['kind'];
  pattern: RegExp;
  problem: string;
}

/** The first that matches counts, so the precise ones come first. */
const RULES: Rule[] = [
  {
    kind: 'driver',
    pattern: /driver\/library version mismatch/i,
    problem:
      "The NVIDIA kernel module and library differ in version, as after an update. Reboot, or unload and load the 'nvidia' modules.",
  },
  {
    kind: 'driver',
    pattern: /couldn't communicate with the NVIDIA driver/i,
    problem:
      "nvidia-smi cannot reach the NVIDIA driver. Install the driver for this kernel, load it with 'modprobe nvidia', or reboot.",
  },
  {
    kind: 'no-devices',
    pattern: /no devices were found/i,
    problem: "The NVIDIA driver finds no GPU. Look at 'lspci' and 'dmesg', or set the reader to none.",
  },
  {
    kind: 'gpu-lost',
    pattern: /unable to determine the device handle for GPU|GPU is lost|fallen off the bus/i,
    problem: "The driver has lost a GPU. Look at 'dmesg' for Xid messages, then reboot; check its power and seat.",
  },
  {
    kind: 'gpu-lost',
    pattern: /GPU requires reset/i,
    problem: "A GPU must be reset. End what uses it, then 'nvidia-smi --gpu-reset' or reboot.",
  },
  {
    kind: 'permission',
    pattern: /failed to initialize NVML: insufficient permissions|permission denied/i,
    problem:
      "No permission to read the GPU. Give this user access to /dev/nvidia* (often the groups 'video' and 'render').",
  },
  {
    kind: 'driver',
    pattern: /failed to initialize NVML: driver not loaded/i,
    problem: "The NVIDIA driver is not loaded. Load it with 'modprobe nvidia', or reboot.",
  },
  {
    kind: 'driver',
    pattern: /failed to initialize NVML/i,
    problem:
      'NVML does not start. In a container, which loses its GPUs when systemd reloads, restart the container; else reboot.',
  },
  {
    kind: 'driver',
    pattern: /GPU access blocked by the operating system/i,
    problem: 'The operating system blocks access to the GPU. Update WSL and the Windows driver, then restart WSL.',
  },
  {
    kind: 'unknown-field',
    pattern: /is not a valid field to query/i,
    problem: 'This nvidia-smi does not know a field that vramflow asks for. Update the NVIDIA driver.',
  },
  {
    kind: 'program-missing',
    pattern: /ENOENT|failed to execute .*No such file|command not found|not recognized as an internal/i,
    problem: 'nvidia-smi is not installed or not on the PATH. Install the NVIDIA driver, or set the reader to none.',
  },
];

const BUS_ID = /(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]/i;

/** Recognises a sentence of trouble; null for anything else. Never throws. */
export function diagnose(text: string): Diagnosis | null {
  const rule = RULES.find(({ pattern }) => pattern.test(text));
  return rule ? { kind: rule.kind, problem: rule.problem, busId: BUS_ID.exec(text)?.[0] ?? null } : null;
}

/** One form for the PCI addresses of messages (`0000:0B:00.0`) and of fields (`00000000:0B:00.0`); null for others. */
export function normalBusId(text: string): string | null {
  const [device, bus, domain = ''] = BUS_ID.exec(text)?.[0].toLowerCase().split(':').reverse() ?? [];
  return device === undefined ? null : `${domain.replace(/^0+/, '')}:${bus}:${device}`;
}

/** Why a field holds no number; for the sentence about one GPU, after `is` or `are`. */
export function explainField(text: string): { lost: boolean; why: string } {
  if (/gpu is lost|requires reset/i.test(text))
    return { lost: true, why: `"${text}": look at 'dmesg' for Xid messages, then reset the GPU or reboot` };
  if (/insufficient permissions/i.test(text))
    return { lost: false, why: `"${text}": run the agent as a user who may read the GPU` };
  if (/not supported|n\/a|not available/i.test(text))
    return { lost: false, why: `"${text}": this GPU or driver does not tell it` };
  if (/err|unknown/i.test(text))
    return { lost: false, why: `"${text}": look at 'dmesg' for Xid messages; a reset or reboot may help` };
  return { lost: false, why: `unreadable ("${text.slice(0, 40)}")` };
}
