//! Campanile: THE MAP.
//!
//! # The path of a message
//!
//! ```text
//!  HTTP (Web API)                              websocket (RTM `message`)
//!        │                                            │
//!        ▼                                            ▼
//!  webapp::http ──▶ webapp::database (writer) ◀── webapp::desk ◀─ Post ── gateway::shard
//!                        │ one transaction: message, event with a dense offset, outbox row
//!                        ▼ Committed
//!                   admin::dispatch ── Publish ──▶ channel::shard      (the owner: core = slot % cores)
//!                        ▲  Published ◀──────────────┘ │ Publication, one copy per interested gateway node,
//!                        │                             ▼              or one per region
//!                   admin::finalise              gateway::interest     (core = slot % cores of the gateway)
//!                   (row leaves the outbox)            │ Publication, one copy per interested core
//!                                                      ▼
//!                                                gateway::hub ──▶ outboxes ──▶ one write per socket and turn
//! ```
//!
//! Typing and presence never touch the database: `gateway` → owner → gateways, and `gateway` ↔ `presence`.
//!
//! # Reading order and layers
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`ids`] [`limits`] [`time`] | identities, bounds, instants: values | nothing |
//! | [`wire`] | what shards say to each other; links, mail and their lives; what a certificate warrants | the above |
//! | [`ring`] | placement: name → slot → seat → node and core; plans and changes of it; regions; the stores that keep it | the above; `ring::store` tokio, HTTP |
//! | [`tables`] | slabs, lists and indexes that shards keep their entries in | `ids` |
//! | [`shard`] | THE WAIST: all that enters or leaves a shard | the above |
//! | [`place`] | the shards of one core or of the control plane, and all mail between places | the above |
//! | [`websocket`] [`rtm`] [`centrifuge`] | RFC 6455; Slack's dialect; the Centrifuge dialect. Bytes ↔ values | `ids limits` |
//! | [`channel`] | owners: order, backlog, interest of gateways | all pure modules above |
//! | [`gateway`] | sessions, hubs, interests, outboxes | and the dialects |
//! | [`presence`] | who is online | |
//! | [`charm`] | ring managers: who is dead, who takes the seats, who lacks the newest ring; health, the other end of their beats | |
//! | [`control`] | how HTTP handlers and the writer speak to shards | `ids wire`, tokio |
//! | [`admin`] | the publish API; outbox → owners, and out of the outbox again | |
//! | [`webapp`] | Web API, database, tickets, source; the page | tokio, axum, sqlx |
//! | [`ops`] | metrics, health, what the host allows | tokio, axum |
//! | [`runtime`] | the drivers: glommio and io_uring for data, tokio for control; TLS of links | everything, as values |
//! | [`load`] | the load generator: a program beside the others | threads, sockets |
//! | [`ctl`] | the operator's door: looks at the ring and changes it, in its store; makes certificates; team, users and tokens, by the webapp | `ring wire`, tokio, HTTP |
//! | [`cli`] | one `Config` per subcommand | |
//!
//! `tests/tidy.rs` holds this table. The `channel`, `gateway`, `presence` folders, `admin`, and `webapp::desk` are pure: no clock,
//! no I/O, no `async`. The same shards run under `tests/sim` with a seeded clock, network and database.
//!
//! # Invariants (the short list)
//!
//! 1. Offsets of a durable channel are 1, 2, 3 … and are given in the transaction that stores the event.
//! 2. Every committed event is in the outbox until its owner acknowledged it and a later read of the ring shows the same owner.
//! 3. An owner sends `tip + 1`, `tip + 2` … on a link: no hole, nothing twice; it opens a channel by asking the source for its tip.
//! 4. What travels one way on one link stays in order; a full link breaks, it never skips.
//! 5. A connection is given every event of its channels once and in order, or is told the gap, or is closed with a code.
//! 6. Everything waiting has a bound in [`limits`], and full is an answer with a counter.
//!
//! # Decisions
//!
//! **`since` travels in `Fetch`, not in `Subscribe`.** A subscription is answered with the owner's tip; whoever holds less fetches the
//! difference over the same link, and the answer that says "complete" stands in the link's order before the next live
//! publication. So no live frame is ever held for a client that catches up, and one mechanism serves a client's return, a broken
//! link and an overflowed mailbox. We would change it if paging a very busy channel were seen not to converge.
//!
//! **One link per pair of cores.** Mail is a link without TCP: same messages, bounded, with a life number. When it overflows, both ends
//! are told that the peer is lost and begin a new life, exactly as after a broken connection between nodes. So the hardest recovery runs
//! in every process, every day.
//!
//! **A guest's subscription is a catch-up like any other.** A Centrifuge client subscribes with a record from the first moment: what it lacks is
//! decided when the hub knows the channel's tip, fetched by the pages that everybody uses, gathered, and told in the reply; the page that
//! says "complete" stands before the next live publication. So recovery is exact without a hold, and one mechanism serves both dialects. We
//! would change it if gathering replies were seen to take much memory.
//!
//! **A revocation stands in the order of the links.** The webapp's desk tells gateway cores of revoked tokens on the links by which it answers
//! about tickets, and from then on refuses what was granted for such a token before. So a connection comes before the word or not at all,
//! without a question per connection. What was said lately is said again to links that come up, for as long as a connection may live. A
//! connection knows its token by a number in place of what only Centrifuge clients have: no byte more.
//!
//! **One port serves all.** The first request of a connection decides whose it is: an upgrade stays with its core, plain HTTP is handed over to
//! the control plane with the bytes that were read of it. So an operator needs one address, and the data plane no second HTTP server.
//!
//! **What a back end says twice is the owner's to know.** Keys of publications, versions and the end of a history are kept beside the channel
//! that they are about, and die with its epoch: no table is shared, and nothing is asked of a third party before a publication.
//!
//! **Another ring touches only what moved.** Links stay up when the ring changes. A gateway asks again for the channels and users of slots
//! that have another owner, under handles of a new era, so that nothing a former owner says is taken for the new one's; a former owner
//! tells whoever was subscribed, so that a gateway that has not heard of the ring is not left believing; tables count a slot's moves, so
//! that who missed a ring knows of it. A slot that moves by plan takes its memory channels with it, under the epoch that they have; after
//! a death they begin a new one, and their subscribers are told.
//!
//! **A node of the ring says what it carries.** Channels, users or both: each table is dealt over the seats of those who carry it, and a dead node's
//! seats go to who carries all that they have slots of. So small cells have one kind of node, and large ones may give presence hosts of its own,
//! by one document, one epoch and one planner. A ring with such nodes is of another format, as an older version would give them what
//! they do not serve. We would change it if seats had to be of one table each.
//!
//! **A region drains by the ring.** Which regions drain stands in the seats document, so that it reaches every gateway by the way that rings
//! come, survives restarts, and needs no second protocol; no slot moves by it. Gateways send their clients away by themselves, each core its
//! own, at the pace that the document gives; the webapp leads those that come back elsewhere.
//!
//! **A region relay is one more interest.** A gateway that stands for owners in its region treats cores of the others there as its own: the same
//! words, the same table, a number each. To whoever asks it is an owner that never moves: it sees to other rings, and says again how a channel
//! stands. So the ocean carries one copy, and there is no second protocol. Only subscriptions and their past go by it; a change of whom a core asks
//! is a change of owner like any other. We would change it if regions grew beyond 64 cores of gateways.
//!
//! **A ring is pushed, and the store is watched.** Whoever wrote a ring, or was told one, says what is new in it to all nodes over the links of its
//! beats; a node that missed one asks for the whole. What is pushed was committed, and a node takes greater epochs only, so that both ways
//! may bring anything in any order. We would change it if nodes were seen to hear of rings by one way only.
//!
//! **Both ends count subscriptions.** What travels on one link stays in order, so that a gateway core and an owner agree on what is subscribed
//! whenever nothing is under way. They compare every few seconds, and begin anew where they do not: a subscription that a fault of ours lost would
//! be silent otherwise. The simulator takes any difference for a fault. We would change it if the sums cost what a subscription costs.
//!
//! **Who begins to keep users does not know who is away.** After a slot came, gateways say again who is online, each when its link is up; until a lease
//! has passed, silence says nothing. So a keeper tells a dot when it knows one, and answers "unknown", rather than calling those away whom it has not
//! heard of. We would change it if gateways said when they have said everything.
//!
//! **A stuck core ends its node.** Beats and connections between nodes are the control plane's, so that a core which does nothing any more would be
//! missed by nobody. The control plane asks each core every second, and ends the process of one that is silent for some: what other nodes do
//! about a death is known and tested. We would change it if cores were seen to recover, or nodes grew so large that a core is worth saving.
//!
//! **One writer, whichever the database.** SQLite and PostgreSQL are used alike: one connection writes, in groups, and holds the lock of
//! the database, so that offsets and outbox ids are in the order of commits and nothing is ever written against another webapp. One SQL
//! serves both; the layer is a page of code (`webapp::database::sql`). We would change it if one writer were seen to be the limit of a cell.
//!
//! **A certificate names rights, not addresses.** Each role that a node may have is a URI in its certificate, and its number where no ring
//! gives it one; the hello has to agree, and mail in the name of any other role breaks the link. So hosts may move, and an authority grants
//! roles by patterns of names. The cell's key is proven inside TLS as well: names are hidden by it anyway, and an authority that signs for
//! many cells opens none. We would change it if operators had to have short certificates of a workload's identity (SPIFFE), one URI each.
//!
//! **A payload is a finished event.** The webapp writes the JSON object once, at the commit; a dialect adds the position when it
//! frames the event, once per core. Nothing in a frame is per connection.

pub mod cli;
pub mod ids;
pub mod limits;
pub mod place;
pub mod ring;
pub mod shard;
pub mod tables;
pub mod time;
pub mod wire;

pub mod centrifuge;
pub mod rtm;
pub mod websocket;

pub mod channel;
pub mod gateway;
pub mod presence;

pub mod charm;
pub mod control;

pub mod admin;
pub mod webapp;

pub mod ops;
pub mod runtime;

pub mod ctl;

pub mod load;
