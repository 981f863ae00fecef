// Two people talk to each other in two browsers; one loses its connection and comes back complete.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { HERE, Server, until } from './harness.mjs';

const OUT = join(HERE, 'out');
const CHROMIUM = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find(existsSync);
let server, browser;

before(async () => {
  mkdirSync(OUT, { recursive: true });
  server = await Server.start();
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}, { timeout: 60_000 });

after(async () => {
  await browser?.close();
  await server?.down();
});

async function open(name, options = {}, at = server) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 720 }, locale: 'en-GB', ...options });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (line) => { if (line.type() === 'error' && !line.text().includes('net::ERR') && !line.text().includes('WebSocket') && !line.text().includes('503')) errors.push(line.text()); });
  await page.goto(`${at.http}/`);
  await page.locator('#login-users button', { hasText: name }).click();
  await live(page);
  await page.locator('#text:enabled').waitFor(); // a channel is open
  return { name, context, page, errors };
}

const live = (page) => page.locator('#connection[data-state=live]').waitFor();
const words = (page) => page.locator('#messages .message .words').allInnerTexts();
const say = async ({ page }, text) => { await page.locator('#text').fill(text); await page.locator('#text').press('Enter'); };
const sees = ({ page }, text) => page.locator('#messages .message:not(.sending) .words', { hasText: text }).first().waitFor();
const close = async (...people) => {
  for (const { context, errors, name } of people) {
    assert.deepEqual(errors, [], `no error on ${name}'s page`);
    await context.close();
  }
};

test('a page needs nothing from elsewhere, and asks who one is', { timeout: 30_000 }, async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const hosts = new Set();
  page.on('request', (request) => hosts.add(new URL(request.url()).host));
  await page.goto(`${server.http}/`);
  await page.locator('#login-users button').first().waitFor();
  assert.deepEqual((await page.locator('#login-users button').allInnerTexts()).map((text) => text.match(/alice|bob|carol|bot/)?.[0]), ['alice', 'bob', 'carol', 'bot']);
  assert.deepEqual([...hosts], [new URL(server.http).host]);
  await page.screenshot({ path: join(OUT, 'login.png') });
  await context.close();
});

test('two people talk, edit, react, and see each other typing', { timeout: 60_000 }, async () => {
  const [alice, bob] = await Promise.all([open('alice'), open('bob')]);
  await say(alice, 'Good morning! Has anybody seen the *new tower*?');
  await sees(bob, 'Good morning!');
  assert.equal(await bob.page.locator('.words strong').last().innerText(), 'new tower');
  await say(bob, 'Yes, from `https://example.org/campanile` of all places <script>alert(1)</script>');
  await sees(alice, '<script>alert(1)</script>');

  await alice.page.locator('#text').pressSequentially('I am thinking');
  await bob.page.locator('#typing', { hasText: 'alice is typing' }).waitFor();
  await alice.page.locator('#text').fill('');

  // Own messages: shown at once, settled by the ack, once.
  const mine = alice.page.locator('.message', { hasText: 'Good morning!' });
  assert.equal(await mine.count(), 1);
  assert.match(await mine.getAttribute('data-ts'), /^\d{10}\.\d{6}$/);

  // ArrowUp edits one's own last message.
  await alice.page.locator('#text').press('ArrowUp');
  await alice.page.locator('#text').fill('Good morning! Has anybody seen the *old tower*?');
  await alice.page.locator('#text').press('Enter');
  await sees(bob, 'old tower');
  await bob.page.locator('.message', { hasText: 'old tower' }).locator('.edited').waitFor();

  const target = bob.page.locator('.message', { hasText: 'old tower' });
  await target.hover();
  await target.locator('.tools button', { hasText: '🎉' }).click();
  await alice.page.locator('.reactions button', { hasText: '🎉 1' }).waitFor();
  await alice.page.locator('.reactions button', { hasText: '🎉' }).click();
  await bob.page.locator('.reactions button', { hasText: '🎉 2' }).waitFor();
  await alice.page.locator('.reactions button', { hasText: '🎉' }).click();
  await bob.page.locator('.reactions button', { hasText: '🎉 1' }).waitFor();

  await say(bob, 'this one goes away');
  await sees(alice, 'this one goes away');
  bob.page.once('dialog', (dialog) => dialog.accept());
  const gone = bob.page.locator('.message', { hasText: 'this one goes away' });
  await gone.hover();
  await gone.locator('.tools button[title=Delete]').click();
  await alice.page.locator('.message', { hasText: 'this one goes away' }).waitFor({ state: 'detached' });
  await close(alice, bob);
});

