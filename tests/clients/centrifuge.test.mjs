// npm centrifuge, unmodified, 5.8.0 and 5.7.1, in JSON and Protobuf.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createHmac } from 'node:crypto';
import WebSocket from 'ws';
import * as json58 from 'centrifuge';
import * as protobuf58 from 'centrifuge/build/protobuf';
import * as json57 from 'centrifuge-5.7.1';
import * as protobuf57 from 'centrifuge-5.7.1/build/protobuf';
import { Server, until, within } from './harness.mjs';

const KINDS = [
  ['5.8.0 json', json58, false], ['5.8.0 protobuf', protobuf58, true],
  ['5.7.1 json', json57, false], ['5.7.1 protobuf', protobuf57, true],
];
let server;

before(async () => { server = await Server.start('--ephemeral', '--cores', '2'); }, { timeout: 60_000 });
after(async () => { await server?.down(); });

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
function jwt(claims, secret = server.workspace.centrifuge.token_secret) {
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

async function api(method, body) {
  const { api_url, api_key } = server.workspace.centrifuge;
  const answer = await fetch(`${api_url}/${method}`, { method: 'POST', headers: { 'X-API-Key': api_key }, body: JSON.stringify(body) });
  return answer.json();
}

/** A client, connected, and what it hears of one channel. */
async function listen([, library, isProtobuf], channel, options = {}) {
  const client = new library.Centrifuge(server.workspace.centrifuge.url, { websocket: WebSocket, token: jwt({ sub: '42' }), minReconnectDelay: 50, ...options });
  const pack = (value) => (isProtobuf ? new TextEncoder().encode(JSON.stringify(value)) : value);
  const unpack = (data) => (isProtobuf ? JSON.parse(new TextDecoder().decode(data)) : data);
  const heard = [];
  const subscribed = [];
  const subscription = client.newSubscription(channel);
  subscription.on('publication', (context) => heard.push({ ...context, data: unpack(context.data) }));
  subscription.on('subscribed', (context) => subscribed.push(context));
  subscription.subscribe();
  client.connect();
  await within(5_000, 'subscribed', subscription.ready());
  return { client, subscription, heard, subscribed, pack, unpack };
}

for (const kind of KINDS) {
  const [name] = kind;

  test(`${name}: publish, hear, ask for the past`, async () => {
    const one = await listen(kind, `talk-${name}`);
    for (let count = 0; count < 50; count += 1) await one.subscription.publish(one.pack({ count }));
    await until(5_000, 'all of them', () => one.heard.length === 50);
    assert.deepEqual(one.heard.map(({ data }) => data.count), [...Array(50).keys()]);
    assert.deepEqual(one.heard.map(({ offset }) => Number(offset)), [...Array(50).keys()].map((count) => count + 1));
    assert.equal(one.heard[0].info.user, '42');
    const past = await one.subscription.history({ limit: 2, reverse: true });
    assert.deepEqual(past.publications.map(({ data }) => one.unpack(data).count), [49, 48]);
    await assert.rejects(one.client.rpc('m', one.pack({})), { code: 108 });
    one.client.disconnect();
  });

  test(`${name}: who was away is given what it missed`, async () => {
    const channel = `away-${name}`;
    const one = await listen(kind, channel);
    await api('publish', { channel, data: 'first' });
    await until(5_000, 'the first', () => one.heard.length === 1);
    one.client.disconnect();
    for (let count = 0; count < 20; count += 1) await api('publish', { channel, data: count });
    one.client.connect();
    await until(5_000, 'all of them', () => one.heard.length === 21);
    assert.deepEqual(one.heard.map(({ data }) => data), ['first', ...Array(20).keys()]);
    assert.equal(one.subscribed[1].recovered, true);
    one.client.disconnect();
  });

  test(`${name}: a restart is a new epoch, and said`, async () => {
    const channel = `restart-${name}`;
    const one = await listen(kind, channel, { token: jwt({ sub: '42' }) });
    await api('publish', { channel, data: 1 });
    await until(5_000, 'the first', () => one.heard.length === 1);
    const was = one.subscribed[0].streamPosition.epoch;
    server.process.kill('SIGKILL');
    await server.gone;
    await server.up('--ephemeral', '--cores', '2');
    // Another process in memory has another secret, so its tokens are others.
    one.client.setToken(jwt({ sub: '42' }));
    one.client.disconnect();
    one.client.connect();
    await until(5_000, 'the second subscription', () => one.subscribed.length === 2);
    assert.equal(one.subscribed[1].recovered, false);
    assert.equal(one.subscribed[1].wasRecovering, true);
    assert.notEqual(one.subscribed[1].streamPosition.epoch, was);
    one.client.disconnect();
  });
}

test('four hundred subscriptions in the first frame', async () => {
  const client = new json58.Centrifuge(server.workspace.centrifuge.url, { websocket: WebSocket, token: jwt({ sub: '42' }) });
  const filler = jwt({ sub: '42', channel: 'x', info: 'x'.repeat(80) }, 'wrong');
  let refused = 0;
  for (let count = 0; count < 400; count += 1) {
    const subscription = client.newSubscription(`many-${count}`, { token: filler });
    subscription.on('unsubscribed', ({ code }) => { refused += Number(code === 103); });
    subscription.subscribe();
  }
  client.connect();
  await until(5_000, 'an answer for each', () => refused === 400);
  assert.equal(client.state, 'connected');
  client.disconnect();
});
