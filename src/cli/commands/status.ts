import { Command } from 'commander';
import type { TenantObservation } from '../../contracts/residency.js';
import type { Status } from '../../contracts/status.js';
import { driftLevel } from '../../domain/drift.js';
import { calledForPeople } from '../../domain/planner/leases.js';
import { agentClient } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { configOf, outputOf } from '../globalOptions.js';
import { type Style, table } from '../output.js';

/** `vramflow status`: all of M14, and who holds what. */
export function statusCommand(context: CliContext): Command {
  return new Command('status')
    .description('show the mode, the models, the GPUs and who holds what')
    .action(async (_options, command: Command) => {
      const { config } = configOf(command, context);
      const status = await agentClient(config, context).get<Status>('/v1/status');
      outputOf(command, context).data(status, renderStatus);
    });
}

export function renderStatus(status: Status, style: Style): string {
  const figure = (mb: number | null) => (mb === null ? 'unknown' : `${mb} MB`);
  const lines = [
    `${style.bold(status.host)}  mode ${style.cyan(status.execution_mode)}`,
    `VLM ${status.vlm_model}: ${status.vlm_state}   CLIP: ${status.clip_device} (${status.clip_part})`,
    status.idle_timeout_seconds === null
      ? 'no idle unload'
      : `idle unload after ${status.idle_timeout_seconds} s; last request ${status.last_vlm_request ?? 'never'}`,
  ];
  if (status.degraded_reason !== null) lines.push(style.yellow(`degraded: ${status.degraded_reason}`));
  const resting = status.drivers.find((driver) => driver.resting);
  if (resting !== undefined) lines.push(`${resting.id}: ${resting.reason}`);
  if (status.phase !== null) {
    const { phase_problem: problem } = status;
    lines.push(`phase ${status.phase}${problem === null ? '' : style.yellow(` degraded: ${problem}`)}`);
  }
  for (const turn of status.turns) {
    lines.push(`turn: ${turn.workflow_id} for ${(turn.for_ms / 1000).toFixed(1)} s on ${turn.devices.join(', ')}`);
  }
  if (status.gpus.length > 0) {
    const rows = status.gpus.map((gpu) => [
      gpu.name,
      gpu.id.slice(0, 12),
      figure(gpu.totalMb),
      figure(gpu.usedMb),
      figure(gpu.foreignMb),
      gpu.utilizationPercent === null ? '?' : `${gpu.utilizationPercent} %`,
      gpu.temperatureC === null ? '?' : `${gpu.temperatureC} °C`,
      gpu.quarantine ? 'quarantined' : gpu.health,
      gpu.source,
    ]);
    lines.push(
      '',
      table(
        ['GPU', 'id', 'total', 'used', 'foreign', 'load', 'temp', 'health', 'source'].map((title) => ({ title })),
        rows,
        style,
      ),
    );
  }
  if (status.processes !== null && status.processes.length > 0) {
    const rows = status.processes.map(({ gpu, pid, name, used_mb: used, owner }) => [
      String(pid),
      gpu.slice(0, 12),
      figure(used),
      owner,
      name,
    ]);
    lines.push(
      '',
      table(
        ['pid', 'GPU', 'used', 'owner', 'program'].map((title) => ({ title })),
        rows,
        style,
      ),
    );
  }
  const tenants = status.tenants.map((tenant) => [
    calledForPeople(tenant),
    tenant.state,
    tenant.holdings.map((holding) => `${holding.device.slice(0, 12)} ${holding.mb} MB`).join(' + ') || '–',
    `${tenant.chargeMb} MB ${tenant.chargeSource}${drift(tenant)}`,
    tenant.idleForMs === null ? '–' : `${Math.round(tenant.idleForMs / 1000)} s`,
    String(tenant.uses),
  ]);
  if (tenants.length === 0) return [...lines, '', NO_TENANTS].join('\n');
  lines.push(
    '',
    table(
      ['tenant', 'state', 'holds', 'charge', 'idle', 'uses'].map((title) => ({ title })),
      tenants,
      style,
    ),
  );
  return lines.join('\n');
}

/** Empty while it takes about what is declared, or less. */
const drift = ({ declaredMb, seenMb }: TenantObservation): string =>
  declaredMb === undefined || driftLevel(declaredMb, seenMb ?? 0) === 0
    ? ''
    : ` (${seenMb} MB seen, ${declaredMb} MB declared)`;

const NO_TENANTS =
  'No model or service is configured, and none is loaded; `vramflow config show` shows the configuration.';
