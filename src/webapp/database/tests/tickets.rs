//! Tickets: made, renewed, redeemed once, and forgotten.

use std::time::Duration;

use super::*;
use crate::wire::message::boot;

async fn ticket(stage: &Stage, name: &str, ticket: &str, flags: u8) -> Vec<(String, i64)> {
    let (hash, (_, token)) = (ticket_hash(ticket), stage.token(name));
    let change = Change::Ticket { user: stage.id(name), token, hash, flags };
    match stage.database.change(change).await {
        Ok(Outcome::Ticket { positions }) => positions,
        other => panic!("no ticket: {other:?}"),
    }
}

#[tokio::test]
async fn a_ticket_is_redeemed_once_and_names_where_everything_stands() {
    let stage = Stage::new().await;
    stage.posted("bob", "general", "one").await;
    assert_eq!(ticket(&stage, "alice", "t", boot::RESUME).await.len(), 4);
    let first = stage.ask(&Message::Redeem { ask: Ask(7), ticket: "t" }).await;
    let Ok(Message::Boot { ask: Ask(7), user, flags: boot::RESUME, token, channels, .. }) =
        Message::decode(&first[0])
    else {
        panic!("redeemed")
    };
    assert_eq!((user, token), (stage.id("alice").as_str(), stage.token("alice").1));
    let general = stage.general();
    assert!(channels.iter::<(&str, u64)>().any(|pair| pair == (general.as_str(), 1)));
    let again = stage.ask(&Message::Redeem { ask: Ask(8), ticket: "t" }).await;
    assert_eq!(Message::decode(&again[0]), Ok(Message::Refused { ask: Ask(8), retry: false }));
}

#[tokio::test]
async fn a_renewed_ticket_is_as_good_as_any_other() {
    let stage = Stage::new().await;
    let user = stage.id("bot");
    // A client's flags are taken over, the others are found out anew.
    let flags = boot::BATCH_PRESENCE | boot::MANUAL_AWAY;
    let token = stage.token("bot").1;
    let answer = stage.ask(&Message::Renew { ask: Ask(1), user: &user, token, flags }).await;
    let Ok(Message::Ticketed { ask: Ask(1), path }) = Message::decode(&answer[0]) else {
        panic!("renewed")
    };
    let ticket = path.strip_prefix("/websocket/").expect("a path");
    let boots = stage.ask(&Message::Redeem { ask: Ask(2), ticket }).await;
    let Ok(Message::Boot { user: who, flags, .. }) = Message::decode(&boots[0]) else {
        panic!("redeemed")
    };
    assert_eq!((who, flags), (user.as_str(), boot::BATCH_PRESENCE | boot::BOT));
    let nobody = stage.ask(&Message::Renew { ask: Ask(3), user: "U0NOBODY", token, flags }).await;
    assert_eq!(Message::decode(&nobody[0]), Ok(Message::Refused { ask: Ask(3), retry: false }));
}

#[tokio::test]
async fn old_tickets_are_worth_nothing_and_go_a_few_at_a_time() {
    let limits = Limits { ticket_timeout: Duration::ZERO, ..Limits::DEFAULT };
    let stage = Stage::limited(&limits).await;
    for nth in 0..20 {
        ticket(&stage, "alice", &nth.to_string(), 0).await;
    }
    let answer = stage.ask(&Message::Redeem { ask: Ask(1), ticket: "19" }).await;
    assert_eq!(Message::decode(&answer[0]), Ok(Message::Refused { ask: Ask(1), retry: false }));
    let count = "SELECT COUNT(*) FROM tickets";
    let count = sql::query(count).fetch_one(&stage.database.readers).await.expect("a count");
    let count: i64 = count.get(0);
    assert!(count <= 2, "{count} are left");
}
