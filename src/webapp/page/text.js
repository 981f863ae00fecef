// Text and time: what people wrote becomes nodes, never markup.

const NAMES = {
  '+1': '👍', thumbsup: '👍', '-1': '👎', heart: '❤️', tada: '🎉', joy: '😂', smile: '😄', eyes: '👀', wave: '👋', rocket: '🚀',
  white_check_mark: '✅', fire: '🔥', thinking_face: '🤔', pray: '🙏', bell: '🔔', cry: '😢', raised_hands: '🙌', x: '❌', bug: '🐛', coffee: '☕',
};
export const PICKS = ['+1', 'heart', 'tada', 'joy', 'eyes', 'white_check_mark'];
export const emoji = (name) => NAMES[name] ?? `:${name}:`;

export const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
export const unescape = (text) => text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');

/** `el('p', {class: 'x'}, 'text', node)`; handlers by `onclick` and friends, attributes otherwise; undefined is left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node[name] = value;
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null && child !== ''));
  return node;
}

const TOKENS = /```([\s\S]+?)```|`([^`\n]+)`|<([@#!]?)([^<>|\s]+)(?:\|([^<>]*))?>|(https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]'])|(?<![\w*])\*([^*\n]+)\*(?![\w*])|(?<![\w_])_([^_\n]+)_(?![\w_])|(?<![\w~])~([^~\n]+)~(?![\w~])|:([a-z0-9_+-]+):/g;

/** Slack's markup of one message as nodes. `name(id)` gives the name of a user or channel. */
export function rich(text, name) {
  const out = [];
  let at = 0;
  for (const match of text.matchAll(TOKENS)) {
    const [whole, block, code, sigil, target, label, url, bold, italic, struck, emojiName] = match;
    if (emojiName !== undefined && !NAMES[emojiName]) continue;
    out.push(unescape(text.slice(at, match.index)));
    at = match.index + whole.length;
    if (block !== undefined) out.push(el('pre', {}, unescape(block.replace(/^\n/, ''))));
    else if (code !== undefined) out.push(el('code', {}, unescape(code)));
    else if (target !== undefined && sigil) out.push(el('span', { class: 'mention' }, `${sigil === '#' ? '#' : '@'}${label || name(target)}`));
    else if (target !== undefined) out.push(/^(https?|mailto):/.test(target) ? link(unescape(target), label && unescape(label)) : unescape(label || target));
    else if (url !== undefined) out.push(link(unescape(url)));
    else if (bold !== undefined) out.push(el('strong', {}, ...rich(bold, name)));
    else if (italic !== undefined) out.push(el('em', {}, ...rich(italic, name)));
    else if (struck !== undefined) out.push(el('s', {}, ...rich(struck, name)));
    else out.push(NAMES[emojiName]);
  }
  out.push(unescape(text.slice(at)));
  return out;
}

const link = (url, label) => el('a', { href: url, target: '_blank', rel: 'noopener noreferrer' }, label || url);

const dateOf = (ts) => new Date(Number(ts.split('.')[0]) * 1000);
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const long = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });

export const timeOf = (ts) => clock.format(dateOf(ts));
export const momentOf = (ts) => full.format(dateOf(ts));
export const dayOf = (ts) => dateOf(ts).toDateString();
export function dayName(ts) {
  const day = dayOf(ts), today = new Date();
  if (day === today.toDateString()) return 'Today';
  today.setDate(today.getDate() - 1);
  return day === today.toDateString() ? 'Yesterday' : long.format(dateOf(ts));
}

const HUES = [12, 205, 140, 275, 38, 185, 325, 235, 95];
/** A colour of their own for everybody, from the id. */
export function hueOf(id) {
  let sum = 7;
  for (const letter of id) sum = (sum * 31 + letter.charCodeAt(0)) % 9973;
  return HUES[sum % HUES.length];
}
