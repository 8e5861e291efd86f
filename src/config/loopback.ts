/** Whether a host, as an address writes it, is this machine's own and no other's. */
export const isLoopback = (host: string): boolean => /^(?:localhost|127(?:\.\d+){3}|\[?::1\]?)$/.test(host);
