//! The hub over HTTP: the OpenAI API and the hub's own.