test('nothing is typed into a page that has no channel yet', { timeout: 30_000 }, async () => {
  const context = await browser.newContext();
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  let listed;
  await page.route('**/api/users.list', async (route) => { await new Promise((go) => { listed = go; }); await route.continue(); });
  await page.goto(`${server.http}/#alice`);
  await live(page);
  assert.equal(await page.locator('#text').isEnabled(), false);
  await until(10_000, 'the list is asked for', () => listed);
  listed();
  await say({ page }, 'typed as soon as it could be');
  await sees({ page }, 'typed as soon as it could be');
  await context.close();
});

test('dots are green for those who are there, and unread channels count', { timeout: 60_000 }, async () => {
  const alice = await open('alice');
  const person = alice.page.locator('#people li', { hasText: 'carol' });
  await person.waitFor();
  assert.equal(await person.locator('.dot.active').count(), 0);
  const carol = await open('carol');
  await person.locator('.dot.active').waitFor();

  await carol.page.locator('#channels button', { hasText: 'random' }).click();
  await carol.page.locator('#title', { hasText: '# random' }).waitFor();
  await say(carol, 'psst, over here');
  const random = alice.page.locator('#channels li', { hasText: 'random' });
  await random.locator('.badge', { hasText: '1' }).waitFor();
  await alice.page.keyboard.press('Alt+Shift+ArrowDown');
  await sees(alice, 'psst, over here');
  await random.locator('.badge').waitFor({ state: 'detached' });

  // A conversation of two.
  await carol.page.locator('#people button', { hasText: 'alice' }).click();
  await carol.page.locator('#title', { hasText: 'alice' }).waitFor();
  await say(carol, 'only for you');
  await alice.page.locator('#people li', { hasText: 'carol' }).locator('.badge').waitFor();
  await alice.page.locator('#people button', { hasText: 'carol' }).click();
  await sees(alice, 'only for you');

  await carol.context.close();
  await alice.page.locator('#people li', { hasText: 'carol' }).locator('.dot:not(.active)').waitFor({ timeout: 20_000 });
  await close(alice);
});

test('whoever loses the connection comes back complete, and sees what passed', { timeout: 90_000 }, async () => {
  const [alice, bob] = await Promise.all([open('alice'), open('bob')]);
  await say(alice, 'before the tunnel');
  await sees(bob, 'before the tunnel');

  await bob.context.setOffline(true);
  await bob.page.locator('#connection:not([data-state=live])').waitFor({ timeout: 40_000 });
  for (let count = 1; count <= 30; count += 1) await say(alice, `in the tunnel ${count}`);
  await sees(alice, 'in the tunnel 30');
  await server.call('carol', 'chat.postMessage', { channel: server.channel('random'), text: 'elsewhere in the tunnel' });
  // What is written without a connection is kept, and said once it is back.
  await say(bob, 'written in the tunnel');
  await bob.page.locator('.message.sending', { hasText: 'written in the tunnel' }).waitFor();
  assert.equal((await words(bob.page)).filter((text) => text.startsWith('in the tunnel')).length, 0);

  await bob.context.setOffline(false);
  await live(bob.page);
  await sees(bob, 'in the tunnel 30');
  await sees(alice, 'written in the tunnel');
  await sees(bob, 'written in the tunnel');
  const told = (await words(bob.page)).filter((text) => text.startsWith('in the tunnel'));
  assert.deepEqual(told, Array.from({ length: 30 }, (_, at) => `in the tunnel ${at + 1}`), 'every message once, in order');
  assert.equal((await words(bob.page)).filter((text) => text === 'written in the tunnel').length, 1);
  assert.equal((await words(alice.page)).filter((text) => text === 'written in the tunnel').length, 1);
  assert.equal(await bob.page.locator('.rule.away').count(), 1);
  await bob.page.locator('#channels li', { hasText: 'random' }).locator('.badge').waitFor();
  await close(alice, bob);
});

