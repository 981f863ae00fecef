// The page: draws the store, listens to hands and to the connection.

import { Connection, Refused, call } from "./rtm.js";
import { Store } from "./store.js";
import { PICKS, dayName, dayOf, el, emoji, escape, hueOf, momentOf, rich, timeOf, unescape } from "./text.js";

const PAGE = 50, GROUP_S = 300, RTM_CHARS_MAX = 3_000, TYPING_MS = 3_200, TICKLE_MS = 60_000;
const $ = (id) => document.getElementById(id);
const STATES = { live: 'live', 'catching-up': 'catching up…', connecting: 'connecting…', offline: 'offline', idle: '' };

let token, store, connection, current, editing, atBottom = true, typedAt = 0, tickledAt = 0;
const nodes = new Map(); // key -> {node, version}: what is drawn in the open channel

// ---- logging in

async function start() {
  const workspace = await fetch('/dev/workspace.json').then((answer) => (answer.ok ? answer.json() : undefined)).catch(() => undefined);
  const wanted = decodeURIComponent(location.hash.slice(1));
  const named = workspace?.users.find(({ name }) => name === wanted);
  if (named?.token) return enter(named.token);
  const kept = sessionStorage.getItem('token');
  if (kept) return enter(kept);
  $('login-hint').textContent = workspace ? `${workspace.team.name}: who are you today?` : 'Paste your token.';
  $('login-users').replaceChildren(...(workspace?.users ?? []).filter((user) => user.token).map((user) =>
    el('button', { type: 'button', onclick: () => enter(user.token) }, face(user), user.name, el('small', {}, user.is_bot ? 'bot' : ''))));
  $('login').hidden = false;
  $('login-users').querySelector('button')?.focus();
}

$('login-form').onsubmit = (submit) => { submit.preventDefault(); const given = $('login-token').value.trim(); if (given) enter(given); };

async function enter(given) {
  try {
    const me = await call(given, 'auth.test');
    token = given;
    sessionStorage.setItem('token', token);
    store = new Store();
    store.me = { id: me.user_id, name: me.user };
    store.team = { id: me.team_id, name: me.team };
  } catch (refused) {
    sessionStorage.removeItem('token');
    $('login').hidden = false;
    $('login-error').textContent = refused.retryAfter === undefined ? `This token is not accepted (${refused.error}).` : 'The server is not there. Try again.';
    return;
  }
  $('login').hidden = true;
  $('chat').hidden = false;
  $('team').textContent = store.team.name;
  connection = new Connection(token, {
    event: onEvent, gap: () => {}, state: onState, ready: onReady, reset: onReset,
    refused: (error) => { toast(`Logged out: ${error}`); leave(); },
    lost: () => store.active.clear(),
  });
  connection.connect();
}

function leave() {
  connection?.stop();
  sessionStorage.removeItem('token');
  history.replaceState(null, '', location.pathname);
  location.reload();
}
$('leave').onclick = leave;

// ---- the connection

const api = (method, args) => call(token, method, args);

function onState(state, detail) {
  const button = $('connection');
  button.dataset.state = state;
  button.lastElementChild.textContent = state === 'waiting' ? `reconnecting in ${detail} s` : STATES[state];
}
$('connection').onclick = () => connection.again(0);

async function onReady(first) {
  subscribePresence();
  if (first) await load();
  else {
    for (const message of [...store.pending]) if (!message.error) dispatch(message);
    if (store.users.size === 0) await load();
  }
}

async function pages(method, args, key) {
  const all = [];
  let cursor;
  do {
    const answer = await api(method, { ...args, cursor, limit: 200 });
    all.push(...answer[key]);
    cursor = answer.response_metadata?.next_cursor;
  } while (cursor);
  return all;
}

async function load() {
  try {
    const [users, channels] = await Promise.all([
      pages('users.list', {}, 'members'), pages('users.conversations', { types: 'public_channel,private_channel,im' }, 'channels')]);
    for (const user of users) store.users.set(user.id, user);
    for (const channel of channels) store.channel({ ...channel, is_member: true });
    store.me = store.users.get(store.me.id) ?? store.me;
    // The list says who is there; what was not read is told one by one.
    await Promise.all(channels.filter(({ unread_count: unread }) => unread === undefined).slice(0, 50).map(({ id }) =>
      api('conversations.info', { channel: id }).then(({ channel }) => store.channel(channel)).catch(() => {})));
    subscribePresence();
    drawLists();
    if (!current) {
      const kept = store.channels.get(sessionStorage.getItem('channel'));
      show(kept ?? store.sortedChannels().find(({ is_general: general }) => general) ?? store.sortedChannels()[0]);
    } else await page(current);
  } catch (refused) { retry(load, refused); }
}

