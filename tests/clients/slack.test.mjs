// @slack/rtm-api and @slack/web-api, unmodified.
//
// rtm-api 7.0.4 breaks by itself when sendMessage was used before a reconnect: clients that have to come back post by web-api.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { RTMClient } from '@slack/rtm-api';
import { WebClient } from '@slack/web-api';
import { Server, until, within } from './harness.mjs';

const quiet = { debug() {}, info() {}, warn() {}, error() {}, setLevel() {}, setName() {}, getLevel: () => 'error' };
let server;

before(async () => { server = await Server.start('--ephemeral'); }, { timeout: 60_000 });
after(async () => { await server?.down(); });

/** An RTMClient that keeps every event, connected and ready to send. */
async function listen(name, at = server) {
  const rtm = new RTMClient(at.token(name), { slackApiUrl: at.api, logger: quiet });
  const events = [];
  rtm.on('slack_event', (type, event) => events.push(event ?? type));
  rtm.on('error', (error) => events.push({ type: 'library_error', error: String(error) }));
  const ready = new Promise((resolve) => rtm.once('ready', resolve));
  rtm.start().catch(() => {});
  await within(15_000, `${name} is ready`, ready);
  const wait = (what, wanted, ms = 10_000) => until(ms, `${name}: ${what}`, () => events.find(wanted));
  return { rtm, events, wait, text: (text, ms) => wait(text, (event) => event.type === 'message' && event.text === text, ms) };
}

const web = (name, at = server) => new WebClient(at.token(name), { slackApiUrl: at.api, logger: quiet, retryConfig: { retries: 3, minTimeout: 100 } });

async function history(name, channel, at) {
  const found = [];
  for await (const page of web(name, at).paginate('conversations.history', { channel, limit: 30 })) found.push(...page.messages);
  return found.reverse();
}

const database = async (at, channel) => (await at.call('bob', 'events.list', { seq_of: channel, from: 1 })).events
  .filter((event) => event.type === 'message' && event.subtype === undefined).map(({ ts }) => ts);

test('it connects, sends, and is answered', { timeout: 40_000 }, async () => {
  const [alice, bob] = await Promise.all([listen('alice'), listen('bob')]);
  const channel = server.channel('general');
  const ack = await within(10_000, 'the ack', alice.rtm.sendMessage('from rtm-api', channel));
  assert.equal(ack.ok, true);
  assert.match(ack.ts, /^\d{10}\.\d{6}$/);
  const event = await bob.text('from rtm-api');
  assert.deepEqual([event.ts, event.user, event.channel], [ack.ts, server.user('alice'), channel]);
  assert.equal(alice.events.filter(({ type, text }) => type === 'message' && text === 'from rtm-api').length, 0, 'no event for what one said oneself');

  await assert.rejects(within(10_000, 'an error ack', alice.rtm.sendMessage('', channel)), /message text is missing/);
  await assert.rejects(within(10_000, 'an error ack', alice.rtm.sendMessage('x', 'C0NOSUCH')));

  await alice.rtm.sendTyping(channel);
  await bob.wait('typing', ({ type, user }) => type === 'user_typing' && user === server.user('alice'));
  await bob.rtm.subscribePresence([server.user('alice'), server.user('carol')]);
  await bob.wait('presence', ({ type, presence }) => type === 'presence_change' && presence === 'active');

  // It pings by itself, and would leave without a pong.
  const pongs = await until(12_000, 'twelve seconds of pings', () => alice.rtm.connected && Date.now() - started > 12_000);
  assert.ok(pongs && alice.rtm.connected && bob.rtm.connected);
});
const started = Date.now();

