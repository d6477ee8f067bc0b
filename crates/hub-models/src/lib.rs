//! Language, embedding and reranking models, from the files people have on disk.
//!
//! ```
//! use hub_models::{GenerateOptions, LoadOptions, Source, TextModel};
//!
//! let model = TextModel::open(Source::Guide, LoadOptions::default())?;
//! let reply = model.generate("How do I start the hub?", GenerateOptions::default().max_tokens(16))?;
//! for delta in reply.blocking() {
//!     print!("{}", delta?.text);
//! }
//! # Ok::<(), hub_models::Error>(())
//! ```
//!
//! Any folder in the Hugging Face layout and any GGUF file of a known family opens the same way:
//! `TextModel::open("models/qwen3-0.6b", LoadOptions::default())`. Requests share one thread, one copy of the weights
//! and each pass over them; a dropped [`Reply`] stops its request within a step. [`EmbeddingModel`] and [`Reranker`]
//! have the same shape; [`ModelParts`] is for programs that run the model themselves.
//!
//! Features, all off by default: `cuda` and `metal` run models on graphics cards through candle;
//! `schema` adds JSON Schemas of the types that are serialised.

mod bundle;
mod card;
pub mod chat;
mod convert;
mod embed;
mod encoder;
mod engine;
mod error;
mod family;
mod generation;
mod info;
mod judge;
mod layers;
mod limits;
mod m3;
mod modules;
mod options;
mod pair;
mod parts;
mod pending;
mod pooling;
mod preset;
mod prompt;
mod quantize;
mod render;
mod reply;
mod rerank;
pub mod sample;
mod source;
mod suspect;
mod text;

pub use card::Card;
pub use embed::{EmbeddingModel, Embeddings, Input, PreparedInputs};
pub use engine::Load;
pub use error::Error;
pub use family::{FamilyError, spec_of};
pub use info::{LeftOutTensor, ModelInfo, chat_template, inspect, inspect_for, verify};
pub use layers::LayerKind;
pub use m3::TextForms;
pub use options::{
    EmbedOptions, EmbedPrompt, EndTokens, GenerateOptions, LoadOptions, RerankOptions, SamplingOptions,
    TooLong,
};
pub use parts::ModelParts;
pub use pending::Pending;
pub use preset::Preset;
pub use prompt::{ChatPrompt, Prompt};
pub use quantize::Quantizable;
pub use reply::{Delta, FinishReason, Reply, TokenLogprob, Usage};
pub use rerank::{PreparedPairs, Ranking, Reranker, best_scores};
pub use source::Source;
pub use text::{Prepared, TextModel};