function retry(work, refused) {
  if (refused instanceof Refused && refused.retryAfter !== undefined) setTimeout(work, 1_000 * (refused.retryAfter + Math.random()));
  else { toast(refused.error ?? String(refused)); if (!(refused instanceof Refused)) throw refused; }
}

/** The server cannot tell us what we missed (in one channel, or at all): read it anew. */
function onReset(name) {
  for (const channel of store.channels.values()) if (!name || channel.id === name) channel.forget();
  if (!name || !store.channels.has(name)) load();
  else if (current?.id === name) page(current);
}

function onEvent(event, missed) {
  const what = store.event(event, missed);
  if (what === 'reload') return void know(event.channel);
  if (what === 'typing') return drawTyping();
  if (what === 'messages' && event.type === 'message' && !event.subtype && missed !== true) notify(event);
  if (event.type === 'channel_joined' || event.type === 'team_join' || event.type === 'im_created') subscribePresence();
  if (event.type === 'channel_left' && current?.id === event.channel) show(store.sortedChannels()[0]);
  if (what) draw();
}

const learning = new Set();
async function know(id) {
  if (learning.has(id)) return;
  learning.add(id);
  try { store.channel((await api('conversations.info', { channel: id })).channel); draw(); } catch { /* not ours */ }
  learning.delete(id);
}

function notify(event) {
  if (document.hidden && event.user !== store.me.id) document.title = `• ${store.title(store.channels.get(event.channel))}`;
}

/** Only those whom one can see: at most 500. */
function subscribePresence() {
  const ids = [...store.users.keys()].slice(0, 500);
  if (ids.length) connection.put({ type: 'presence_sub', ids });
}

// ---- history

async function page(channel, older = false) {
  if (channel.loading || (older && !channel.cursor)) return;
  channel.loading = true;
  const asked = store.clock;
  drawOlder();
  try {
    const answer = await api('conversations.history', { channel: channel.id, limit: PAGE, cursor: older ? channel.cursor : undefined });
    store.history(channel, answer, asked);
  } catch (refused) { channel.loading = false; return retry(() => page(channel, older), refused); }
  channel.loading = false;
  if (channel === current) { draw(); if (!older) mark(channel); }
}

async function show(channel) {
  if (!channel) return;
  if (current) { current.draft = editing ? '' : $('text').value; if (current !== channel) current.awayFrom = undefined; }
  stopEditing();
  current = channel;
  sessionStorage.setItem('channel', channel.id);
  $('chat').classList.remove('open');
  nodes.clear();
  $('messages').replaceChildren();
  $('text').value = channel.draft;
  $('text').disabled = false; // until now there was nowhere to say it
  grow();
  atBottom = true;
  draw();
  if (!channel.loaded) await page(channel); else mark(channel);
  $('text').focus();
}

let marking;
function mark(channel) {
  const newest = channel.sorted.at(-1);
  if (!newest || document.hidden || !atBottom || channel !== current) return;
  if (channel.unread === 0 && newest <= channel.lastRead) return;
  channel.unread = channel.mentions = 0;
  drawLists();
  if (newest <= channel.lastRead) return;
  channel.lastRead = newest;
  clearTimeout(marking);
  marking = setTimeout(() => api('conversations.mark', { channel: channel.id, ts: channel.lastRead }).catch(() => {}), 400);
}
document.addEventListener('visibilitychange', () => { if (!document.hidden && current) { document.title = 'Campanile'; mark(current); } });

// ---- drawing

let drawing;
function draw() {
  if (drawing) return;
  const now = () => {
    cancelAnimationFrame(drawing.frame);
    clearTimeout(drawing.timer);
    drawing = undefined;
    drawLists();
    drawRoom();
  };
  // A page that nobody looks at gets few frames or none, and still has to be right when somebody does.
  drawing = { frame: requestAnimationFrame(now), timer: setTimeout(now, 200) };
  if (document.hidden) now();
}

