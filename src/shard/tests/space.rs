//! Space: what nobody needs is freed, and a full disk refuses messages and nothing else.