test('a server that is killed and comes back finds its pages complete', { timeout: 120_000 }, async () => {
  const [alice, bob] = await Promise.all([open('alice'), open('bob')]);
  await say(alice, 'before the crash');
  await sees(bob, 'before the crash');
  await server.end('SIGKILL');
  await bob.page.locator('#connection:not([data-state=live])').waitFor();
  await say(alice, 'into the void');
  await server.up();
  await server.call('carol', 'chat.postMessage', { channel: server.channel('general'), text: 'after the crash' });
  await Promise.all([live(alice.page), live(bob.page)]);
  for (const person of [alice, bob]) {
    await sees(person, 'after the crash');
    await sees(person, 'into the void');
    const all = await words(person.page);
    for (const text of ['before the crash', 'after the crash', 'into the void']) assert.equal(all.filter((other) => other === text).length, 1, text);
  }
  await close(alice, bob);
});

test('history is paged upward and stays where one reads', { timeout: 60_000 }, async () => {
  const channel = (await server.call('carol', 'conversations.create', { name: 'long-story' })).channel.id;
  for (let count = 1; count <= 130; count += 1) await server.call('carol', 'chat.postMessage', { channel, text: `line ${count}` });
  const carol = await open('carol');
  await carol.page.locator('#channels button', { hasText: 'long-story' }).click();
  await sees(carol, 'line 130');
  assert.ok((await words(carol.page)).length < 130, 'not all at once');
  await until(20_000, 'the beginning', async () => {
    await carol.page.locator('#history').evaluate((box) => { box.scrollTop = 0; });
    return (await words(carol.page)).includes('line 1');
  });
  const lines = (await words(carol.page)).filter((text) => text.startsWith('line '));
  assert.deepEqual(lines, Array.from({ length: 130 }, (_, at) => `line ${at + 1}`));
  await close(carol);
});

test('the picture of the README', { timeout: 60_000 }, async () => {
  const tower = await Server.start('--ephemeral');
  const general = tower.channel('general');
  const say = (name, text, channel = general) => tower.call(name, 'chat.postMessage', { channel, text });
  try {
    await say('carol', 'Release candidate 2 is up in the tower. Could somebody ring it?');
    const post = await say('alice', 'Ringing! `cargo run --release -- dev`, and two browsers talk to each other :bell:');
    for (const [name, reaction] of [['carol', 'tada'], ['bob', 'tada'], ['bot', 'eyes']]) await tower.call(name, 'reactions.add', { channel: general, timestamp: post.ts, name: reaction });
    const bob = await open('bob', { colorScheme: 'light' }, tower);
    await sees(bob, 'Ringing!');
    await bob.page.locator('#text').fill('Heard it down in the valley. I am on the train for a while, keep going.');
    await bob.page.locator('#text').press('Enter');
    await bob.page.locator('.message:not(.sending)', { hasText: 'Heard it' }).waitFor();
    await bob.context.setOffline(true);
    await bob.page.locator('#connection:not([data-state=live])').waitFor({ timeout: 40_000 });
    await say('alice', 'Then I pull the rope now. *Ten thousand* clients are listening.');
    await say('bot', `Build *green*: every story passed, <@${tower.user('carol')}>.`);
    await say('carol', 'Nobody missed a stroke: https://example.org/bells');
    await say('carol', 'Lunch?', tower.channel('random'));
    await bob.context.setOffline(false);
    await live(bob.page);
    const alice = await open('alice', {}, tower);
    await sees(bob, 'Nobody missed');
    await bob.page.locator('.rule.away').waitFor();
    await alice.page.locator('#text').pressSequentially('One more');
    await bob.page.locator('#typing', { hasText: 'alice is typing' }).waitFor();
    await bob.page.locator('#people li', { hasText: 'alice' }).locator('.dot.active').waitFor();
    await bob.page.screenshot({ path: join(OUT, 'page.png') });
    await bob.page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
    await bob.page.screenshot({ path: join(OUT, 'page-dark.png') });
    await bob.page.setViewportSize({ width: 400, height: 720 });
    await bob.page.screenshot({ path: join(OUT, 'page-narrow.png') });
    await close(bob, alice);
  } finally { await tower.down(); }
});