function face(user) {
  const node = el('span', { class: 'face', 'aria-hidden': 'true' }, (user?.name ?? '?')[0].toUpperCase());
  node.style.setProperty('--hue', hueOf(user?.id ?? ''));
  return node;
}

const dot = (user) => el('i', { class: store.active.has(user) ? 'dot active' : 'dot', title: store.active.has(user) ? 'active' : 'away' });

function row(channel, sign, title, onclick, extra) {
  const unread = channel?.unread ?? 0;
  return el('li', {}, el('button', {
    type: 'button', class: unread ? 'unread' : undefined, 'aria-current': channel && channel === current ? 'true' : undefined, onclick, 'data-id': channel?.id,
  }, sign, el('span', {}, title), extra, unread ? el('span', { class: 'badge', 'aria-label': `${unread} unread` }, unread > 99 ? '99+' : String(unread)) : ''));
}

function drawLists() {
  const wanted = $('filter').value.trim().toLowerCase();
  const fits = (text) => text.toLowerCase().includes(wanted);
  const focused = document.activeElement?.dataset?.id;
  $('channels').replaceChildren(...store.sortedChannels().filter(({ name }) => fits(name ?? '')).map((channel) =>
    row(channel, el('span', { class: 'sign', 'aria-hidden': 'true' }, channel.is_private ? '🔒' : '#'), channel.name, () => show(channel))));
  $('people').replaceChildren(...store.sortedPeople().filter(({ id }) => fits(store.name(id))).map((user) =>
    row(store.dm(user.id), dot(user.id), store.name(user.id), () => talkTo(user),
      user.id === store.me.id ? el('span', { class: 'you' }, 'you') : user.is_bot ? el('span', { class: 'you' }, 'bot') : '')));
  if (focused) document.querySelector(`nav [data-id="${CSS.escape(focused)}"]`)?.focus();
  $('me').children[0].className = store.active.has(store.me.id) ? 'dot active' : 'dot';
  $('me').children[1].textContent = store.name(store.me.id);
  $('me').children[2].textContent = store.manualAway ? 'away' : '';
  const total = [...store.channels.values()].reduce((sum, { unread, is_member: member }) => sum + (member === false ? 0 : unread), 0);
  if (!document.hidden) document.title = total ? `(${total}) Campanile` : 'Campanile';
}

async function talkTo(user) {
  const known = store.dm(user.id);
  if (known) return show(known);
  try {
    const { channel } = await api('conversations.open', { users: user.id, return_im: true });
    show(store.channel({ is_im: true, user: user.id, is_member: true, ...channel }));
  } catch (refused) { toast(refused.error); }
}

/** What stands in the open channel, top to bottom: [key, version, make]. */
function items(channel) {
  const list = [];
  let last, day;
  for (const ts of channel.sorted) {
    const message = channel.messages.get(ts);
    if (dayOf(ts) !== day) { day = dayOf(ts); list.push([`day ${day}`, dayName(ts), () => el('li', { class: 'rule' }, dayName(ts))]); last = undefined; }
    if (ts === channel.awayFrom) { list.push(['away', 1, () => el('li', { class: 'rule away' }, 'while you were away')]); last = undefined; }
    const first = !last || last.user !== message.user || !!message.subtype || !!last.subtype || Number(ts) - Number(last.ts) > GROUP_S;
    const version = `${message.version} ${first} ${editing === ts} ${message.replies?.length ?? ''} ${store.users.size}`;
    list.push([ts, version, () => drawMessage(channel, message, first)]);
    last = message;
  }
  for (const waiting of store.pending) {
    if (waiting.channel !== channel.id) continue;
    const first = !last || last.user !== store.me.id;
    list.push([waiting.cmid, `${waiting.error} ${first}`, () => drawPending(waiting, first)]);
    last = { user: store.me.id };
  }
  return list;
}

