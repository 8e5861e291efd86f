/** Models of an Ollama that is a service of ours: one makes room for another inside it, and the service goes on. */
import type { Target } from '../../contracts/residency.js';
import { byText, type HostView, sum } from './hostView.js';
import { type Holder, holderOf, makeRoom, type Room, type Start, startOf } from './room.js';
import { cheapestSet } from './victims.js';
import type { Demands } from './wishes.js';

/** Up to here every set of them is looked at; beyond, the cheapest go first. */
const EXACT_UP_TO = 5;

/** Room as `makeRoom` finds it, or with less loss by those who are inside the same tenant as a need. */
export function roomFor(host: HostView, demands: Demands, target: Target, leaving: Set<string>): Room | null {
  const start = startOf(host, demands, target, leaving);
  const plain = makeRoom(start);
  if (plain !== null && plain.victims.length === 0 && notWhole(plain) === 0) return plain;
  const movable = siblingsOf(host, start, target, leaving).filter(({ spared }) => spared === null);
  const ways = setsOf(movable).flatMap((siblings) => {
    const room = siblings.length === 0 ? plain : makeRoom(startOf(host, demands, target, without(leaving, siblings)));
    if (room === null) return [];
    const victims = [...siblings, ...room.victims.map((view) => holderOf(view, target, false))];
    return [{ victims, room: { ...room, victims: victims.map(({ view }) => view) } }];
  });
  const fewest = Math.min(...ways.map(({ room }) => notWhole(room)));
  return cheapestSet(ways.filter(({ room }) => notWhole(room) === fewest))?.room ?? null;
}

/** Who is inside the same tenant as a need, and must not be unloaded, though that would make the room. */
export function sparedInside(host: HostView, demands: Demands, target: Target, leaving: Set<string>): Holder[] {
  const siblings = siblingsOf(host, startOf(host, demands, target, leaving), target, leaving);
  const spared = siblings.filter(({ spared: by }) => by !== null && by.why !== 'wished');
  const isRoom = makeRoom(startOf(host, demands, target, without(leaving, siblings))) !== null;
  return isRoom ? spared : [];
}

const notWhole = ({ placed, staysOnCpu }: Room): number =>
  placed.filter(({ partly }) => partly).length + staysOnCpu.length;

const without = (leaving: Set<string>, siblings: Holder[]): Set<string> =>
  new Set([...leaving, ...siblings.map(({ view }) => view.id)]);

/** Those that hold something in there, the cheapest first. */
function siblingsOf(host: HostView, start: Start, target: Target, leaving: Set<string>): Holder[] {
  const outers = new Set(start.needs.filter(({ peakMb }) => peakMb > 0).map(({ view }) => view.countedAs));
  const needed = new Set(start.needs.map(({ view }) => view.id));
  return [...host.tenants.values()]
    .filter((view) => view.countedAs !== null && outers.has(view.countedAs) && sum(view.heldMb) > 0)
    .filter(({ id }) => !needed.has(id) && !leaving.has(id) && target.wishes[id]?.place !== 'absent')
    .map((view) => holderOf(view, target, false))
    .sort((a, b) => a.rank - b.rank || a.costMs - b.costMs || byText(a.view.id, b.view.id));
}

function setsOf(siblings: Holder[]): Holder[][] {
  if (siblings.length > EXACT_UP_TO) return [[], ...siblings.map((_, last) => siblings.slice(0, last + 1))];
  return siblings.reduce<Holder[][]>((sets, one) => [...sets, ...sets.map((set) => [...set, one])], [[]]);
}
