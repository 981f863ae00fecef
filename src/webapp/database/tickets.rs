//! Changes for the machinery: tickets for websockets, and rows that leave the outbox.

use super::batch::{Batch, Stopped, refuse};
use super::sql::{Sql, query, together};
use super::{Outcome, random_hex};
use crate::ids::Ask;
use crate::wire::message::boot;
use crate::wire::{Message, Packed};

/// What a client may ask for; the other flags are for us to set.
const FLAGS_OF_CLIENTS: u8 = boot::RESUME | boot::BATCH_PRESENCE;

/// What a client connects with: nobody guesses 160 bits.
pub(in crate::webapp) fn new_ticket() -> String {
    random_hex(20)
}

impl Batch<'_> {
    pub(super) async fn ticket(
        &mut self,
        user: &str,
        token: u32,
        hash: [u8; 32],
        flags: u8,
    ) -> Result<Outcome, Stopped> {
        let Some(who) = self.facts.people.of_id(user) else { return refuse("user_not_found") };
        // In this transaction: whoever asked may have shown the token before it was revoked.
        let found = "SELECT u.manual_away FROM users u JOIN tokens t ON t.who = u.id WHERE u.id = $1 AND t.n = $2 AND t.revoked IS NULL";
        let found = query(found).bind(user).bind(i64::from(token));
        let Some(row) = found.fetch_optional(&mut self.db).await? else {
            return refuse("token_revoked");
        };
        let away: bool = row.get(0);
        let flags = flags & FLAGS_OF_CLIENTS
            | if away { boot::MANUAL_AWAY } else { 0 }
            | if who.is_bot { boot::BOT } else { 0 };
        let positions: Vec<(String, i64)> = query(
            "SELECT name, tip FROM streams WHERE name IN ($1, $2) \
             UNION ALL SELECT s.name, s.tip FROM members m JOIN streams s ON s.name = m.channel WHERE m.who = $1",
        )
        .bind(user)
        .bind(&self.facts.team().id)
        .fetch_all(&mut self.db)
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
        let mut list = Vec::new();
        let pairs = positions.iter().map(|(name, tip)| (name.as_str(), *tip as u64));
        let channels = Packed::pack(pairs, &mut list);
        let mut bytes = Vec::new();
        Message::Boot {
            ask: Ask(0),
            user,
            team: &self.facts.team().id,
            epoch: &self.facts.epoch,
            flags,
            token,
            channels,
        }
        .encode(&mut bytes);
        let life = i64::try_from(self.facts.limits.ticket_timeout.as_micros()).unwrap_or(i64::MAX);
        // Old tickets go a few at a time: faster than new ones come, and nobody waits for many.
        let insert = together!(
            "DELETE FROM tickets WHERE hash IN (SELECT hash FROM tickets WHERE until < $1 LIMIT 4)",
            "INSERT INTO tickets VALUES ($2, $3, $4, $5)",
        );
        query(insert)
            .bind(self.now)
            .bind(&hash[..])
            .bind(i64::from(token))
            .bind(self.now.saturating_add(life))
            .bind(&bytes[..])
            .execute(&mut self.db)
            .await?;
        Ok(Outcome::Ticket { positions })
    }

    pub(super) async fn redeem(&mut self, hash: [u8; 32]) -> Result<Outcome, Stopped> {
        let row = query("DELETE FROM tickets WHERE hash = $1 RETURNING until, boot")
            .bind(&hash[..])
            .fetch_optional(&mut self.db)
            .await?;
        match row {
            Some(row) if row.get::<i64>(0) >= self.now => Ok(Outcome::Boot(row.get(1))),
            _ => refuse("expired"),
        }
    }

    pub(super) async fn remove(&mut self, rows: &[u64]) -> Result<Outcome, Stopped> {
        let ids = serde_json::Value::from(rows).to_string();
        let delete = Sql {
            sqlite: "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each($1))",
            postgres: "DELETE FROM outbox WHERE id IN (SELECT value::BIGINT FROM json_array_elements_text($1::JSON))",
        };
        query(delete).bind(&ids).execute(&mut self.db).await?;
        Ok(Outcome::Done)
    }
}
