/** A container of a real daemon that holds memory of a simulated card while it runs, as one on CUDA would. */
import type Docker from 'dockerode';
import { IMAGE } from './dockerd.js';

/**
 * What a simulated service does (src/simulator/service.ts), with busybox: the open answer to /service/hold is the holding, and
 * ends with the container; its lines are orders. $0 is the program to play, $1 the simulator, $2 the port, $3 the page.
 */
const PROGRAM = `
hello="{\\"pid\\":$$,\\"name\\":\\"$0\\",\\"visibleDevices\\":null,\\"isUp\\":false}"
busybox wget -q -O - --header 'content-type: application/json' --post-data "$hello" "$1/service/hold" |
while read -r order; do
  case $order in
    *'"kind":"play"'*) ;;
    *'"kind":"up"'*)
      page="/www$3"
      busybox mkdir -p "\${page%/*}"
      echo ok >"$page"
      httpd -p "127.0.0.1:$2" -h /www && echo ready ;;
    *)
      echo "$order" >&2
      kill -9 $$ ;;
  esac
done
echo 'the card has let go' >&2
exit 1
`;

export interface OnCard {
  /** Of the container, and of what the simulator plays. */
  name: string;
  /** The simulator's admin address. */
  simulator: string;
  /** Where it answers once it is up. */
  health: URL;
}

/** Its processes are listed by the ids that they have on this machine, which the simulated card knows them by. */
export async function makeContainerOnSimulatedCard(docker: Docker, { name, simulator, health }: OnCard): Promise<void> {
  await docker.createContainer({
    name,
    Image: IMAGE,
    Cmd: ['/bin/sh', '-c', PROGRAM, name, simulator, health.port, health.pathname],
    HostConfig: { NetworkMode: 'host', PidMode: 'host' },
  });
}
