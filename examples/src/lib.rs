//! Programs that show the crates at work, each one screen: `cargo ex NAME`.
//!
//! | name | shows |
//! | --- | --- |
//! | `stream` | an answer printed while it is written |
//! | `chat` | a conversation |
//! | `embed_search` | search by meaning |
//! | `own_sampler` | a sampler of one's own, over the executor and without the engine |
//! | `route_table` | what the router would do |
//! | `guide_answers` | the guide model's answers to the command line's questions |
