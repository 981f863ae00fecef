// Starts `campanile dev` for a story, waits for facts with deadlines, and ends what it started by its own id.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const HERE = dirname(fileURLToPath(import.meta.url));
const BINARY = process.env.CAMPANILE ?? join(HERE, '../../target/release/campanile');

for (const name of ['http_proxy', 'https_proxy', 'all_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY']) delete process.env[name];

/** Waits for `promise`, but not longer than `ms`. */
export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks `fact` again and again until it answers something true. */
export async function until(ms, what, fact) {
  const due = Date.now() + ms;
  for (;;) {
    const answer = await fact();
    if (answer) return answer;
    if (Date.now() > due) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export class Server {
  constructor() { this.data = mkdtempSync(join(tmpdir(), 'campanile-')); }

  static async start(...flags) {
    const server = new Server();
    await server.up(...flags);
    return server;
  }

  /** A second `up` comes back on the same ports and the same data. */
  async up(...flags) {
    const http = this.http ? new URL(this.http).host : '127.0.0.1:0';
    const ws = this.ws ? new URL(this.ws).host : '127.0.0.1:0';
    this.process = spawn(BINARY, ['dev', '--http', http, '--ws', ws, '--data', this.data, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.said = '';
    this.process.stderr.on('data', (bytes) => { this.said += bytes; });
    this.gone = new Promise((resolve) => this.process.once('exit', (code, signal) => resolve({ code, signal })));
    const line = await within(20_000, 'the ready line', Promise.race([
      new Promise((resolve) => createInterface({ input: this.process.stdout }).once('line', resolve)),
      this.gone.then(({ code }) => { throw new Error(`campanile ended with ${code}: ${this.said}`); }),
    ]));
    const words = Object.fromEntries(line.split(' ').slice(1).map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
    this.http = words.http.replace(/\/$/, '');
    this.ws = words.ws.replace(/\/$/, '');
    this.workspace = await (await fetch(`${this.http}/dev/workspace.json`)).json();
  }

  get api() { return `${this.http}/api/`; }
  token(name) { return this.workspace.users.find((user) => user.name === name).token; }
  user(name) { return this.workspace.users.find((user) => user.name === name).id; }
  channel(name) { return this.workspace.channels.find((channel) => channel.name === name).id; }

  async call(name, method, args = {}) {
    const answer = await fetch(this.api + method, { method: 'POST', body: new URLSearchParams(args), headers: { Authorization: `Bearer ${this.token(name)}` } });
    const value = await answer.json();
    if (!value.ok) throw new Error(`${method}: ${value.error}`);
    return value;
  }

  async end(signal = 'SIGTERM') {
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill(signal);
    return within(15_000, 'the end of the process', this.gone);
  }

  async down() {
    await this.end('SIGKILL');
    rmSync(this.data, { recursive: true, force: true });
  }
}
