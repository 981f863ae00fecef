// The connection: one websocket at a time, positions per channel, and a return that misses nothing.
//
// Every durable event has `seq` and `seq_of`. A position is the highest contiguous seq held. Each `rtm.connect` asks with
// `resume=true` and is told the tips of that moment, so that we know where we begin, what we missed, and when we have caught up.

const PING_MS = 10_000, SILENCE_MS = 25_000, BACKOFF_MS = 400, BACKOFF_MAX_MS = 20_000, CONNECT_MS = 10_000;
/** Codes of refusals that pass: too fast, too many at once, full, outcome unknown. */
const TRANSIENT = new Set([-1, 15, 16, 19]);
const GAP_MAX = 2_000; // beyond this it is cheaper to read the history anew

export class Refused extends Error {
  constructor(error, retryAfter) { super(error); this.error = error; this.retryAfter = retryAfter; }
}

/** One call of the Web API. Throws `Refused`, with `retryAfter` in seconds when it is worth trying again. */
export async function call(token, method, args = {}) {
  const body = new URLSearchParams();
  for (const [name, value] of Object.entries(args)) if (value !== undefined) body.set(name, value);
  let answer;
  try {
    answer = await fetch(`/api/${method}`, {
      method: 'POST', body, headers: token ? { Authorization: `Bearer ${token}` } : {}, signal: AbortSignal.timeout(CONNECT_MS),
    });
  } catch { throw new Refused('unreachable', 0); }
  const value = await answer.json().catch(() => ({ ok: false, error: `http_${answer.status}` }));
  if (!answer.ok) throw new Refused(value.error ?? `http_${answer.status}`, Number(answer.headers.get('Retry-After')) || 1);
  if (!value.ok) throw new Refused(value.error, undefined);
  return value;
}

/** What is held of one channel: everything up to `at`, and single places above it. */
class Position {
  constructor(at) { this.at = at; this.above = new Set(); }
  /** False: already held. */
  take(seq) {
    if (seq <= this.at || this.above.has(seq)) return false;
    this.above.add(seq);
    this.settle();
    return true;
  }
  fill(to) {
    if (to > this.at) this.at = to;
    for (const seq of this.above) if (seq <= this.at) this.above.delete(seq);
    this.settle();
  }
  settle() { while (this.above.delete(this.at + 1)) this.at += 1; }
}

export class Connection {
  /**
   * `hooks`: event(event, missed), gap(seq_of), state(name, detail), ready(first), reset(), refused(error), lost().
   */
  constructor(token, hooks) {
    this.token = token;
    this.hooks = hooks;
    this.positions = new Map();
    this.tips = new Map();      // at the last rtm.connect: what is below was missed, not live
    this.filling = new Map();   // seq_of -> events that wait until a gap before them is filled
    this.waiting = new Map();   // id of a frame -> {resolve, reject}
    this.epoch = undefined;
    this.socket = undefined;
    this.attempt = 0;
    this.next = 1;
    this.open = false;
    this.stopped = false;
    addEventListener('online', this.onOnline = () => this.again(0));
    addEventListener('offline', this.onOffline = () => this.lose());
    document.addEventListener('visibilitychange', this.onSeen = () => { if (!document.hidden && !this.open) this.again(0); });
  }

  /** Everybody's wish to connect goes through here; the last one counts. */
  again(after) {
    if (this.stopped) return;
    clearTimeout(this.timer);
    if (this.connecting || this.open) return;
    const due = Date.now() + after;
    const step = () => {
      const left = due - Date.now();
      if (left <= 0) return void this.connect();
      this.hooks.state('waiting', Math.ceil(left / 1000));
      this.timer = setTimeout(step, Math.min(left, 1000));
    };
    step();
  }

