//! Slack's RTM dialect on the websocket. Pure.