function drawRoom() {
  if (!current) return;
  const box = $('history');
  const title = store.title(current);
  $('title').replaceChildren(...(current.is_im ? [dot(current.user), title] : [`# ${title}`]));
  $('topic').textContent = current.topic?.value || (current.is_im ? '' : current.purpose?.value ?? '');
  $('text').placeholder = `Message ${current.is_im ? '' : '#'}${title}`;
  const fromBottom = box.scrollHeight - box.scrollTop;
  const list = items(current), wanted = new Set(list.map(([key]) => key)), parent = $('messages');
  for (const [key, { node }] of nodes) if (!wanted.has(key)) { node.remove(); nodes.delete(key); }
  let at = parent.firstElementChild;
  for (const [key, version, make] of list) {
    let drawn = nodes.get(key);
    if (!drawn || drawn.version !== version) {
      const node = make();
      if (drawn) { if (at === drawn.node) at = node; drawn.node.replaceWith(node); }
      nodes.set(key, drawn = { node, version });
    }
    if (at === drawn.node) at = at.nextElementSibling; else parent.insertBefore(drawn.node, at);
  }
  drawOlder();
  drawTyping();
  box.scrollTop = atBottom ? box.scrollHeight : box.scrollHeight - fromBottom;
  $('newer').hidden = atBottom || current.unread === 0;
  mark(current);
}

function drawOlder() {
  const title = current.is_im ? `your conversation with ${store.title(current)}` : `#${store.title(current)}`;
  $('older').textContent = current.loading ? 'Loading…' : current.cursor ? '' : current.loaded ? `This is the beginning of ${title}.` : '';
}

const button = (text, title, onclick) => el('button', { type: 'button', title, 'aria-label': title, onclick }, text);

function drawMessage(channel, message, first) {
  const user = store.users.get(message.user) ?? { id: message.user ?? message.bot_id ?? '?', name: message.username ?? message.user ?? 'somebody' };
  const quiet = message.subtype && !['bot_message', 'thread_broadcast', 'me_message'].includes(message.subtype);
  const own = message.user === store.me.id;
  const time = el('time', { title: momentOf(message.ts) }, timeOf(message.ts));
  const body = el('div', {},
    first ? el('div', { class: 'who' }, el('b', {}, message.username ?? store.name(user.id) ?? user.name), user.is_bot || message.bot_id && message.subtype ? el('span', { class: 'bot' }, 'BOT') : '', time) : '',
    el('div', { class: 'words' }, ...rich(message.text ?? '', (id) => store.name(id)), message.edited ? el('span', { class: 'edited', title: momentOf(message.edited.ts) }, ' (edited)') : ''),
    message.reactions?.length ? el('div', { class: 'reactions' }, ...message.reactions.map(({ name, users, count }) => el('button', {
      type: 'button', 'aria-pressed': String(users.includes(store.me.id)), title: `${users.map((id) => store.name(id)).join(', ')} :${name}:`,
      onclick: () => react(channel, message, name),
    }, `${emoji(name)} ${count}`))) : '',
    message.reply_count ? el('button', { type: 'button', class: 'thread', onclick: () => thread(channel, message) },
      `${message.reply_count} ${message.reply_count === 1 ? 'reply' : 'replies'}`) : '',
    message.replies ? el('div', { class: 'replies' }, ...message.replies.map((reply) =>
      el('div', {}, el('b', {}, store.name(reply.user)), ' ', el('span', { class: 'words' }, ...rich(reply.text ?? '', (id) => store.name(id)))))) : '');
  const tools = quiet ? '' : el('div', { class: 'tools' },
    ...PICKS.slice(0, own ? 4 : 6).map((name) => button(emoji(name), `React with :${name}:`, () => react(channel, message, name))),
    own ? button('✎', 'Edit', () => edit(message)) : '', own ? button('🗑', 'Delete', () => remove(channel, message)) : '');
  const mentioned = message.text?.includes(`<@${store.me.id}>`);
  return el('li', { class: `message${first ? ' first' : ''}${quiet ? ' quiet' : ''}${mentioned ? ' mentioned' : ''}`, 'data-ts': message.ts },
    first ? face(user) : time, body, tools);
}

function drawPending(waiting, first) {
  const me = store.users.get(store.me.id) ?? store.me;
  return el('li', { class: `message ${waiting.error ? 'failed' : 'sending'}${first ? ' first' : ''}`, 'data-cmid': waiting.cmid },
    first ? face(me) : el('span'),
    el('div', {}, first ? el('div', { class: 'who' }, el('b', {}, store.name(me.id))) : '', el('div', { class: 'words' }, ...rich(waiting.text, (id) => store.name(id))),
      waiting.error ? el('div', { class: 'note' }, `Not sent: ${waiting.error}.`,
        button('Try again', 'Send it again', () => { waiting.error = undefined; draw(); dispatch(waiting); }),
        button('Discard', 'Throw it away', () => { store.pending.splice(store.pending.indexOf(waiting), 1); draw(); })) : ''));
}