test('edits, reactions, threads and deletions by web-api are told', { timeout: 40_000 }, async () => {
  const carol = await listen('carol');
  const alice = web('alice'), channel = server.channel('general');
  const { ts, message } = await alice.chat.postMessage({ channel, text: 'by web-api', blocks: [{ type: 'section', text: { type: 'mrkdwn', text: 'by web-api' } }] });
  assert.equal(message.text, 'by web-api');
  await carol.text('by web-api');
  await alice.chat.update({ channel, ts, text: 'changed' });
  assert.equal((await carol.wait('an edit', ({ subtype }) => subtype === 'message_changed')).message.text, 'changed');
  await alice.reactions.add({ channel, timestamp: ts, name: 'bell' });
  assert.equal((await carol.wait('a reaction', ({ type }) => type === 'reaction_added')).item.ts, ts);
  await alice.chat.postMessage({ channel, thread_ts: ts, text: 'in the thread' });
  assert.equal((await carol.text('in the thread')).thread_ts, ts);
  assert.deepEqual((await alice.conversations.replies({ channel, ts })).messages.map(({ text }) => text), ['changed', 'in the thread']);
  await alice.chat.delete({ channel, ts });
  assert.equal((await carol.wait('a deletion', ({ subtype }) => subtype === 'message_deleted')).deleted_ts, ts);

  const me = await alice.auth.test();
  assert.equal(me.user_id, server.user('alice'));
  const names = [];
  for await (const page of alice.paginate('users.list', { limit: 2 })) names.push(...page.members.map(({ name }) => name));
  assert.deepEqual(names.filter((name) => ['alice', 'bob', 'carol', 'bot'].includes(name)).sort(), ['alice', 'bob', 'bot', 'carol']);
  await assert.rejects(alice.chat.postMessage({ channel: 'C0NOSUCH', text: 'x' }), /channel_not_found/);
  await alice.users.setPresence({ presence: 'away' });
  assert.equal((await alice.users.getPresence({})).manual_away, true);
  await alice.users.setPresence({ presence: 'auto' });
});

test('it comes back after a Close, and history has what passed', { timeout: 60_000 }, async () => {
  const own = await Server.start('--drain', '1');
  try {
    const bob = await listen('bob', own);
    const channel = own.channel('general'), posted = [];
    const post = async (text) => posted.push((await own.call('alice', 'chat.postMessage', { channel, text })).ts);
    for (let count = 0; count < 40; count += 1) await post(`before ${count}`);
    await bob.text('before 39');
    assert.equal((await own.end()).code, 0);
    assert.ok(bob.events.some(({ type }) => type === 'goodbye'));
    const back = new Promise((resolve) => bob.rtm.once('connected', resolve));
    await own.up();
    await post('while away');
    await within(30_000, 'connected again', back);
    await post('after');
    await bob.text('after');
    await complete(own, channel, bob, posted);
  } finally { await own.down(); }
});

test('it comes back after kill -9, and the union of live and history is the database', { timeout: 60_000 }, async () => {
  const own = await Server.start();
  try {
    const bob = await listen('bob', own);
    const channel = own.channel('general'), posted = [];
    const post = async (text) => posted.push((await own.call('alice', 'chat.postMessage', { channel, text })).ts);
    for (let round = 0; round < 3; round += 1) {
      for (let count = 0; count < 30; count += 1) await post(`round ${round} ${count}`);
      await bob.text(`round ${round} 29`);
      await own.end('SIGKILL');
      const back = new Promise((resolve) => bob.rtm.once('connected', resolve));
      await own.up();
      await post(`while away ${round}`);
      await within(30_000, 'connected again', back);
    }
    await post('after');
    await bob.text('after');
    await complete(own, channel, bob, posted);
  } finally { await own.down(); }
});

async function complete(at, channel, listener, posted) {
  const live = listener.events.filter((event) => event.type === 'message' && event.channel === channel).map(({ ts }) => ts);
  const past = (await history('bob', channel, at)).map(({ ts }) => ts);
  assert.equal(new Set(live).size, live.length, 'no event twice');
  assert.deepEqual([...new Set([...live, ...past])].sort(), posted);
  assert.deepEqual(past, posted);
  assert.deepEqual(await database(at, channel), posted);
}
