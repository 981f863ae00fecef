//! A guest calls a method of the operator's back end, through the desk.

use super::commands::Wrong;
use crate::centrifuge::code::Fault;
use crate::centrifuge::message::{Error, Reply, RpcRequest, RpcResult};
use crate::centrifuge::order::Farewell;
use crate::centrifuge::rules::one_line;
use crate::gateway::asks::Pending;
use crate::gateway::session::Dialect;
use crate::gateway::shard::{Gateway, Turn};
use crate::ids::Conn;
use crate::wire::Message;

/// Codes from here on are of a Close frame.
const DISCONNECTS: u32 = 3_000;

impl Gateway {
    pub(super) fn call(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        request: &RpcRequest,
    ) -> Result<(), Wrong> {
        if !self.rules.rpc.as_ref().is_some_and(|rpc| rpc.serves(&request.method)) {
            return Err(Fault::NotAvailable.into());
        }
        let client = self.client_id(index);
        let is_json = self.sessions.of(index).dialect == Dialect::Json;
        let ask = self.open_to_desk(turn, index, |conn| Pending::Call { conn, id })?;
        let user = self.guest_user(index);
        let RpcRequest { data, method } = request;
        let call = Message::Call { ask, user, client: &client, method, data, is_json };
        turn.out.send(self.desk, &call);
        Ok(())
    }

    /// What the back end says; `None`: nobody knows.
    pub(in crate::gateway) fn called(
        &mut self,
        turn: &mut Turn<'_>,
        (conn, id): (Conn, u32),
        answer: Option<&Message<'_>>,
    ) {
        let Some(index) = self.waited(conn) else { return };
        let Some(&Message::Called { code, temporary, text, data, .. }) = answer else {
            return self.fail(turn, index, id, Fault::Internal);
        };
        if code >= DISCONNECTS {
            let farewell =
                Farewell { code: code.min(u32::from(u16::MAX)) as u16, reason: text.into() };
            return if farewell.is_fine() {
                self.hang_up(turn, index, farewell.code, &farewell.reason);
            } else {
                self.fail(turn, index, id, Fault::Internal);
            };
        }
        if code > 0 {
            let error = Error { code, message: text.into(), temporary };
            return self.answer(turn, index, Reply { id, error: Some(error), ..Reply::default() });
        }
        let is_json = self.sessions.of(index).dialect == Dialect::Json;
        let data = match one_line(data) {
            Some(line) => line,
            None if is_json && !data.is_empty() => {
                return self.fail(turn, index, id, Fault::Internal);
            }
            None => data.to_vec(),
        };
        let reply = Reply { id, rpc: Some(RpcResult { data }), ..Reply::default() };
        self.answer(turn, index, reply);
    }
}
