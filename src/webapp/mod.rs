//! The reference back end: Web API, database, tickets, source, the chat page.
