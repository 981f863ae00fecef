// npm centrifuge, unmodified, 5.8.0 and 5.7.1, in JSON and Protobuf.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createServer } from 'node:http';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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

async function api(method, body, of = server) {
  const { api_url, api_key } = of.workspace.centrifuge;
  const answer = await fetch(`${api_url}/${method}`, { method: 'POST', headers: { 'X-API-Key': api_key }, body: JSON.stringify(body) });
  return answer.json();
}

/** A client, connected, and what it hears of one channel. */
async function listen([, library, isProtobuf], channel, options = {}, about = {}, of = server) {
  const client = new library.Centrifuge(of.workspace.centrifuge.url, { websocket: WebSocket, token: jwt({ sub: '42' }), minReconnectDelay: 50, ...options });
  const pack = (value) => (isProtobuf ? new TextEncoder().encode(JSON.stringify(value)) : value);
  const unpack = (data) => (isProtobuf ? JSON.parse(new TextDecoder().decode(data)) : data);
  const heard = [];
  const subscribed = [];
  const subscription = client.newSubscription(channel, about);
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

test('filters, caches and calls, as the SDKs ask for them', async () => {
  const backEnd = createServer((request, response) => {
    let body = '';
    request.on('data', (part) => { body += part; });
    request.on('end', () => {
      const call = JSON.parse(body);
      response.end(JSON.stringify(call.method === 'sum' ? { result: { data: { sum: call.data.a + call.data.b, user: call.user } } } : { error: { code: 1000, message: 'no' } }));
    });
  });
  await new Promise((resolve) => backEnd.listen(0, '127.0.0.1', resolve));
  const home = mkdtempSync(join(tmpdir(), 'campanile-config-'));
  const stream = { history_size: 10, history_ttl: '60s', force_recovery: true, allow_subscribe_for_client: true };
  writeFileSync(join(home, 'config.json'), JSON.stringify({
    client: { token: { hmac_secret_key: 'secret' } },
    http_api: { key: 'key' },
    channel: { namespaces: [{ name: 'tagged', ...stream, allow_tags_filter: true }, { name: 'cache', ...stream, force_recovery_mode: 'cache', auto_cache_recover: true }] },
    rpc: { proxy: { endpoint: `http://127.0.0.1:${backEnd.address().port}/rpc` }, without_namespace: { proxy_enabled: true } },
  }));
  const other = await Server.start('--ephemeral', '--config', join(home, 'config.json'));
  try {
    for (const kind of KINDS) {
      const [name] = kind;
      const token = jwt({ sub: '42' }, 'secret');
      const channel = `tagged:${name.replace(' ', '-')}`;
      const tagsFilter = { op: 'or', nodes: [{ key: 'ticker', cmp: 'in', vals: ['BTC', 'ETH'] }, { key: 'price', cmp: 'gte', val: '100' }] };
      const one = await listen(kind, channel, { token }, { tagsFilter }, other);
      for (const [data, tags] of [[1, { ticker: 'BTC' }], [2, { ticker: 'DOGE' }], [3, { price: '100' }], [4, { price: '99.9' }], [5, { ticker: 'ETH' }]]) {
        await api('publish', { channel, data, tags }, other);
      }
      await until(5_000, 'the three', () => one.heard.length === 3);
      assert.deepEqual(one.heard.map(({ data }) => data), [1, 3, 5], name);
      const answer = await one.client.rpc('sum', one.pack({ a: 2, b: 3 }));
      assert.deepEqual(one.unpack(answer.data), { sum: 5, user: '42' });
      await assert.rejects(one.client.rpc('other', one.pack({})), { code: 1000, message: 'no' });
      one.client.disconnect();

      const cached = `cache:${name.replace(' ', '-')}`;
      for (const data of ['old', 'new']) await api('publish', { channel: cached, data }, other);
      const late = await listen(kind, cached, { token }, {}, other);
      await until(5_000, 'the newest', () => late.heard.length === 1);
      await api('publish', { channel: cached, data: 'live' }, other);
      await until(5_000, 'what is live', () => late.heard.length === 2);
      assert.deepEqual(late.heard.map(({ data }) => data), ['new', 'live']);
      late.client.disconnect();
    }
  } finally {
    await other.down();
    backEnd.close();
    rmSync(home, { recursive: true, force: true });
  }
}, { timeout: 60_000 });

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