let typingTimer;
function drawTyping() {
  const now = Date.now();
  for (const [user, until] of current?.typing ?? []) if (until <= now) current.typing.delete(user);
  const names = [...(current?.typing.keys() ?? [])].map((id) => store.name(id));
  $('typing').textContent = names.length === 0 ? '' : names.length > 3 ? 'Several people are typing…'
    : `${names.join(' and ')} ${names.length === 1 ? 'is' : 'are'} typing…`;
  clearTimeout(typingTimer);
  if (names.length) typingTimer = setTimeout(drawTyping, 1_000);
}

function toast(text) {
  $('toast').textContent = text;
  $('toast').hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { $('toast').hidden = true; }, 4_000);
}

// ---- hands

const complain = (refused) => toast(refused.retryAfter === undefined ? refused.error : 'The server cannot be reached.');

function react(channel, message, name) {
  const mine = message.reactions?.find((reaction) => reaction.name === name)?.users.includes(store.me.id);
  api(mine ? 'reactions.remove' : 'reactions.add', { channel: channel.id, timestamp: message.ts, name }).catch(complain);
}

async function thread(channel, message) {
  if (message.replies) channel.change(message.ts, store.clock, () => ({ replies: undefined }));
  else {
    try {
      const { messages } = await api('conversations.replies', { channel: channel.id, ts: message.ts, limit: 200 });
      channel.change(message.ts, store.clock, () => ({ replies: messages.slice(1), reply_count: messages.length - 1 }));
    } catch (refused) { complain(refused); }
  }
  draw();
}

function remove(channel, message) {
  if (confirm('Delete this message?')) api('chat.delete', { channel: channel.id, ts: message.ts }).catch(complain);
}

function edit(message) {
  editing = message.ts;
  $('editing').hidden = false;
  $('editing').firstElementChild.textContent = `Editing your message of ${timeOf(message.ts)}.`;
  $('text').value = unescape(message.text);
  grow();
  $('text').focus();
}

function stopEditing() {
  if (!editing) return;
  editing = undefined;
  $('editing').hidden = true;
  $('text').value = current?.draft ?? '';
  grow();
}
$('cancel').onclick = stopEditing;

/** Says it, and keeps on until it is known to be said: the id makes a second try harmless. */
async function dispatch(waiting) {
  try {
    const frame = { channel: waiting.channel, text: waiting.text, client_msg_id: waiting.cmid };
    const answer = waiting.text.length <= RTM_CHARS_MAX ? await connection.ask({ type: 'message', ...frame }) : await api('chat.postMessage', frame);
    store.settle(waiting.cmid, { ts: answer.ts, text: answer.text ?? answer.message?.text });
  } catch (refused) {
    if (refused.retryAfter === undefined) waiting.error = refused.error;
    else if (connection.open) setTimeout(() => { if (store.pending.includes(waiting) && !waiting.error) dispatch(waiting); }, 1_000);
  }
  draw();
}

$('composer').onsubmit = (submit) => {
  submit.preventDefault();
  const text = $('text').value.trim();
  if (!text || !current) return;
  if (editing) {
    api('chat.update', { channel: current.id, ts: editing, text: escape(text) }).catch(complain);
    return stopEditing();
  }
  const waiting = { cmid: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, channel: current.id, text: escape(text) };
  store.pending.push(waiting);
  current.awayFrom = undefined;
  $('text').value = current.draft = '';
  grow();
  atBottom = true;
  draw();
  dispatch(waiting);
};

function grow() {
  const box = $('text');
  box.style.height = 'auto';
  box.style.height = `${box.scrollHeight}px`;
  $('send').disabled = box.value.trim() === '';
}

$('text').oninput = () => {
  grow();
  sayTyping();
};

