// What the page knows: users, channels and their messages. Events and history go in, in any order; the same state comes out.

const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

export class Channel {
  constructor(fields) {
    this.messages = new Map();   // ts -> message
    this.removed = new Set();    // ts of deleted messages: an older answer must not bring them back
    this.sorted = [];            // ts in order
    this.cursor = undefined;     // of the next older page; '' when there is none
    this.loaded = false;
    this.unread = 0;
    this.mentions = 0;
    this.lastRead = '0';
    this.awayFrom = undefined;   // ts of the first message that passed while we were away
    this.typing = new Map();     // user -> until
    this.draft = '';
    Object.assign(this, fields);
  }

  put(message, touched) {
    const { ts } = message;
    const known = this.messages.get(ts);
    if (this.removed.has(ts) || (known && known.touched > touched)) return;
    if (!known) {
      let at = this.sorted.length;
      while (at > 0 && this.sorted[at - 1] > ts) at -= 1;
      this.sorted.splice(at, 0, ts);
    }
    this.messages.set(ts, { ...known, ...message, touched, version: (known?.version ?? 0) + 1 });
  }

  change(ts, touched, change) {
    const known = this.messages.get(ts);
    if (!known) return false;
    this.messages.set(ts, { ...known, ...change(known), touched, version: known.version + 1 });
    return true;
  }

  remove(ts) {
    this.removed.add(ts);
    if (this.messages.delete(ts)) this.sorted = this.sorted.filter((other) => other !== ts);
  }

  forget() {
    this.messages.clear();
    this.removed.clear();
    this.sorted = [];
    this.cursor = undefined;
    this.loaded = false;
    this.awayFrom = undefined;
  }
}

export class Store {
  constructor() {
    this.me = undefined;
    this.team = undefined;
    this.users = new Map();
    this.channels = new Map();
    this.active = new Set();     // users with a green dot
    this.pending = [];           // own messages without an ack: {cmid, channel, text, at, error}
    this.manualAway = false;
    this.clock = 0;              // counts changes, so that an older answer never overwrites a newer event
  }

  name(id) {
    const user = this.users.get(id);
    return user ? user.profile?.display_name || user.name : this.channels.get(id)?.name ?? id;
  }

  /** What to call a channel: a conversation of two is called after the other one. */
  title(channel) { return channel.is_im ? this.name(channel.user) : channel.name ?? channel.id; }

  dm(user) { for (const channel of this.channels.values()) if (channel.is_im && channel.user === user) return channel; }

  channel(fields) {
    const known = this.channels.get(fields.id);
    if (known) {
      const { unread_count: unread, last_read: read, ...rest } = fields;
      Object.assign(known, rest);
      if (unread !== undefined) known.unread = unread;
      if (read && read > known.lastRead) known.lastRead = read;
      return known;
    }
    const channel = new Channel({ ...fields, unread: fields.unread_count_display ?? fields.unread_count ?? 0, lastRead: fields.last_read ?? '0' });
    this.channels.set(fields.id, channel);
    return channel;
  }

  sortedChannels() {
    return [...this.channels.values()].filter((channel) => !channel.is_im && channel.is_member !== false && !channel.is_archived)
      .sort((a, b) => order(a.name ?? '', b.name ?? ''));
  }

  sortedPeople() {
    return [...this.users.values()].filter((user) => !user.deleted)
      .sort((a, b) => Number(b.id === this.me.id) - Number(a.id === this.me.id) || order(this.name(a.id), this.name(b.id)));
  }

  /** One page of history. `asked` is the clock at the question: what changed since then is newer than the answer. */
  history(channel, answer, asked) {
    for (const message of answer.messages) channel.put(message, asked);
    channel.cursor = answer.response_metadata?.next_cursor ?? '';
    channel.loaded = true;
  }

