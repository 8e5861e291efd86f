/** The one version that is fetched, and the least that is accepted from the machine. */

/** The newest tag of the CLI that `go install` can build; it contains server 1.29.1 and Web UI 2.42.1. */
export const CLI_VERSION = '1.5.1';

/** The server inside a CLI found on the PATH; older ones were never tried with these workflows. */
export const LEAST_SERVER = [1, 29, 0] as const;

/** The `go` line of the CLI's go.mod. */
export const LEAST_GO = [1, 25, 0] as const;

export const GO_PACKAGE = `github.com/temporalio/cli/cmd/temporal@v${CLI_VERSION}`;