// The server passes one on in 3 s: what is typed sooner is told at the end of that time, if something is still being written then.
let typingDue;
function sayTyping() {
  clearTimeout(typingDue);
  if (editing || !$('text').value || !current) return;
  const wait = typedAt + TYPING_MS - Date.now();
  if (wait > 0) { typingDue = setTimeout(sayTyping, wait); return; }
  typedAt = Date.now();
  connection.put({ type: 'typing', channel: current.id });
}

$('text').onkeydown = (key) => {
  if (key.key === 'Enter' && !key.shiftKey && !key.isComposing) { key.preventDefault(); $('composer').requestSubmit(); }
  if (key.key === 'ArrowUp' && $('text').value === '' && current) {
    const own = current.sorted.findLast((ts) => current.messages.get(ts).user === store.me.id && !current.messages.get(ts).subtype);
    if (own) { key.preventDefault(); edit(current.messages.get(own)); }
  }
  if (key.key === 'Escape') stopEditing();
};

document.addEventListener('keydown', (key) => {
  if (!store || $('chat').hidden) return;
  if ((key.ctrlKey || key.metaKey) && key.key.toLowerCase() === 'k') { key.preventDefault(); $('filter').focus(); $('filter').select(); }
  if (key.altKey && (key.key === 'ArrowDown' || key.key === 'ArrowUp')) {
    key.preventDefault();
    const list = [...store.sortedChannels(), ...store.sortedPeople().map(({ id }) => store.dm(id)).filter(Boolean)];
    const rest = key.shiftKey ? list.filter((channel) => channel === current || channel.unread) : list;
    const step = key.key === 'ArrowDown' ? 1 : -1;
    show(rest[(rest.indexOf(current) + step + rest.length) % rest.length]);
  }
});

/** Somebody is here: so the dot stays green. */
function tickle() {
  const now = Date.now();
  if (connection?.open && now - tickledAt > TICKLE_MS) { tickledAt = now; connection.put({ type: 'tickle' }); }
}
for (const sign of ['keydown', 'pointerdown', 'wheel']) addEventListener(sign, tickle, { passive: true });

$('filter').oninput = drawLists;
$('filter').onkeydown = (key) => {
  if (key.key === 'Enter') { const hit = document.querySelector('nav li button'); $('filter').value = ''; hit?.click(); drawLists(); }
  if (key.key === 'Escape') { $('filter').value = ''; drawLists(); $('text').focus(); }
};
$('menu').onclick = () => $('chat').classList.toggle('open');
$('newer').onclick = () => { atBottom = true; drawRoom(); };
$('history').onscroll = () => {
  const box = $('history');
  atBottom = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  if (atBottom && current) { $('newer').hidden = true; mark(current); }
  if (box.scrollTop < 300 && current?.loaded) page(current, true);
};
addEventListener('resize', () => { if (atBottom) $('history').scrollTop = $('history').scrollHeight; });

$('me').onclick = async () => {
  const away = !store.manualAway;
  try { await api('users.setPresence', { presence: away ? 'away' : 'auto' }); store.manualAway = away; drawLists(); } catch (refused) { complain(refused); }
};

$('browse').onclick = async () => {
  $('browser-error').textContent = '';
  $('browser').showModal();
  try {
    const all = await pages('conversations.list', { types: 'public_channel', exclude_archived: true }, 'channels');
    const joinable = all.filter(({ id }) => !store.channels.has(id) || store.channels.get(id).is_member === false);
    $('joinable').replaceChildren(...joinable.map((channel) => el('li', {}, el('span', {}, `# ${channel.name}`), button('Join', `Join ${channel.name}`, () => join(channel)))));
    if (!joinable.length) $('joinable').append(el('li', { class: 'note' }, 'You are in every channel there is.'));
  } catch (refused) { $('browser-error').textContent = refused.error; }
};

async function join({ id }) {
  try {
    const { channel } = await api('conversations.join', { channel: id });
    $('browser').close();
    show(store.channel({ ...channel, is_member: true }));
  } catch (refused) { $('browser-error').textContent = refused.error; }
}

$('create').onsubmit = async (submit) => {
  submit.preventDefault();
  try {
    const { channel } = await api('conversations.create', { name: $('create-name').value });
    $('create-name').value = '';
    $('browser').close();
    show(store.channel({ ...channel, is_member: true }));
  } catch (refused) { $('browser-error').textContent = refused.error; }
};

start();
