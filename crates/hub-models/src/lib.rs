//! Language, embedding and reranking models: families, chat templates, sampling, the engine.