  /** One event. Answers what has to be drawn again: 'messages', 'lists', 'typing', 'reload', or nothing. */
  event(event, missed) {
    this.clock += 1;
    const channel = typeof event.channel === 'string' ? this.channels.get(event.channel) : undefined;
    switch (event.type) {
      case 'message': return channel ? this.message(channel, event, missed) : 'reload';
      case 'reaction_added': case 'reaction_removed': return this.reaction(event);
      case 'user_typing':
        if (!channel || event.user === this.me.id) return undefined;
        channel.typing.set(event.user, Date.now() + 5_000);
        return 'typing';
      case 'presence_change':
        for (const user of event.users ?? [event.user]) this.active[event.presence === 'active' ? 'add' : 'delete'](user);
        return 'lists';
      case 'manual_presence_change': this.manualAway = event.presence === 'away'; return 'lists';
      case 'channel_marked': case 'im_marked': case 'group_marked':
        if (!channel || event.ts < channel.lastRead) return undefined;
        channel.lastRead = event.ts;
        channel.unread = event.unread_count_display ?? event.unread_count ?? 0;
        return 'lists';
      case 'channel_joined': case 'im_created': this.channel({ is_member: true, ...event.channel }); return 'lists';
      case 'channel_left': if (channel) channel.is_member = false; return 'lists';
      case 'channel_created': return 'lists';
      case 'channel_rename': this.channel(event.channel); return 'lists';
      case 'channel_archive': if (channel) channel.is_archived = true; return 'lists';
      case 'channel_unarchive': if (channel) channel.is_archived = false; return 'lists';
      case 'member_joined_channel': case 'member_left_channel':
        if (event.user === this.me.id && channel) channel.is_member = event.type === 'member_joined_channel';
        return event.user === this.me.id ? 'lists' : undefined;
      case 'team_join': case 'user_change': this.users.set(event.user.id, event.user); return 'lists';
      default: return undefined;
    }
  }

  message(channel, event, missed) {
    if (event.subtype === 'message_changed') {
      const { message } = event;
      channel.change(message.ts, this.clock, (known) =>
        (message.edited?.ts ?? '') >= (known.edited?.ts ?? '') ? message : {});
      return 'messages';
    }
    if (event.subtype === 'message_deleted') { channel.remove(event.deleted_ts); return 'messages'; }
    channel.typing.delete(event.user);
    const own = event.client_msg_id && this.settle(event.client_msg_id, event);
    if (event.thread_ts && event.thread_ts !== event.ts && event.subtype !== 'thread_broadcast') {
      channel.change(event.thread_ts, this.clock, (known) => ({ reply_count: (known.reply_count ?? 0) + 1 }));
      return 'messages';
    }
    // Without its history a channel only counts: the history will bring the message.
    if (channel.loaded || channel.loading) channel.put(event, this.clock);
    if (own || event.user === this.me.id) return 'messages';
    if (missed && (channel.awayFrom === undefined || event.ts < channel.awayFrom)) channel.awayFrom = event.ts;
    if (event.ts > channel.lastRead) {
      channel.unread += 1;
      if (event.text?.includes(`<@${this.me.id}>`)) channel.mentions += 1;
    }
    return 'messages';
  }

  reaction({ type, item, user, reaction }) {
    const channel = this.channels.get(item?.channel);
    channel?.change(item.ts, this.clock, (known) => {
      const others = (known.reactions ?? []).filter(({ name }) => name !== reaction);
      const users = new Set(known.reactions?.find(({ name }) => name === reaction)?.users);
      users[type === 'reaction_added' ? 'add' : 'delete'](user);
      const at = (known.reactions ?? []).findIndex(({ name }) => name === reaction);
      if (users.size) others.splice(at < 0 ? others.length : at, 0, { name: reaction, users: [...users], count: users.size });
      return { reactions: others };
    });
    return 'messages';
  }

  /** An own message became real: by its ack, or by its event. */
  settle(cmid, { ts, text }) {
    const at = this.pending.findIndex((waiting) => waiting.cmid === cmid);
    if (at < 0) return false;
    const [{ channel: id, text: sent }] = this.pending.splice(at, 1);
    const channel = this.channels.get(id);
    this.clock += 1;
    if (channel && ts) {
      channel.put({ type: 'message', user: this.me.id, text: text ?? sent, ts, client_msg_id: cmid }, this.clock);
      if (ts > channel.lastRead) channel.lastRead = ts;
    }
    return true;
  }
}
