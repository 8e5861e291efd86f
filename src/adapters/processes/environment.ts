/**
 * What a program finds in a login shell: where programs and libraries are, who the user is, language and time zone.
 * LD_LIBRARY_PATH is among it because on some systems the GPU driver's libraries are found by it only.
 */
const KEPT = [
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'SHELL',
  'LANG',
  'LANGUAGE',
  'TZ',
  'TMPDIR',
  'XDG_RUNTIME_DIR',
  'LD_LIBRARY_PATH',
];

/** A base for the environment of other people's programs: nothing of the manager's own, above all no secret of it. */
export function cleanEnvironment(env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const kept = Object.entries(env).filter(([name]) => KEPT.includes(name) || name.startsWith('LC_'));
  return Object.fromEntries(kept.filter((entry): entry is [string, string] => entry[1] !== undefined));
}