  async connect() {
    if (this.connecting || this.stopped) return;
    this.connecting = true;
    if (!this.open) this.hooks.state(navigator.onLine ? 'connecting' : 'offline');
    try {
      const boot = await call(this.token, 'rtm.connect', { batch_presence_aware: 1, resume: true });
      await this.greet(boot);
      this.attempt = 0;
    } catch (reason) {
      const error = reason instanceof Refused ? reason : new Refused(String(reason?.message ?? reason), 0);
      if (error.retryAfter === undefined) { this.stop(); this.hooks.refused(error.error); return; }
      this.connecting = false;
      // Full jitter above a floor: a thousand pages that lost the same server do not come back together.
      const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** this.attempt++);
      const pause = ceiling / 2 + Math.random() * ceiling / 2;
      if (!this.open) this.again(Math.max(pause, error.retryAfter * 1000));
      else this.timer = setTimeout(() => this.connect(), Math.max(pause, error.retryAfter * 1000));
    } finally { this.connecting = false; }
  }

  /** From a ticket to a greeted socket that has said its positions. An older socket is closed only then. */
  greet(boot) {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(boot.url);
      const deadline = setTimeout(() => { socket.close(); reject(new Error('no hello')); }, CONNECT_MS);
      socket.onclose = (close) => { clearTimeout(deadline); reject(new Error(`closed ${close.code}`)); };
      socket.onmessage = (message) => {
        const hello = JSON.parse(message.data);
        if (hello.type === 'error') { reject(new Error(hello.error?.msg)); socket.close(); }
        if (hello.type !== 'hello') return;
        clearTimeout(deadline);
        this.adopt(socket, hello, boot);
        resolve();
      };
    });
  }

  adopt(socket, hello, boot) {
    const first = this.epoch === undefined;
    if (!first && this.epoch !== hello.epoch) { this.positions.clear(); this.hooks.reset(); }
    this.epoch = hello.epoch;
    this.tips = new Map(Object.entries(boot.positions ?? {}));
    for (const [name, tip] of this.tips) if (!this.positions.has(name)) this.positions.set(name, new Position(tip));
    // What we follow no more is not asked for.
    for (const name of this.positions.keys()) if (this.tips.size && !this.tips.has(name)) this.positions.delete(name);

    const old = this.socket;
    this.socket = socket;
    this.open = true;
    if (old) { old.onclose = old.onmessage = null; old.close(1000); }
    this.failWaiting();
    socket.onmessage = (message) => this.receive(JSON.parse(message.data));
    socket.onclose = (close) => { if (this.socket === socket) this.lose(close.code); };

    const positions = [...this.positions].map(([name, position]) => [name, position.at]);
    for (let from = 0; from === 0 || from < positions.length; from += 300) {
      const part = Object.fromEntries(positions.slice(from, from + 300));
      this.put({ type: 'resume', epoch: this.epoch, positions: part, last: from + 300 >= positions.length });
    }
    this.heard = Date.now();
    clearInterval(this.pulse);
    this.pulse = setInterval(() => this.beat(), PING_MS / 4);
    this.pinged = this.heard;
    this.behindSince = Date.now();
    this.hooks.ready(first);
    this.report();
  }

  beat() {
    const now = Date.now();
    if (now - this.heard > SILENCE_MS) return this.lose();
    if (now - this.pinged >= PING_MS) { this.pinged = now; this.put({ type: 'ping', time: now }); }
    this.report();
  }

  isBehind() {
    if (Date.now() - this.behindSince > 10_000) return false;
    for (const [name, tip] of this.tips) if ((this.positions.get(name)?.at ?? tip) < tip) return true;
    return this.filling.size > 0;
  }

  report() { if (this.open) this.hooks.state(this.isBehind() ? 'catching-up' : 'live'); }

  receive(frame) {
    this.heard = Date.now();
    if (frame.reply_to !== undefined) {
      const waiting = this.waiting.get(frame.reply_to);
      this.waiting.delete(frame.reply_to);
      if (frame.ok && waiting?.channel && frame.seq) this.positions.get(waiting.channel)?.take(frame.seq);
      if (frame.ok === false) waiting?.reject(new Refused(frame.error?.msg ?? 'refused', TRANSIENT.has(frame.error?.code) ? 1 : undefined));
      else waiting?.resolve(frame);
      return;
    }
    if (frame.type === 'gap') return this.gap(frame);
    if (frame.type === 'goodbye') { this.attempt = 0; setTimeout(() => this.connect(), Math.random() * 500); return; }
    if (frame.type === 'reconnect_url') return;
    if (frame.seq === undefined) return this.hooks.event(frame, false);
    const held = this.filling.get(frame.seq_of);
    if (held) held.push(frame);
    else this.durable(frame);
  }

  durable(frame) {
    const name = frame.seq_of;
    if (!this.positions.has(name)) this.positions.set(name, new Position(frame.seq - 1));
    if (!this.positions.get(name).take(frame.seq)) return;
    this.hooks.event(frame, frame.seq <= (this.tips.get(name) ?? 0));
    if (frame.type === 'channel_left') this.positions.delete(frame.channel);
    if (frame.seq === this.tips.get(name)) this.report();
  }

  /** The server has more than it replays: the older part is asked for, and what follows in this channel waits for it. */
  async gap({ seq_of: name, from, to }) {
    if (this.filling.has(name)) return;
    const held = [];
    this.filling.set(name, held);
    this.hooks.gap(name);
    try {
      if (to - from >= GAP_MAX) throw new Refused('too_much');
      for (let at = from; at <= to;) {
        const past = await call(this.token, 'events.list', { seq_of: name, from: at, to });
        if (!past.events.length) throw new Refused('nothing');
        for (const event of past.events) this.durable(event);
        at = past.events.at(-1).seq + 1;
      }
    } catch { this.hooks.reset(name); }
    this.positions.get(name)?.fill(to);
    this.filling.delete(name);
    for (const frame of held) this.durable(frame);
    this.report();
  }

  /** A frame without an answer. */
  put(frame) {
    if (this.open && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ id: this.next++, ...frame }));
  }

  /** A frame that is answered. Rejects with `Refused('lost')` when the connection goes first: the outcome is not known. */
  ask(frame) {
    if (!this.open) return Promise.reject(new Refused('lost', 0));
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, channel: frame.channel });
      this.socket.send(JSON.stringify({ id, ...frame }));
    });
  }

  failWaiting() {
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const { reject } of waiting) reject(new Refused('lost', 0));
  }

  lose(code) {
    if (!this.open) return;
    this.open = false;
    clearInterval(this.pulse);
    this.socket.onclose = this.socket.onmessage = null;
    this.socket.close();
    this.socket = undefined;
    this.hooks.lost();
    this.failWaiting();
    if (!navigator.onLine) this.hooks.state('offline');
    else this.again(code === 4002 ? 0 : Math.random() * BACKOFF_MS);
  }

  stop() {
    this.stopped = true;
    this.open = false;
    clearTimeout(this.timer);
    clearInterval(this.pulse);
    removeEventListener('online', this.onOnline);
    removeEventListener('offline', this.onOffline);
    document.removeEventListener('visibilitychange', this.onSeen);
    if (this.socket) { this.socket.onclose = this.socket.onmessage = null; this.socket.close(1000); }
  }
}
